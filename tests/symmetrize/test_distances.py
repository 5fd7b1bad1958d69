"""Coordinates from distances: Z Zᵀ = B, distances, invariance, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.symmetrize import coordinates_from_distances, coordinates_from_positions
from geojax.symmetrize.distances import doubly_centered
from tests.symmetrize.clouds import cloud, rotation

X = cloud(6)
of_distances = jax.jit(coordinates_from_distances, static_argnames=("dims", "scale"))
of_positions = jax.jit(coordinates_from_positions, static_argnames="scale")


def squares(x):
    return jnp.asarray(((x[:, None] - x[None]) ** 2).sum(-1))


def test_coordinates_have_the_products_and_the_distances_of_the_points(x64):
    z = np.asarray(of_distances(squares(X), dims=4))
    centred = X - X.mean(0)
    np.testing.assert_allclose(doubly_centered(squares(X)), centred @ centred.T, atol=1e-12)
    np.testing.assert_allclose(z @ z.T, centred @ centred.T, atol=1e-12)
    np.testing.assert_allclose(squares(z), squares(X), atol=1e-10)
    np.testing.assert_allclose(z[:, 3], 0, atol=1e-12)
    assert (z.var(0)[:-1] > z.var(0)[1:]).all() and ((z**3).sum(0) >= 0).all()
    np.testing.assert_allclose(of_positions(jnp.asarray(X)), z[:, :3], atol=1e-12)


def test_motions_mirrors_and_scale_do_not_matter(x64):
    z = np.asarray(of_positions(jnp.asarray(X), scale=True))
    np.testing.assert_allclose((z**2).sum() / 6, 1)
    for matrix in (rotation(), rotation(improper=True)):
        other = X @ matrix.T * 3.7 + np.array([1.0, 2, 3])
        np.testing.assert_allclose(of_positions(jnp.asarray(other), scale=True), z, atol=1e-10)
        found = of_distances(squares(other), dims=3, scale=True)
        np.testing.assert_allclose(found, z, atol=1e-10)


def test_padding_does_not_matter(x64):
    """Whatever is in its rows, and for several clouds at once."""
    more = np.concatenate([X, [[9.0, 9, 9], [np.nan] * 3]])
    mask = jnp.asarray([True] * 6 + [False] * 2)
    z = np.asarray(of_positions(jnp.asarray(X)))
    with jax.debug_nans(False):
        found = of_positions(jnp.asarray(more), mask)
        far = of_distances(squares(more), mask)
    both = of_positions(jnp.asarray(np.stack([X, X])))
    np.testing.assert_allclose(found, np.concatenate([z, np.zeros((2, 3))]), atol=1e-12)
    np.testing.assert_allclose(far, np.concatenate([z, np.zeros((2, 3))]), atol=1e-12)
    np.testing.assert_allclose(both, np.stack([z, z]), atol=1e-12)


def test_derivatives_and_impossible_distances(x64):
    """Against finite differences; finite for coincident points; negative eigenvalues are cut."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    energy = lambda s: jnp.sum(weights * coordinates_from_distances(s))
    change = np.random.default_rng(1).normal(size=(6, 6))
    change = change + change.T - 2 * np.diag(np.diag(change))
    gradient = jax.jit(jax.grad(energy))
    slope = (np.asarray(gradient(squares(X))) * change).sum()
    ends = [
        float((weights * of_distances(squares(X) + s * 1e-6 * change, dims=3)).sum())
        for s in (1, -1)
    ]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
    assert np.isfinite(gradient(jnp.zeros((6, 6)))).all()
    assert np.isfinite(gradient(jnp.asarray(-np.ones((6, 6))))).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="dims=4 for 3 points"):
        coordinates_from_distances(jnp.zeros((3, 3)), dims=4)
