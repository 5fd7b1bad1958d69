"""Masks and owners of a padded batch, and edge vectors with their sign and their lattice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import (
    Budget,
    Graph,
    Structure,
    edge_vectors,
    graph_mask,
    graph_of_edges,
    graph_of_nodes,
    node_mask,
    pad,
    sample,
    volumes,
)
from geojax.graphs.graph import n_edges, n_graphs, n_nodes

RNG = np.random.default_rng(0)
CELL = np.array([[4.0, 0.3, 0], [-1.0, 5, 0.2], [0.5, 0, 6]])


def crystal(n=3, seed=0) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(rng.uniform(size=(n, 3)) @ CELL, np.full(n, 14), CELL, (True, True, True))


def molecule(n=2) -> Structure:
    return Structure(np.eye(3)[:n], np.full(n, 6))


def graph_of(*structures, budget=None, cutoff=3.5, **options) -> Graph:
    samples = [sample(s, cutoff, **options) for s in structures]
    nodes, edges = (sum(int(n) for n in c) for c in zip(*map(sizes, samples), strict=True))
    budget = budget or Budget(nodes + 3, edges + 5, len(samples) + 2)
    return jax.tree.map(jnp.asarray, pad(samples, budget, np.float64).graph)


def sizes(s):
    return s.graph.n_node[0], s.graph.n_edge[0]


def test_sizes_owners_and_masks_count_the_padding(x64):
    graph = graph_of(crystal(3), molecule(2))
    a, b, *rest = (int(n) for n in graph.n_edge)
    assert (n_nodes(graph), n_edges(graph), n_graphs(graph)) == (8, a + b + 5, 4)
    assert graph.n_node.tolist() == [3, 2, 0, 3] and rest == [0, 5] and b == 2
    np.testing.assert_array_equal(graph_of_nodes(graph), [0, 0, 0, 1, 1, 3, 3, 3])
    np.testing.assert_array_equal(graph_of_edges(graph), [0] * a + [1] * b + [3] * 5)
    np.testing.assert_array_equal(node_mask(graph), [True] * 5 + [False] * 3)
    np.testing.assert_array_equal(graph_mask(graph), [True, True, False, False])


def test_edges_stay_in_their_graph_and_are_sorted_by_receiver(x64):
    graph = graph_of(crystal(3), molecule(3), crystal(2, seed=1))
    owner, of_edge = graph_of_nodes(graph), graph_of_edges(graph)
    np.testing.assert_array_equal(owner[graph.senders], of_edge)
    np.testing.assert_array_equal(owner[graph.receivers], of_edge)
    assert (np.diff(graph.receivers) >= 0).all()


@pytest.mark.parametrize("slots", [None, 60])
def test_vectors_run_from_sender_to_receiver(slots, x64):
    """By hand, from the positions of the structure before it is wrapped and centred."""
    structures = [crystal(3), molecule(3), crystal(2, seed=1)]
    more = {} if slots is None else {"slots": slots, "budget": Budget(10, 600, 5)}
    graph = graph_of(*structures, **more)
    real = np.asarray(graph.edges.get("mask", graph_of_edges(graph) < 3))
    found = np.asarray(edge_vectors(graph))
    first = 0
    for number, s in enumerate(structures):
        cell = np.zeros((3, 3)) if s.cell is None else s.cell
        for e in np.flatnonzero(real & (np.asarray(graph_of_edges(graph)) == number)):
            i, j = int(graph.receivers[e]) - first, int(graph.senders[e]) - first
            r = found[e]
            assert 0 < np.linalg.norm(r) <= 3.5
            if s.cell is None:
                np.testing.assert_allclose(r, s.positions[i] - s.positions[j], atol=1e-12)
            else:
                shift = np.linalg.solve(cell.T, r - (s.positions[i] - s.positions[j]))
                np.testing.assert_allclose(shift, np.round(shift), atol=1e-10)
        first += len(s)
    assert not found[~real].any()  # padding edges have length zero


def test_one_graph_takes_the_same_vectors_as_many(x64):
    one, many = graph_of(crystal(), budget=Budget(5, 90, 2)), graph_of(crystal(), molecule())
    count = int(one.n_edge[0])
    assert int(many.n_edge[0]) == count
    # The single graph has a shortcut of its own for the cell
    np.testing.assert_allclose(edge_vectors(one)[:count], edge_vectors(many)[:count], atol=1e-13)


def test_vectors_follow_a_strain_of_positions_and_cell(x64):
    graph = graph_of(crystal(), molecule())
    strain = jnp.eye(3) + 0.1 * jnp.asarray(RNG.normal(size=(3, 3)))
    strained = graph._replace(
        nodes={**graph.nodes, "positions": graph.nodes["positions"] @ strain},
        globals={**graph.globals, "cell": graph.globals["cell"] @ strain},
    )
    np.testing.assert_allclose(edge_vectors(strained), edge_vectors(graph) @ strain, atol=1e-12)


def test_vectors_have_the_dtype_of_the_positions(x64):
    graph = graph_of(crystal(), molecule())
    single = graph.nodes["positions"].astype(jnp.float32)
    assert edge_vectors(graph).dtype == jnp.float64
    moved = graph._replace(nodes={**graph.nodes, "positions": single})
    assert edge_vectors(moved).dtype == jnp.float32


def test_volumes_are_positive_and_zero_without_a_lattice(x64):
    mirrored = crystal().replace(cell=CELL[[1, 0, 2]])
    found = volumes(graph_of(crystal(), molecule(), mirrored))
    volume = abs(np.linalg.det(CELL))
    np.testing.assert_allclose(found, [volume, 0, volume, 0, 0], rtol=1e-12)


def test_everything_works_inside_a_program(x64):
    graph = graph_of(crystal(), molecule())
    inside = jax.jit(
        lambda g: (
            graph_of_nodes(g),
            graph_of_edges(g),
            node_mask(g),
            graph_mask(g),
            edge_vectors(g),
            volumes(g),
        )
    )(graph)
    outside = [f(graph) for f in (graph_of_nodes, graph_of_edges, node_mask, graph_mask)]
    outside += [edge_vectors(graph), volumes(graph)]
    for a, b in zip(inside, outside, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
