"""Moments: covariant, invariant as a space, exact as a pose; rank; finite derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.spatial.transform import Rotation

from geojax.points.moments import (
    has_full_rank,
    ume_distance,
    ume_distances,
    ume_moments,
    ume_pose,
    ume_spread,
)

CHANNELS, POINTS = 8, 11


@pytest.fixture
def cloud(x64):
    """Features and positions of two clouds, and how the clouds are moved."""
    rng = np.random.default_rng(0)
    features, positions = rng.uniform(size=(2, POINTS, CHANNELS)), rng.normal(size=(2, POINTS, 3))
    return features, positions, Rotation.random(2, rng=1).as_matrix(), 10 * rng.normal(size=(2, 3))


@jax.jit
def everything(features, positions, rotation, translation):
    """Moments before and after a motion, their distances, the pose, spreads and rank.

    Distances: before and after, between the clouds, the same after, and of the two halves of space.
    """
    moved = jnp.einsum("nij,npj->npi", rotation, positions) + translation[:, None, :]
    one, two = ume_moments(features, positions), ume_moments(features, moved)
    halves = jnp.stack([jnp.eye(8)[:, :4], jnp.eye(8)[:, 4:]])
    others = jnp.stack([two, one[::-1], two[::-1], halves[::-1]])
    distances = ume_distance(jnp.stack([one, one, two, halves]), others)
    spreads = jnp.stack([ume_spread(one), ume_spread(two)])
    return one, two, distances, ume_pose(one, two), spreads, has_full_rank(two)


def test_moments_of_a_moved_cloud(cloud):
    """F' = F [[1, t^T], [0, R^T]], the distance is zero, the pose is exact."""
    features, positions, rotation, translation = cloud
    one, two, distances, pose, spreads, full = everything(*cloud)
    np.testing.assert_allclose(one[..., 0], features.sum(1) / features.sum((1, 2))[:, None])
    first = np.einsum("npc,npi->nci", features, positions) / features.sum((1, 2))[:, None, None]
    np.testing.assert_allclose(one[..., 1:], first, atol=1e-15)
    motion = np.zeros((2, 4, 4))
    motion[:, 0, 0], motion[:, 0, 1:] = 1, translation
    motion[:, 1:, 1:] = rotation.transpose(0, 2, 1)
    np.testing.assert_allclose(two, one @ motion, atol=1e-12)
    np.testing.assert_allclose(distances[0], 0, atol=1e-12)
    np.testing.assert_allclose(distances[1], distances[2], atol=1e-12)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(pose.translation, translation, atol=1e-12)
    np.testing.assert_allclose(spreads[0], spreads[1], atol=1e-12)
    assert np.all(full)


def test_distance_is_that_of_the_projectors(cloud):
    one, two, distances, *_ = everything(*cloud)
    bases = [np.linalg.qr(f)[0] for f in np.asarray(one)]
    projectors = [q @ q.T for q in bases]
    expected = np.linalg.norm(projectors[0] - projectors[1]) / np.sqrt(2)
    np.testing.assert_allclose(distances[1], expected, atol=1e-14)
    angles = subspace_angles(*np.asarray(one))
    np.testing.assert_allclose(expected, np.sqrt(np.sum(np.sin(angles) ** 2)), atol=1e-12)
    # Spaces with nothing in common are two apart, the most there is.
    np.testing.assert_allclose(distances[3], 2, atol=1e-15)


def test_distances_of_all_pairs(cloud):
    """Each is that of the pair; derivatives are finite for spaces that coincide, and for none."""
    one, two, *_ = everything(*cloud)
    rows = jnp.concatenate([one, jnp.zeros_like(one[:1])])
    both = jax.jit(jax.value_and_grad(lambda x, y: jnp.sum(ume_distances(x, y))))
    found = jax.jit(ume_distances)(rows, two)
    single = jax.jit(ume_distance)
    pairs = [[single(x, y) for y in two] for x in one]
    np.testing.assert_allclose(found[:2], pairs, atol=1e-12)
    np.testing.assert_allclose(found[2], 2**0.5, atol=1e-12)  # no space, against one of rank four
    assert np.isfinite(both(rows, two)[1]).all()


def test_padding_and_order_do_not_matter(cloud):
    features, positions, *_ = cloud
    moments = jax.jit(ume_moments)
    expected = moments(features, positions)
    order = np.random.default_rng(2).permutation(POINTS)
    np.testing.assert_allclose(
        moments(features[:, order], positions[:, order]), expected, atol=1e-14
    )
    mask = np.broadcast_to(np.arange(POINTS + 2) < POINTS, (2, POINTS + 2))
    pad = lambda a: np.pad(a, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)
    found = moments(pad(features), pad(positions), jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_rank(x64):
    """A flat cloud has rank three, wherever it is; constant features have rank one."""
    rng = np.random.default_rng(3)
    features, positions = rng.uniform(size=(POINTS, CHANNELS)), rng.normal(size=(POINTS, 3))
    tilted = positions * [1, 1, 0] @ Rotation.random(rng=4).as_matrix() + 5
    first = np.stack([features, features, np.ones_like(features)])

    @jax.jit
    def checked(features, positions):
        one = ume_moments(features, positions)
        nested = jnp.concatenate([one[0, :, :3], one[0, :, :1]], -1)  # of rank three, within one[0]
        return one, has_full_rank(one), ume_distance(one[0], nested)

    one, full, distance = checked(first, np.stack([positions, tilted, positions]))
    assert [np.linalg.matrix_rank(f, tol=1e-10) for f in np.asarray(one)] == [4, 3, 1]
    np.testing.assert_array_equal(full, [True, False, False])
    assert float(distance) == pytest.approx(np.sqrt((4 - 3) / 2), abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_derivatives_are_finite(dtype):
    """The same cloud twice, a flat one, no feature at all, all points in one place."""
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(5)
        f, x = rng.uniform(size=(POINTS, CHANNELS)), rng.normal(size=(POINTS, 3))
        features = jnp.asarray([f, f, 0 * f, f], dtype)
        positions = jnp.asarray([x, x * [1, 1, 0], x, 0 * x + 1], dtype)

        def value(features, positions, others):
            one, two = ume_moments(features, positions), ume_moments(features, others)
            pose = ume_pose(one, two)
            return ume_distance(one, two) + pose.rotation.sum() + pose.translation.sum()

        gradients = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2))))(features, positions, positions)
        assert all(np.isfinite(g).all() and g.dtype == dtype for g in gradients)


def test_refuses_wrong_shapes(x64):
    with pytest.raises(ValueError, match=r"of the same points; got shapes \(2, 5\) and \(2, 2\)"):
        ume_moments.__wrapped__(jnp.ones((2, 5)), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"four channels or more; got shape \(3, 4\)"):
        has_full_rank(jnp.ones((3, 4)))
