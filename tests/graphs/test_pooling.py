"""Sums, means and maxima over the nodes of each graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, centered, pad, pool, sample

RNG = np.random.default_rng(0)


def batch(sizes, dtype=np.float32):
    structures = [Structure(RNG.normal(size=(n, 3)), np.ones(n, int)) for n in sizes]
    graph = pad([sample(s, 9.0) for s in structures], Budget(8, 16, 4), dtype).graph
    return jax.tree.map(jnp.asarray, graph)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_pooling_is_over_real_nodes_of_each_graph(how):
    graph = batch((2, 3))
    x = jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32)
    pooled = pool(x, graph, how)
    by_hand = [getattr(x[:2], how)(0), getattr(x[2:5], how)(0)]
    np.testing.assert_allclose(pooled[:2], by_hand, rtol=1e-6)
    if how != "max":
        assert not np.asarray(pooled[2]).any()


def test_centered_positions_have_mean_zero(x64):
    graph = batch((2, 3), np.float64)
    graph = graph._replace(nodes={**graph.nodes, "positions": graph.nodes["positions"] + 5})
    found, x = np.asarray(centered(graph)), np.asarray(graph.nodes["positions"])
    np.testing.assert_allclose(found[:2], x[:2] - x[:2].mean(0), atol=1e-14)
    np.testing.assert_allclose(found[2:5], x[2:5] - x[2:5].mean(0), atol=1e-14)


def test_an_unknown_kind_of_pooling_is_refused():
    with pytest.raises(ValueError, match="sum, mean, max, dipole; got 'median'"):
        pool(jnp.zeros((8, 1)), batch((2, 3)), "median")


def test_a_dipole_is_that_of_neutral_molecules_wherever_they_stand(x64):
    graph = batch((2, 3), np.float64)
    x = jnp.asarray(RNG.normal(size=(8, 4)))
    found = np.asarray(pool(x, graph, "dipole"))
    for rows, own in [(slice(0, 2), found[0]), (slice(2, 5), found[1])]:
        q, d = np.asarray(x[rows, 0]), np.asarray(x[rows, 1:])
        r = np.asarray(graph.nodes["positions"])[rows]
        np.testing.assert_allclose(own, (q - q.mean()) @ r + d.sum(0), atol=1e-13)
    moved = graph._replace(nodes={**graph.nodes, "positions": graph.nodes["positions"] + 100.0})
    np.testing.assert_allclose(pool(x, moved, "dipole"), found, atol=1e-12)
    charges = pool(x[:, :1], graph, "dipole")
    both = pool(x.at[:, 1:].set(0), graph, "dipole")
    np.testing.assert_allclose(charges, both, atol=1e-14)
