"""Moments of balls, the correlation of features, and registration by them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.points.fpfh import fpfh
from geojax.points.moments import ume_moments
from geojax.points.normals import estimate_normals
from geojax.points.procrustes import Pose
from geojax.points.search import nearest
from geojax.points.ume import ball_moments, feature_correlation, register_by_moments, split_signs

POINTS, ROOM, CHANNELS = 300, 304, 66
TURN, SHIFT = Rotation.random(rng=np.random.default_rng(3)).as_matrix(), np.array([2.0, -1.0, 0.5])


def bumpy(points: int = POINTS, seed: int = 0) -> np.ndarray:
    """Points of a surface without symmetry, about two long."""
    v = np.random.default_rng(seed).normal(size=(points, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    height = 1 + 0.3 * np.sin(4 * v[:, 0] + 1) * np.cos(3 * v[:, 1]) + 0.2 * v[:, 2] ** 2
    return v * height[:, None] * [1.2, 1.0, 0.7]


def moved(x):
    return x @ TURN.T + SHIFT


def degrees(rotation) -> float:
    """The angle between a rotation and TURN."""
    return np.degrees(Rotation.from_matrix(np.asarray(rotation) @ TURN.T).magnitude())


X = bumpy()
F = np.random.default_rng(1).uniform(size=(POINTS, CHANNELS))  # of each point, in every copy
register = partial(register_by_moments, ball=0.6, radius=0.15, balls=32, points=200)


def padded(*arrays: np.ndarray) -> np.ndarray:
    """Rows of no meaning, up to ROOM for each."""
    pad = lambda a: np.pad(a, ((0, ROOM - len(a)), (0, 0)), constant_values=np.nan)
    return np.stack([pad(a) for a in arrays])


def register_two(sources, targets, features, others):
    """Two registrations at once; everything may have any number of points."""
    masks = [jnp.asarray(np.isfinite(padded(*xs)[..., 0])) for xs in (sources, targets)]
    arrays = [padded(*a) for a in (sources, targets, features, others)]
    return register(*arrays, *masks)


def test_features_are_split_by_sign(x64):
    f = jnp.asarray([[1.0, -2.0], [0.0, 3.0]])
    np.testing.assert_array_equal(split_signs(f), [[1, 0, 0, 2], [0, 3, 0, 0]])


@pytest.mark.parametrize("chunk", [2, 64])
def test_moments_of_balls(x64, chunk):
    """Those of the points in each ball, about its centre; padding is in none."""
    centres = np.stack([X[0], X[1], X[2] + 9, X[3]])
    pad = lambda a: np.pad(a, ((0, 3), (0, 0)), constant_values=np.nan)
    found = jax.jit(partial(ball_moments, radius=0.6, chunk=chunk))(
        pad(F), pad(X), centres, jnp.arange(POINTS + 3) < POINTS, jnp.arange(4) < 3
    )
    for k in (0, 1):
        inside = np.linalg.norm(X - centres[k], axis=1) <= 0.6
        assert 5 < inside.sum() < POINTS / 2
        expected = ume_moments(jnp.asarray(F[inside]), jnp.asarray(X[inside] - centres[k]))
        np.testing.assert_allclose(found[k], expected, atol=1e-13)
    assert not np.any(found[2:])  # nothing there, and no ball


def test_derivatives_of_moments_of_balls(x64):
    """Those of differences; finite where a ball is empty and where features are zero."""
    centres = jnp.asarray(np.stack([X[0], X[2] + 9]))
    along = np.random.default_rng(2).normal(size=F.shape)
    value = lambda f: jnp.sum(jnp.sin(ball_moments(f, jnp.asarray(X), centres, radius=0.6) * 9))
    both = jax.jit(jax.value_and_grad(value))
    step = 1e-6
    slope = (both(F + step * along)[0] - both(F - step * along)[0]) / (2 * step)
    assert float(np.sum(both(F)[1] * along)) == pytest.approx(float(slope), rel=1e-6)
    assert np.isfinite(both(0 * F)[1]).all()


def test_correlation_by_hand(x64):
    f = g = np.random.default_rng(4).uniform(size=(9, 4))
    x, y = X[:9], moved(X[:9]) + 0.1
    turns, shifts = np.stack([TURN, np.eye(3), TURN]), np.stack([SHIFT, SHIFT, 0 * SHIFT])
    mean = np.concatenate([f[:8], g]).mean(0)
    a, b = (h - mean for h in (f[:8], g))
    a, b = (h / np.linalg.norm(h, axis=1, keepdims=True) for h in (a, b))
    gap = np.einsum("hij,pj->hpi", turns, x[:8]) + shifts[:, None]
    square = np.sum((gap[:, :, None] - y[None, None]) ** 2, -1)
    expected = np.sum(np.exp(-square / (2 * 0.5**2)) * (a @ b.T), (1, 2))
    for chunk in (2, 16):
        correlation = jax.jit(partial(feature_correlation, width=0.5, chunk=chunk))
        poses = Pose(jnp.asarray(turns), jnp.asarray(shifts))
        found = correlation(poses, x, y, f, g, jnp.arange(9) < 8)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert expected.argmax() == 0


def test_copies_are_registered_exactly(x64):
    """In any pose and another order, before the last step."""
    order = np.random.default_rng(5).permutation(POINTS)
    found = register(X, moved(X)[order], F, F[order], iterations=0)
    np.testing.assert_allclose(found.pose.rotation, TURN, atol=1e-10)
    np.testing.assert_allclose(found.pose.translation, SHIFT, atol=1e-10)
    assert found.inliers.all()


@pytest.mark.slow
def test_clouds_that_overlap_in_part(x64):
    """Two thirds of the points each, with noise: balls at cuts differ, and enough do not."""
    rank = (X @ [0.3, 0.8, -0.5]).argsort().argsort() / POINTS
    noise = 0.01 * np.random.default_rng(6).normal(size=X.shape)
    here, there = rank < 0.67, rank > 0.33
    clouds = X[here], moved(X + noise)[there]
    features = F[here], F[there]
    found = register_two(clouds, clouds[::-1], features, features[::-1])
    assert degrees(found.pose.rotation[0]) < 1 and degrees(found.pose.rotation[1].T) < 1
    np.testing.assert_allclose(found.pose.translation[0], SHIFT, atol=0.02)
    both = np.flatnonzero(there[here])
    assert found.inliers[0][both].all() and found.inliers[0].sum() < 0.8 * here.sum()


@pytest.mark.slow
def test_with_features_of_no_network(x64):
    """FPFH of each crop by itself, about the mean."""
    rank = (X @ [0.6, -0.2, 0.7]).argsort().argsort() / POINTS
    crops = np.stack([X[rank < 0.8], moved(X)[rank >= 0.2]])
    inside = np.stack([np.zeros(3), SHIFT])

    @jax.jit
    def described(x, inside):
        near = nearest(x, x, k=16, exclude_self=True)
        normals = estimate_normals(x, near, viewpoint=inside).normals
        return fpfh(x, normals, near)

    f = described(crops, inside)
    f = np.asarray(split_signs(f - jnp.mean(f, (0, 1), keepdims=True)))
    found = register_two(crops, crops[::-1], f, f[::-1])
    assert degrees(found.pose.rotation[0]) < 1 and degrees(found.pose.rotation[1].T) < 1
    np.testing.assert_allclose(found.pose.translation[0], SHIFT, atol=0.02)


@pytest.mark.slow
def test_moments_without_rank_have_no_part(x64):
    """A flat cloud, features that are all the same, balls of one point: nothing moves.

    And there are no inliers, although the clouds are the same.
    """
    same = np.ones_like(F)
    for x, f in (((X * [1, 1, 0], X), (F, same)), ((9 * X, X), (F, F))):
        found = register_two(x, x, f, f)
        number = 1 if f[1] is F else 2
        np.testing.assert_array_equal(found.pose.rotation[:number], [np.eye(3)] * number)
        assert not found.pose.translation[:number].any() and not found.inliers[:number].any()
    assert found.inliers[1].sum() == POINTS  # the other pair of the batch is not touched


def test_bad_numbers_are_refused(x64):
    arrays = [jnp.asarray(a) for a in (X, X, F, F)]
    with pytest.raises(ValueError, match="balls=201, tries=3, points=200"):
        register(*arrays, balls=201)
    with pytest.raises(ValueError, match=r"positive radius; got 0\.0"):
        ball_moments(arrays[2], arrays[0], arrays[0][:1], radius=0.0)
    with pytest.raises(ValueError, match=r"positive width; got -1\.0"):
        register(*arrays, width=-1.0)
