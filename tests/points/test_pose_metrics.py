"""Errors of poses against scipy; shares of matches, of pairs and of points against counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from geojax.points.pose_metrics import (
    correspondence_rmse,
    feature_matching_recall,
    inlier_ratio,
    overlap,
    registration_recall,
    rotation_error,
    translation_error,
)
from geojax.points.procrustes import Pose

ANGLES = np.array([0.0, 1e-7, 1, 4, 90, 180])  # degree
SHIFTS = np.array([0.0, 1e-9, 0.1, 3, 0.1, 3])


@pytest.fixture
def poses(x64):
    """Six true poses, and poses that are wrong by known angles and shifts."""
    true, axes = Rotation.random(6, rng=0), Rotation.random(6, rng=1).as_matrix()[:, 0]
    wrong = true * Rotation.from_rotvec(np.deg2rad(ANGLES)[:, None] * axes)
    place = np.random.default_rng(2).normal(size=(6, 3))
    pose = lambda r, t: Pose(jnp.asarray(r.as_matrix()), jnp.asarray(t))
    return pose(wrong, place + SHIFTS[:, None] * axes), pose(true, place)


def test_errors_of_poses(poses):
    found, true = poses
    errors = jax.jit(lambda a, b: (rotation_error(a, b), translation_error(a, b)))(found, true)
    np.testing.assert_allclose(errors[0], ANGLES, atol=1e-12)
    np.testing.assert_allclose(errors[1], SHIFTS, atol=1e-14)
    still = jax.jit(
        jax.grad(lambda a: jnp.sum(rotation_error(a, true) + translation_error(a, true)))
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(still(true)))


def test_recall_of_registration(poses):
    """The angle and the distance must both be small; a pair that is masked does not count."""
    limits = [(5.0, 2.0), (100.0, 2.0), (5.0, 5.0)]

    @jax.jit
    def recalls(mask):
        return [registration_recall(*poses, mask, angle=a, distance=d) for a, d in limits]

    np.testing.assert_allclose(recalls(jnp.ones(6, bool)), [3 / 6, 4 / 6, 4 / 6])
    np.testing.assert_allclose(recalls(jnp.arange(6) < 4), [3 / 4, 3 / 4, 4 / 4])
    np.testing.assert_array_equal(recalls(jnp.zeros(6, bool)), [0, 0, 0])


def test_inliers_and_recall_of_matches(poses):
    """Matches that are right to within noise, a third of them; 5 % are enough."""
    _, true = poses
    rng = np.random.default_rng(3)
    source = rng.normal(size=(6, 30, 3))
    rotation, translation = map(np.asarray, true)
    target = source @ rotation.transpose(0, 2, 1) + translation[:, None]
    gaps = np.where(np.arange(30) < [[0], [1], [2], [10], [30], [30]], 0.05, 5.0)
    direction = rng.normal(size=(6, 30, 3))
    target += gaps[..., None] * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    mask = np.arange(33) < np.array([30, 30, 30, 30, 30, 0])[:, None]
    pad = lambda a: np.pad(a, ((0, 0), (0, 3), (0, 0)), constant_values=np.nan)

    @jax.jit
    def measure(source, target, mask):
        ratios = inlier_ratio(true, source, target, mask, radius=0.1)
        return ratios, correspondence_rmse(true, source, target, mask)

    ratios, rmse = measure(pad(source), pad(target), jnp.asarray(mask))
    np.testing.assert_allclose(ratios, [0, 1 / 30, 2 / 30, 1 / 3, 1, 0], atol=1e-15)
    expected = np.append(np.sqrt(np.mean(gaps[:5] ** 2, -1)), 0)
    np.testing.assert_allclose(rmse, expected, atol=1e-14)
    recall = jax.jit(lambda r, m: [feature_matching_recall(r, m, threshold=t) for t in (0.05, 0.5)])
    np.testing.assert_allclose(recall(ratios, jnp.ones(6, bool)), [3 / 6, 1 / 6])
    np.testing.assert_allclose(recall(ratios, jnp.arange(6) < 5), [3 / 5, 1 / 5])


def test_overlap(poses):
    """As scipy's tree counts; two copies that are moved apart by half share half."""
    _, true = poses
    rng = np.random.default_rng(4)
    source, target = rng.uniform(size=(2, 40, 3))
    one = Pose(true.rotation[0], true.translation[0])
    rotation, translation = map(np.asarray, one)
    there = lambda x: x @ rotation.T + translation
    moved = there(target)
    distance, _ = cKDTree(moved).query(there(source))
    pad = lambda a: np.pad(a, ((0, 5), (0, 0)), constant_values=np.nan)
    mask = jnp.arange(45) < 40
    share = jax.jit(lambda *a: overlap(one, *a, radius=0.12))(pad(source), pad(moved), mask, mask)
    expected = np.mean(distance <= 0.12)
    assert 0.1 < expected < 0.9
    assert float(share) == pytest.approx(expected)
    with pytest.raises(ValueError, match="a radius is a positive length; got 0.0"):
        overlap(one, jnp.asarray(source), jnp.asarray(moved), radius=0.0)
