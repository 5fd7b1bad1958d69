"""Neighbours in feature space against loops, in a batch with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn import nearest_nodes, neighbor_max, neighbor_mean

RNG = np.random.default_rng(0)
SIZES, ROWS = (7, 3, 6), 20
X = RNG.normal(size=(ROWS, 5))
K = 4


def batch(members=None):
    clouds = [Structure(RNG.normal(size=(n, 3)), np.zeros(n, int)) for n in SIZES]
    samples = [sample(s, 0.0, members=members) for s in clouds]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(ROWS, 1, 4), np.dtype("float64")).graph)


def by_hand(x) -> list[np.ndarray]:
    """The neighbours of each real node, nearest first."""
    found, start = [], 0
    for n in SIZES:
        rows = np.arange(start, start + n)
        for i in rows:
            distance = np.linalg.norm(x[rows] - x[i], axis=1)
            found.append(rows[np.argsort(distance, kind="stable")][:K])
        start += n
    return found


@pytest.mark.parametrize("members", [None, 8])
def test_neighbours_are_the_nearest_of_the_own_graph(members, x64):
    near = nearest_nodes(jnp.asarray(X), batch(members), K)
    expected = by_hand(X)
    for i in range(ROWS):
        wanted = expected[i] if i < sum(SIZES) else np.zeros(0, int)
        count = len(wanted)
        np.testing.assert_array_equal(near.index[i, :count], wanted)
        np.testing.assert_array_equal(near.index[i, count:], i)
        np.testing.assert_array_equal(near.mask[i], np.arange(K) < count)
    assert near.mask[7:10].sum() == 9, "a graph of three nodes has empty slots"


def test_maxima_and_their_derivatives_are_those_of_a_loop(x64):
    graph = batch()
    values = jnp.asarray(RNG.normal(size=(ROWS, 6)))
    values = values.at[2].set(values[1])  # equal values: the derivative goes to one of them
    near = nearest_nodes(jnp.asarray(X), graph, K)
    pull = RNG.normal(size=(ROWS, 6))
    total = lambda v: jnp.sum(neighbor_max(v, near) * pull)
    found, gradient = jax.jit(lambda v: (neighbor_max(v, near), jax.grad(total)(v)))(values)
    expected, slope = np.array(values), np.zeros((ROWS, 6))
    slope[sum(SIZES) :] = pull[sum(SIZES) :]
    for i, rows in enumerate(by_hand(X)):
        first = rows[np.argmax(np.asarray(values)[rows], axis=0)]
        expected[i] = np.asarray(values)[first, np.arange(6)]
        slope[first, np.arange(6)] += pull[i]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(gradient, slope, atol=1e-14)


def test_means_and_their_derivatives_are_those_of_a_loop(x64):
    graph = batch()
    values, own = (jnp.asarray(RNG.normal(size=(ROWS, 2, 3))) for _ in range(2))
    near = nearest_nodes(jnp.asarray(X), graph, K)

    def found(values, own):
        return neighbor_mean(lambda v: jnp.sin(v + own) * v, values, near)

    def plain(values, own):
        rows = [jnp.sin(values[r] + own[i][None]) * values[r] for i, r in enumerate(by_hand(X))]
        means = [row.mean(0) for row in rows]
        return jnp.stack(means + [jnp.zeros((2, 3))] * (ROWS - len(means)))

    np.testing.assert_allclose(found(values, own), plain(values, own), atol=1e-14)
    slopes = [jax.grad(lambda *a, f=f: jnp.sum(f(*a) ** 2), (0, 1)) for f in (found, plain)]
    for a, b in zip(slopes[0](values, own), slopes[1](values, own), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)
