"""What is turned into frames and back, and how means over them are taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import centered, graph_of_nodes, pool
from geojax.symmetrize import Frames, PCAFrames, into_frame, symmetrize, turn_irreps
from tests.symmetrize.clouds import IRREPS, cloud, graph_of, mlp, rotation

VELOCITY = np.random.default_rng(5).normal(size=(5, 3))


def equivariant(graph):
    """0e, 0o, 1o and 1e of each node, from its place, its velocity and the whole."""
    x, v = centered(graph), graph.nodes["velocity"]
    cross = jnp.cross(x, v)
    whole = pool(jnp.sum(x * x, -1, keepdims=True), graph, "mean")[graph_of_nodes(graph)]
    other = pool(v * whole, graph, "mean")[graph_of_nodes(graph)]
    volume = jnp.sum(cross * other, -1, keepdims=True)
    return jnp.concatenate([jnp.tanh(whole), volume, x + v, cross], -1)


def test_an_equivariant_function_stays_as_it_is(x64):
    """Of scalars, vectors and their pseudo forms, with vector inputs, in improper frames too."""

    @jax.jit
    def both(graph):
        frames = PCAFrames()(graph)
        irreps = "0e+0o+1o+1e"
        return equivariant(graph), symmetrize(
            equivariant, graph, frames, irreps, vectors=("velocity",)
        )

    expected, found = map(np.asarray, both(graph_of(cloud(), velocity=VELOCITY)))
    np.testing.assert_allclose(found[:5], expected[:5], atol=1e-12)
    assert np.abs(expected[:5]).max(0).min() > 1e-2


def test_outputs_turn_by_their_irreps(x64):
    """Pseudo-scalars and pseudo-vectors change sign in a mirror."""
    values = np.random.default_rng(0).normal(size=(2, 13))
    turn = jax.jit(lambda v, m: turn_irreps(v, m, "0o+2x1e+1o+0e+0e+0o"))
    for improper in (False, True):
        matrix, sign = rotation(improper=improper), -1 if improper else 1
        found = turn(jnp.asarray(values), jnp.asarray(np.stack([matrix, matrix])))
        columns = [values[:, :1] * sign, values[:, 1:4] @ matrix.T * sign]
        columns += [values[:, 4:7] @ matrix.T * sign, values[:, 7:10] @ matrix.T]
        columns += [values[:, 10:12], values[:, 12:] * sign]
        np.testing.assert_allclose(found, np.concatenate(columns, -1), atol=1e-14)


def test_points_and_displacements_outputs_of_graphs_and_chunks(x64):
    """The place of each node comes out as a point; a graph's vector; and chunks change nothing."""
    place = lambda g: g.nodes["positions"]
    mean = lambda g: pool(mlp(g), g, "mean")

    @jax.jit
    def run(graph):
        frames = PCAFrames()(graph)
        nodes = symmetrize(mlp, graph, frames, IRREPS)
        return (
            symmetrize(place, graph, frames, "1o", points=True),
            symmetrize(place, graph, frames, "1o"),
            centered(graph),
            symmetrize(mean, graph, frames, IRREPS, per="graph"),
            pool(nodes, graph, "mean"),
            symmetrize(mlp, graph, frames, IRREPS, chunk=3),
            nodes,
        )

    graph = graph_of(cloud(), cloud(4, seed=1))
    points, vectors, centred, of_graphs, means, chunks, nodes = run(graph)
    np.testing.assert_allclose(points[:9], graph.nodes["positions"][:9], atol=1e-13)
    np.testing.assert_allclose(vectors[:9], centred[:9], atol=1e-13)
    np.testing.assert_allclose(of_graphs, means, atol=1e-13)
    np.testing.assert_allclose(chunks, nodes, atol=1e-13)


def test_the_cell_turns_with_the_positions(x64):
    graph = graph_of(cloud())
    cell = np.random.default_rng(0).normal(size=(4, 3, 3))
    graph = graph._replace(globals={"cell": jnp.asarray(cell)})
    matrix = np.stack([rotation(k) for k in range(4)])
    inside = into_frame(graph, jnp.asarray(matrix), jnp.zeros((4, 3)))
    np.testing.assert_allclose(inside.globals["cell"], cell @ matrix, atol=1e-14)
    x = np.asarray(graph.nodes["positions"])[:5]
    np.testing.assert_allclose(inside.nodes["positions"][:5], x @ matrix[0], atol=1e-14)


def test_every_vector_of_an_input_turns(x64):
    history = np.random.default_rng(0).normal(size=(5, 4, 3))
    graph = graph_of(cloud(), history=history)
    matrix = np.stack([rotation(k) for k in range(4)])
    inside = into_frame(graph, jnp.asarray(matrix), jnp.zeros((4, 3)), vectors=("history",))
    np.testing.assert_allclose(inside.nodes["history"][:5], history @ matrix[0], atol=1e-14)


def test_bad_input_is_refused():
    graph = graph_of(cloud(), dtype=np.float32)
    frames = Frames(jnp.ones((4, 1, 3, 3)), jnp.zeros((4, 3)), jnp.ones((4, 1)))
    run = lambda irreps, **options: jax.eval_shape(
        lambda graph: symmetrize(mlp, graph, frames, irreps, **options), graph
    )
    with pytest.raises(ValueError, match=r"irreps '1o' have shape \[row, 3\]; got \(12, 5\)"):
        run("1o")
    with pytest.raises(ValueError, match="per 'node' or per 'graph'; got per='edge'"):
        run(IRREPS, per="edge")
    with pytest.raises(KeyError, match="no node input 'spin'"):
        run(IRREPS, vectors=("spin",))
