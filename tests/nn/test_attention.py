"""Attention over edges: against a softmax by hand, where nobody arrives, and at the cutoff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample, to_receivers
from geojax.nn.attention import edge_softmax

CUTOFF = 2.0


def graph_of(slots=None) -> Graph:
    """A chain of three atoms and one that is alone."""
    positions = np.array([[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0], [9.0, 0, 0]])
    one = sample(Structure(positions, np.full(4, 6)), CUTOFF, slots=slots)
    return jax.tree.map(jnp.asarray, pad([one], Budget(6, 8 if slots is None else 12, 2)).graph)


@pytest.mark.parametrize("slots", [None, 2])
def test_weights_are_a_softmax_at_each_receiver(slots, key):
    graph = graph_of(slots)
    logits = 50 * jax.random.normal(key, (graph.senders.shape[0], 3))
    found = np.asarray(edge_softmax(logits, graph))
    edges = np.asarray(graph.edges.get("mask", np.arange(len(logits)) < 4))
    for node in range(3):
        own = edges & (np.asarray(graph.receivers) == node)
        exact = np.exp(np.asarray(logits, np.float64)[own])
        np.testing.assert_allclose(found[own], exact / exact.sum(0), rtol=1e-5, atol=1e-30)
    assert np.isfinite(found).all()
    total = to_receivers(jnp.asarray(found), graph)[:4]
    np.testing.assert_allclose(total, [[1] * 3] * 3 + [[0] * 3], rtol=1e-6)


def test_with_an_envelope_nothing_jumps_when_a_neighbour_leaves(key, x64):
    """Also when it is the last one; and the weights do not depend on a shift of the logits."""
    graph = graph_of()
    logits = jax.random.normal(key, (8, 1), jnp.float64)
    weights = lambda u, shift=0.0: edge_softmax(logits + shift, graph, jnp.asarray(u))[:4, 0]
    ones = np.ones(8)
    np.testing.assert_allclose(weights(ones), edge_softmax(logits, graph)[:4, 0], rtol=1e-15)
    np.testing.assert_allclose(weights(0.3 * ones, 700.0), weights(0.3 * ones), rtol=1e-12)
    nearly, gone = ones.copy(), ones.copy()
    nearly[:2], gone[:2] = 1e-9, 0.0
    np.testing.assert_allclose(weights(nearly), weights(gone), atol=1e-8)
    assert weights(gone)[0] == weights(gone)[1] == 0


def test_derivatives_are_finite_where_nobody_arrives(key):
    graph = graph_of()
    u = jnp.zeros(8)
    for function in (
        lambda logits: edge_softmax(logits, graph).sum(),
        lambda logits: edge_softmax(logits, graph, u).sum(),
    ):
        gradient = jax.grad(function)(jax.random.normal(key, (8, 2)))
        assert np.isfinite(gradient).all()


def test_derivatives_are_right_where_all_neighbors_are_just_within_the_cutoff(key):
    """Envelopes of 1e-21 in float32, as (1 - r / cutoff)^3 is within one rounding of the cutoff."""
    graph = graph_of()
    logits, size, ways = (jax.random.normal(k, (8, 2)) for k in jax.random.split(key, 3))
    shares = (1 + jnp.abs(size[:, 0])).at[0].set(0)

    def size_of(u, dtype=jnp.float32):
        found = edge_softmax(logits.astype(dtype), graph, u)[:4] / 1e-21
        return jnp.sum(ways[:4] * found)

    slope = jax.grad(lambda v: size_of(1e-21 * v))
    curve = jax.grad(lambda v: jnp.sum(slope(v)[:4] * ways[:4, 0]))
    found = slope(shares)[:4], curve(shares)[:4]
    with jax.enable_x64(True):
        wide = shares.astype(jnp.float64)
        slope = jax.grad(lambda v: size_of(1e-21 * v, jnp.float64))
        curve = jax.grad(lambda v: jnp.sum(slope(v)[:4] * ways[:4, 0]))
        exact = slope(wide)[:4], curve(wide)[:4]
    for mine, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5)
