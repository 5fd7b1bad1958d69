"""Parts become graphs: their nodes, their edges, and what a network says of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import (
    Budget,
    Structure,
    graph_of_edges,
    graph_of_nodes,
    pad,
    part_mask,
    part_sizes,
    sample,
    split_parts,
)
from geojax.networks import EGNN

RNG = np.random.default_rng(0)


def pieces(*sizes: int) -> Structure:
    """Parts at one place, so that only their number keeps them apart."""
    part = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    return Structure(
        RNG.normal(size=(len(part), 3)), np.zeros(len(part), int), inputs={"part": part}
    )


FIRST, SECOND = pieces(5, 4), pieces(3, 6, 2)


def batch(dtype=np.float64, **options):
    samples = [sample(s, 9.0, **options) for s in (FIRST, SECOND)]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(24, 130, 4), dtype)).graph


@pytest.mark.parametrize("nearest", [None, 2])
def test_edges_join_nodes_of_one_part(nearest):
    graph = sample(SECOND, 9.0, nearest=nearest).graph
    part = SECOND.inputs["part"]
    assert (part[graph.senders] == part[graph.receivers]).all()
    per_node = np.bincount(graph.receivers)
    expected = np.repeat([2, 5, 1], [3, 6, 2])
    np.testing.assert_array_equal(
        per_node, expected if nearest is None else np.minimum(expected, 2)
    )
    assert (np.diff(graph.receivers) >= 0).all()


def test_sizes_and_masks():
    graph = batch()
    sizes = jax.jit(part_sizes, static_argnums=1)(graph, 3)
    assert sizes.tolist() == [[5, 4, 0], [3, 6, 2], [0, 0, 0], [0, 0, 4]]
    assert part_mask(graph, 3).tolist() == [[True, True, False], [True] * 3, [False] * 3] + [
        [False] * 3
    ]


def test_every_part_is_a_graph_with_its_nodes_and_edges():
    graph = batch()
    parts = jax.jit(split_parts, static_argnums=1)(graph, 3)
    assert parts.n_node.tolist() == [5, 4, 0, 3, 6, 2, 0, 0, 0, 0, 0, 4]
    assert parts.n_edge.tolist()[:6] == [20, 12, 0, 6, 30, 2]
    assert int(parts.n_edge.sum()) == len(graph.senders)
    real = int(graph.n_edge[:-1].sum())
    owner, of_edge = graph_of_nodes(parts), graph_of_edges(parts)
    np.testing.assert_array_equal(owner[graph.receivers[:real]], of_edge[:real])
    np.testing.assert_array_equal(owner[graph.senders[:real]], of_edge[:real])
    assert parts.globals["cell"].shape == (12, 3, 3)


@pytest.mark.slow
def test_a_network_on_the_parts_is_the_network_on_each_alone(x64):
    network = EGNN(cutoff=9.0, channels=4, layers=2, average_neighbors=3.0, readout="graph")
    graph = split_parts(batch(), 3)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    found = jax.jit(network.apply)(params, graph).array
    for rows, structure, part in [(slice(5, 9), FIRST, 1), (slice(12, 18), SECOND, 1)]:
        chosen = structure.inputs["part"] == part
        alone = Structure(structure.positions[chosen], structure.species[chosen])
        one = pad([sample(alone, 9.0)], Budget(9, 40, 2), np.float64).graph
        one = jax.tree.map(jnp.asarray, one)
        expected = jax.jit(network.apply)(params, one).array[: chosen.sum()]
        np.testing.assert_allclose(found[rows], expected, atol=1e-12)


@pytest.mark.parametrize("part", [[1.0, 0.0], [0.0, 0.5], [-1.0, 0.0], [[0.0], [1.0]]])
def test_other_numbers_are_refused(part):
    cloud = Structure(np.eye(2, 3), np.zeros(2, int), inputs={"part": np.array(part)})
    with pytest.raises(ValueError, match="numbers the parts of a structure from 0"):
        sample(cloud, 2.0)


def test_a_graph_without_parts_is_refused():
    cloud = Structure(np.eye(2, 3), np.zeros(2, int))
    graph = jax.tree.map(jnp.asarray, pad([sample(cloud, 2.0)], Budget(3, 2, 2)).graph)
    with pytest.raises(KeyError, match="told by the node input 'part'"):
        split_parts(graph, 2)
