"""Every node has one place in the row of its graph, with and without places given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import (
    Budget,
    Structure,
    by_graph,
    local_index,
    members,
    of_members,
    pad,
    sample,
    slot_nodes,
    store,
    take,
)

SIZES = (2, 3)


def batch(places: int | None = None):
    """Of two and three nodes, an empty graph, and three nodes of padding."""
    rng = np.random.default_rng(0)
    made = [Structure(rng.normal(size=(n, 3)), np.ones(n, int)) for n in SIZES]
    samples = [sample(s, 9.0, members=places) for s in made]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(8, 16, 4), np.float32)).graph


def test_every_slot_stands_for_a_node_of_the_own_graph():
    graph = batch()
    assert local_index(graph).tolist() == [0, 1, 0, 1, 2, 0, 1, 2]
    node, real = jax.jit(lambda g: slot_nodes(g, 4))(graph)
    assert real.sum(1).tolist() == [2, 2, 3, 3, 3, 0, 0, 0]
    assert node[1, :2].tolist() == [0, 1] and node[4, :3].tolist() == [2, 3, 4]
    assert not np.asarray(node)[~np.asarray(real)].any()


@pytest.mark.parametrize("places", [None, 3, 5])
def test_nodes_go_to_the_row_of_their_graph_and_back(places):
    graph = batch(places)
    rows, real = jax.jit(by_graph)(graph.nodes["positions"], graph)
    assert rows.shape == (4, places or 8, 3)
    assert real.sum(1).tolist() == [2, 3, 0, 0]
    np.testing.assert_array_equal(rows[1, :3], graph.nodes["positions"][2:5])
    assert not np.asarray(rows)[~np.asarray(real)].any()
    back = jax.jit(of_members)(rows, graph)
    np.testing.assert_array_equal(back[:5], graph.nodes["positions"][:5])
    assert not back[5:].any()
    np.testing.assert_array_equal(members(graph)[0][0, :2], [0, 1])


def test_places_go_through_a_store():
    rng = np.random.default_rng(1)
    made = [Structure(rng.normal(size=(n, 3)), np.ones(n, int)) for n in SIZES]
    held = store([sample(s, 0.0, members=4) for s in made])
    graph = take(held, np.array([1, -1, 0], np.int32), Budget(7, 1, 4), np).graph
    assert graph.globals["members"].sum(1).tolist() == [3, 0, 2, 0]
    assert len(graph.senders) == 1  # no edge but padding


def test_a_graph_with_more_nodes_than_places_is_refused():
    with pytest.raises(ValueError, match="got 5 and 4 members"):
        sample(Structure(np.eye(5, 3), np.ones(5, int)), 1.0, members=4)
