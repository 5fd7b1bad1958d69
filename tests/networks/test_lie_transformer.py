"""LieTransformer: the published size, its equations by hand, and the symmetry of its lift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.lie_transformer import LieTransformer
from geojax.nn import rotation_group
from geojax.nn.lie_attention import inverse_left_jacobian, rotation_vector
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
INPUTS = {"scalars": ("charges",), "elements": (0,)}
SMALL = LieTransformer(
    channels=6, layers=1, heads=2, lifts=4, kernel_width=3, vectors=("velocities",), **INPUTS
)


def cloud(n=4):
    inputs = {"velocities": RNG.normal(size=(n, 3)), "charges": RNG.choice([-1.0, 1.0], n)}
    return Structure(RNG.normal(size=(n, 3)), np.zeros(n, int), inputs=inputs)


def turned(structure, turn):
    inputs = {**structure.inputs, "velocities": structure.inputs["velocities"] @ turn.T}
    return structure.replace(positions=structure.positions @ turn.T, inputs=inputs)


def graph_of(*structures, dtype=np.float64):
    n = sum(map(len, structures))
    budget = Budget(n + 2, n * (n - 1) + 3, len(structures) + 1)
    batch = pad([sample(s, np.inf) for s in structures], budget, dtype)
    return jax.tree.map(jnp.asarray, batch.graph)


def parameters(network, graph, scale=0.7):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=scale, size=x.shape)), shapes)


def test_the_network_of_the_dynamics_has_the_published_parameters():
    """Five layers of width 160 on T(3): each has 158 024, the embedding 320 and the head 51 681."""
    network = LieTransformer(lifts=1, **INPUTS)
    params = jax.eval_shape(network.init, jax.random.key(0), graph_of(cloud(), dtype=np.float32))
    assert sum(x.size for x in jax.tree.leaves(params)) == 5 * 158_024 + 320 + 51_681


def test_one_layer_equals_the_equations(x64):
    """Written out for every pair of motions."""
    network = SMALL.clone(irreps_out="0e+1o")
    structure = cloud(3)
    graph = graph_of(structure)
    params = parameters(network, graph)
    found = jax.jit(network.apply)(params, graph).array[:3]

    p = jax.tree.map(np.asarray, params)["params"]
    w = p["attention_0"]
    dense = lambda d, x: x @ d["kernel"] + d["bias"]
    silu = lambda x: x / (1 + np.exp(-x))
    norm = lambda d, x: (x - x.mean()) / np.sqrt(x.var() + 1e-5) * d["gain"] + d["shift"]

    def location(six, head):
        d = w["scores"]["location"]
        for i in range(3):
            six = silu(six @ d[f"kernel_{i}"][head] + d[f"bias_{i}"][head])
        return six[0]

    def head(d, h):
        for i in range(3):
            h = dense(d[f"affine_{i}"], silu(h))
        return h

    q, v = structure.inputs["charges"], structure.inputs["velocities"]
    motions = [(i, turn) for i in range(3) for turn in rotation_group(4)]
    f = [dense(p["embedding"], np.array([q[i], *(turn.T @ v[i])])) for i, turn in motions]
    normed = [norm(p["norm_0_0"], h) for h in f]
    scalars, vectors = np.zeros((3, 6)), np.zeros((3, 3))
    for a, (i, turn) in enumerate(motions):
        total = np.zeros((2, 3))
        for b, (j, other) in enumerate(motions):
            omega = rotation_vector(turn.T @ other)
            shift = turn.T @ (structure.positions[j] - structure.positions[i])
            six = np.concatenate([inverse_left_jacobian(omega) @ shift, omega])
            query, key, value = (
                dense(w[name], h).reshape(2, 3)
                for name, h in (("query", normed[a]), ("key", normed[b]), ("value", normed[b]))
            )
            for n in range(2):
                score = query[n] @ key[n] / np.sqrt(3) + location(six, n)
                total[n] += score * value[n] / len(motions)
        h = f[a] + dense(w["out"], total.ravel())
        step = silu(dense(p["affine_0_0"], norm(p["norm_0_1"], h)))
        h = h + silu(dense(p["affine_0_1"], step))
        scalars[i] += h / 4
        vectors[i] += turn @ head(p["tensors"], h) / 4
    expected = np.concatenate([[head(p["scalars"], h) for h in scalars], vectors], -1)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_vectors_turn_with_the_lift(x64):
    """Inputs and outputs, under every rotation of the group."""
    network = SMALL.clone(irreps_out="1o+2e", lifts=12)
    structure = cloud()
    params = parameters(network, graph_of(structure))
    apply = jax.jit(lambda graph: network.apply(params, graph).array[:4])
    before = np.asarray(apply(graph_of(structure)))
    for turn in network.symmetries:
        after = apply(graph_of(turned(structure, turn)))[:, :3]
        np.testing.assert_allclose(after, before[:, :3] @ turn.T, atol=1e-11 * abs(before).max())


@pytest.mark.slow
def test_larger_groups_make_less_of_an_error(x64):
    """Means over eight rotations, for the parameters that it starts from."""
    structure, errors = cloud(5), []
    turns = np.asarray(random_rotation(jax.random.key(0), (8,), dtype=jnp.float64))
    for lifts in (1, 4, 12, 24):
        network = SMALL.clone(channels=16, lifts=lifts, irreps_out="1o")
        params = jax.jit(network.init)(jax.random.key(1), graph_of(structure))
        params = jax.tree.map(jnp.float64, params)
        apply = jax.jit(lambda graph, network=network, params=params: network.apply(params, graph))
        before = np.asarray(apply(graph_of(structure)).array[:5])
        after = [apply(graph_of(turned(structure, turn))).array[:5] for turn in turns]
        change = [np.abs(a - before @ turn.T).max() for a, turn in zip(after, turns, strict=True)]
        errors.append(np.mean(change) / np.abs(before).max())
    assert errors[3] < errors[2] < errors[1] < errors[0]
    assert errors[3] < 0.1


@pytest.mark.slow
def test_a_graph_readout_gives_every_node_its_graphs_value():
    network = SMALL.clone(readout="graph")
    graph = graph_of(cloud(3), cloud(4), dtype=np.float32)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    out = np.asarray(network.apply(params, graph).array)[:, 0]
    assert np.ptp(out[:3]) == 0 and np.ptp(out[3:7]) == 0 and out[0] != out[3]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"irreps_out": "1e"}, ValueError, "0e, 1o, 2e"),
        ({"lifts": 8}, ValueError, "1, 4, 12, 24, 60 rotations"),
        ({"heads": 4}, ValueError, "6 channels and 4 heads"),
        ({"combination": "add"}, KeyError, "no combination"),
        ({"normalization": "none"}, KeyError, "no normalization"),
        ({"readout": "mean"}, KeyError, "no readout"),
        ({"cutoff": 2.0}, ValueError, "average_neighbors"),
    ],
)
def test_what_it_cannot_do_is_refused(fields, error, message):
    graph = graph_of(cloud(), dtype=np.float32)
    with pytest.raises(error, match=message):
        jax.eval_shape(SMALL.clone(**fields).init, jax.random.key(0), graph)
