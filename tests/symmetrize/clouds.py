"""Small clouds as graphs without edges, and a function of them that has no symmetry."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import Budget, Structure, graph_of_nodes, pad, pool, sample

IRREPS = "2x0e+1o"
ROWS = Budget(12, 8, 4)
METHANE = np.array([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.629
LINE = np.array([[-1.5, 0, 0], [-0.3, 0, 0], [0.8, 0, 0], [1.7, 0, 0]])
RNG = np.random.default_rng(0)
IN, SHIFT, HIDDEN, OUT = (RNG.normal(size=s) for s in [(3, 8), (1, 8), (8, 8), (16, 5)])


def cloud(n=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) * np.array([1.5, 1.0, 0.7])


def graph_of(*positions, budget=ROWS, dtype=np.float64, **inputs):
    """The inputs are one array for all nodes, cut into structures."""
    starts = np.cumsum([0, *map(len, positions)])
    samples = [
        sample(
            Structure(
                x,
                np.zeros(len(x), int),
                inputs={k: v[start : start + len(x)] for k, v in inputs.items()},
            ),
            1e-3,
        )
        for x, start in zip(positions, starts, strict=False)
    ]
    graph = pad(samples, budget, np.dtype(dtype)).graph
    # `sample` moves the centre to the origin; a constant shows that nothing relies on it.
    graph = moved(graph, graph.nodes["positions"] + np.array([0.3, -0.2, 0.5], dtype))
    return jax.tree.map(jnp.asarray, graph)


def moved(graph, positions):
    return graph._replace(nodes={**graph.nodes, "positions": positions})


def mlp(graph):
    """Outputs of nodes, from its own position and the mean over the graph; no symmetry at all."""
    weights = [jnp.asarray(w, graph.nodes["positions"].dtype) for w in (IN, SHIFT, HIDDEN, OUT)]
    h = jnp.tanh(graph.nodes["positions"] @ weights[0] + weights[1])
    whole = pool(jnp.tanh(h @ weights[2]), graph, "mean")[graph_of_nodes(graph)]
    return jnp.concatenate([h, whole], -1) @ weights[3]


def turned(values, matrix):
    """Two scalars and a vector, after a rotation."""
    return np.concatenate([values[:, :2], values[:, 2:] @ matrix.T], -1)


def rotation(seed=3, *, improper=False):
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * np.linalg.det(matrix) * (-1 if improper else 1)
