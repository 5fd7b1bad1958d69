"""Invariants of orientations are invariant, and convolutions are the sums that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, edge_vectors, pad, sample
from geojax.nn import INVARIANTS, OrientationBases, OrientationConvolution, orientation_grid
from geojax.nn.orientation_convolution import (
    dense_convolution,
    fiber_convolution,
    monomials,
    spatial_convolution,
)

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape))
invariants = jax.jit(lambda kind, r, o: INVARIANTS[kind].of(r, o), static_argnums=0)


def cloud(n=5, pads=0):
    positions = RNG.normal(size=(n, 3))
    structure = Structure(positions, np.zeros(n, int))
    budget = Budget(n + 1, n * (n - 1) + pads, 2)
    batch = pad([sample(structure, np.inf)], budget, np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


@pytest.mark.parametrize("kind", INVARIANTS)
def test_nothing_turns(kind, x64):
    r, o = normal(3, 3), jnp.asarray(orientation_grid(6))
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    turn = jnp.asarray(turn * np.linalg.det(turn))
    before = np.asarray(invariants(kind, r, o))
    assert before.shape[-1] == len(INVARIANTS[kind].moments)
    np.testing.assert_allclose(invariants(kind, r @ turn.T, o @ turn.T), before, atol=1e-12)
    sign = np.ones(before.shape[-1])
    sign[-1] = -1 if kind == "complete" else 1  # the triple product tells mirror images apart
    np.testing.assert_allclose(
        invariants(kind, -r @ turn.T, -o @ turn.T), before * sign, atol=1e-12
    )


def test_complete_invariants_tell_apart_what_the_published_ones_cannot(x64):
    """o = z, r = x, and o' at any azimuth: o·r, |r - (o·r) o| and o·o' are 0, 1 and cos(polar)."""
    azimuth, polar = np.array([0.3, 1.2, -1.2]), 0.7
    ring = [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), 0 * azimuth]
    o = np.concatenate([[[0, 0, 1]], np.stack([*ring[:2], ring[2] + np.cos(polar)], -1)])
    r = np.array([[1.0, 0, 0]])
    published = invariants("separable", r, o)[0, 0]
    np.testing.assert_allclose(published, [0, 1])
    np.testing.assert_allclose((o @ o.T)[0, 1:], np.cos(polar))
    complete = np.asarray(invariants("complete", r, o))[0, 0, 1:]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(complete[i] - complete[j]).max() > 0.1


def test_monomials_have_mean_square_one(x64):
    """Over normal vectors, by Gauss-Hermite quadrature: exact for these polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    points = np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3)
    weights = np.einsum("i,j,k->ijk", weights, weights, weights).ravel() / weights.sum() ** 3
    values = np.asarray(invariants("separable", points, np.array([[0.0, 1, 0]])))[:, 0]
    moments = INVARIANTS["separable"].moments
    columns = jax.jit(lambda x: monomials(x, moments, 4))(values)
    assert columns.shape[-1] == 14
    np.testing.assert_allclose(weights @ np.asarray(columns) ** 2, 1, rtol=1e-10)
    np.testing.assert_allclose(columns[:, 0], values[:, 1] / np.sqrt(2))


def test_separable_is_dense_with_a_kernel_of_factors(x64):
    graph, c = cloud(), 3
    edges, nodes, o = len(graph.senders), 6, 4
    shapes = (edges, o, c), (o, c), (o, o, c), (nodes, o, c)
    spatial, own, fiber, x = (RNG.normal(size=shape) for shape in shapes)
    separable = lambda x, *k: fiber_convolution(spatial_convolution(x, *k[:2], graph), k[2])
    found = jax.jit(separable)(x, spatial, own, fiber)
    dense = fiber[None] * spatial[:, None], fiber * own[None]
    dense = jax.jit(lambda x, *k: dense_convolution(x, *k, graph))(x, *dense)
    np.testing.assert_allclose(found, dense, atol=1e-12)

    expected = np.zeros((nodes, o, c))
    pairs = zip(np.asarray(graph.receivers), np.asarray(graph.senders), strict=True)
    for e, (i, j) in enumerate(pairs):
        for a in range(o):
            expected[i, a] += np.mean(fiber[a] * spatial[e] * x[j], 0)
    expected += np.einsum("abc,bc,nbc->nac", fiber, own, x) / o
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["separable", pytest.param("complete", marks=pytest.mark.slow)])
def test_convolutions_keep_the_variance_at_the_start(kind, key):
    """For independent features and neighbours about one unit away, within a factor of two."""
    graph = cloud(24)
    to_sender = -edge_vectors(graph) / np.sqrt(2)
    grid = jnp.asarray(orientation_grid(12))
    x = jnp.broadcast_to(normal(25, 1, 64), (25, 12, 64))

    @jax.jit
    def convolved(key):
        bases = OrientationBases(kind, 2, (32, 64)).init_with_output(
            key, to_sender, jnp.ones(len(to_sender)), grid
        )
        return OrientationConvolution(23.0).init_with_output(key, x, bases[0], graph)[0]

    assert 0.5 < convolved(key)[:24].std() / x.std() < 2


def test_derivatives_are_finite_along_an_orientation(x64):
    """Where rounding leaves a remainder of no direction, the distance from the axis is zero."""
    o = jnp.asarray(orientation_grid(20))
    distance = lambda r: INVARIANTS["separable"].of(r[None], o)[0, 3, 1]
    along = lambda f: lambda r: jax.jvp(f, (r,), (jnp.array([0.3, -1.0, 0.2]),))[1]
    slope = jax.grad(distance)
    derivatives = jax.jit(
        lambda r: (distance(r), slope(r), along(slope)(r), along(along(slope))(r))
    )
    assert not any(np.asarray(d).any() for d in derivatives(1.37 * o[3]))
    assert all(np.asarray(d).any() for d in derivatives(1.37 * o[3] + 1e-3))


def test_unknown_invariants_get_a_suggestion():
    with pytest.raises(KeyError, match="did you mean 'complete'"):
        INVARIANTS["complet"]
