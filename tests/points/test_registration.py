"""Registration: the pose from one correspondence, from many with outliers, from closest points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.points.procrustes import Pose, compose, fit_pose, inverse, move
from geojax.points.registration import (
    feature_residuals,
    find_inliers,
    poses_from_features,
    ransac,
    refine,
    register_by_features,
    select_pose,
)

MATCHES, CHANNELS = 40, 4


def a_pose(seed: int, angle: float | None = None, shift: float = 3.0) -> Pose:
    """A random motion, or one by an angle [degree] about a random axis."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=seed)
    if angle is not None:
        turn = Rotation.from_rotvec(np.deg2rad(angle) * turn.as_matrix()[0])
    return Pose(jnp.asarray(turn.as_matrix()), jnp.asarray(shift * rng.normal(size=3)))


def assert_same(one, two, atol=1e-12):
    jax.tree.map(partial(np.testing.assert_allclose, atol=atol), tuple(one), tuple(two))


poses = jax.jit(poses_from_features)


@jax.jit
def moved(pose: Pose, positions: jax.Array) -> jax.Array:
    return move(pose, positions)


class Scene:
    """Correspondences of which a share is right, with the equivariant features of their points."""

    def __init__(self, right: float, seed: int = 0, noise: float = 0.0, n: int = MATCHES):
        rng = np.random.default_rng(seed)
        self.pose = a_pose(seed)
        self.source, self.features = rng.normal(size=(n, 3)), rng.normal(size=(n, CHANNELS, 3))
        rotation, translation = map(np.asarray, self.pose)
        self.target = self.source @ rotation.T + translation + noise * rng.normal(size=(n, 3))
        self.turned = self.features @ rotation.T
        self.right = np.arange(n) < right * n
        wrong = ~self.right[:, None]
        self.target = np.where(wrong, 10 * rng.normal(size=(n, 3)), self.target)
        self.turned = np.where(wrong[:, None], rng.normal(size=self.features.shape), self.turned)

    def everything(self, fill: int = 0) -> list:
        """The four arrays with rows of no meaning, and the mask."""
        fields = (self.features, self.turned, self.source, self.target)
        pad = lambda a: np.pad(a, [(0, fill)] + [(0, 0)] * (a.ndim - 1), constant_values=np.nan)
        n = len(self.source)
        return [*map(pad, fields), jnp.arange(n + fill) < n]


@jax.jit
def by_features(features, turned, source, target, mask):
    return register_by_features(features, turned, source, target, None, mask, radius=0.1)


def test_a_single_clean_correspondence_gives_the_pose(x64):
    """Exactly, from each of them, on rotated copies; two vectors of a feature are enough."""
    scene = Scene(right=1)
    arrays = scene.features, scene.turned, scene.source, scene.target
    found = [poses(*arrays), poses(arrays[0][:, :2], arrays[1][:, :2], *arrays[2:])]
    repeated = [np.broadcast_to(a, (MATCHES, *a.shape)) for a in scene.pose]
    for one in found:
        assert_same(one, repeated)
    residuals = jax.jit(feature_residuals)
    np.testing.assert_allclose(residuals(scene.pose.rotation, *arrays[:2]), 0, atol=1e-14)
    expected = np.linalg.norm((scene.features - scene.turned).reshape(MATCHES, -1), axis=-1)
    np.testing.assert_allclose(residuals(jnp.eye(3), *arrays[:2]), expected, atol=1e-14)


def test_registration_by_features(x64):
    """One right correspondence in ten is enough; padding with NaN changes nothing."""
    scene = Scene(right=0.1)
    plain, padded = by_features(*scene.everything()), by_features(*scene.everything(fill=7))
    for found in (plain, padded):
        assert_same(found.pose, scene.pose)
        np.testing.assert_array_equal(found.inliers[:MATCHES], scene.right)
    assert not np.any(padded.inliers[MATCHES:])


def test_registration_moves_with_the_clouds(x64):
    """Both clouds moved: the pose is composed with the motions, the inliers stay."""
    features, turned, source, target, mask = Scene(right=0.5, noise=0.01).everything()
    one, two = a_pose(5), a_pose(6)
    rotate = lambda pose, f: f @ np.asarray(pose.rotation).T
    again = by_features(
        rotate(one, features), rotate(two, turned), moved(one, source), moved(two, target), mask
    )
    plain = by_features(features, turned, source, target, mask)
    assert_same(again.pose, compose(two, compose(plain.pose, inverse(one))), 1e-10)
    np.testing.assert_array_equal(again.inliers, plain.inliers)
    order = np.random.default_rng(7).permutation(MATCHES)
    mixed = by_features(features[order], turned[order], source[order], target[order], mask)
    assert_same(mixed.pose, plain.pose, 1e-10)


def test_selection_takes_most_inliers(x64):
    """As counted one by one, over several chunks and a batch; a masked hypothesis never wins."""
    scenes = [Scene(0.5, seed, noise=0.02) for seed in (1, 2)]
    stack = lambda name: np.stack([getattr(scene, name) for scene in scenes])
    source, target = stack("source"), stack("target")
    tried = poses(stack("features"), stack("turned"), source, target)
    select = jax.jit(partial(select_pose, radius=0.05, chunk=7))
    counts = np.zeros((2, MATCHES), int)
    for i in range(2):
        for h in range(MATCHES):
            rotation, translation = (a[i, h] for a in map(np.asarray, tried))
            gap = source[i] @ rotation.T + translation - target[i]
            counts[i, h] = np.sum(np.linalg.norm(gap, axis=-1) <= 0.05)
    found = select(tried, source, target)
    np.testing.assert_array_equal(found.inliers.sum(-1), counts.max(-1))
    best = counts.argmax(-1)
    assert_same(found.pose, [np.asarray(a)[np.arange(2), best] for a in tried], 0)
    others = np.arange(MATCHES)[None] != best[:, None]
    second = select(tried, source, target, pose_mask=others)
    expected = np.where(others, counts, -1).max(-1)
    np.testing.assert_array_equal(second.inliers.sum(-1), expected)


def test_refinement_is_the_best_pose_of_the_inliers(x64):
    scene = Scene(right=0.7, noise=0.01)
    near = scene.pose._replace(translation=scene.pose.translation + 0.02)
    weights = np.random.default_rng(9).uniform(size=MATCHES)
    refined = jax.jit(partial(refine, radius=0.3))
    found = refined(near, scene.source, scene.target, weights)
    np.testing.assert_array_equal(found.inliers, scene.right)
    right = scene.right
    best = jax.jit(fit_pose)(scene.source, scene.target, weights, right)
    assert_same(found.pose, best)
    far = a_pose(10, shift=100.0)  # without an inlier it stays
    stayed = refined(far, scene.source, scene.target, weights)
    assert_same(stayed.pose, far, 0)


def test_ransac(x64, key):
    """The pose among 60 % outliers, the same for the same key, in a batch, and padded."""
    scenes = [Scene(right=0.4, seed=seed) for seed in (3, 4)]
    arrays = [np.stack([s.everything(5)[i] for s in scenes]) for i in (2, 3, 4)]
    found = ransac(key, *arrays, radius=0.1, hypotheses=256)
    for i, scene in enumerate(scenes):
        assert_same([a[i] for a in found.pose], scene.pose)
        np.testing.assert_array_equal(found.inliers[i, :MATCHES], scene.right)
        assert not np.any(found.inliers[i, MATCHES:])
    again = ransac(key, *arrays, radius=0.1, hypotheses=256)
    assert_same(again.pose, found.pose, 0)


def test_ransac_of_many_draws(x64, key):
    """Where 7 % are right, few hypotheses find the pose if they have the most similar sides."""
    scene = Scene(right=0.07, n=200)
    arrays = scene.everything(5)[2:]
    found = ransac(key, *arrays, radius=0.1, hypotheses=32, draws=20000)
    assert_same(found.pose, scene.pose)
    np.testing.assert_array_equal(found.inliers[:200], scene.right)
    missed = ransac(key, *arrays, radius=0.1, hypotheses=32)
    assert np.sum(missed.inliers) < 10


def test_ransac_of_few_correspondences(x64, key):
    """Three give the pose; fewer give some pose, and their inliers say that it means nothing."""
    scene = Scene(right=1)
    source, target = (np.stack([a] * 2) for a in scene.everything(5)[2:4])
    for few in ([0, 1], [2, 3]):
        real = np.arange(MATCHES + 5) < np.array(few)[:, None]
        found = ransac(key, source, target, real, radius=0.1, hypotheses=256)
        assert np.isfinite(found.pose.rotation).all()
        assert np.all(np.sum(found.inliers, -1) <= np.array(few))
    assert_same([a[1] for a in found.pose], scene.pose)


def test_derivatives_are_finite(x64):
    """Through selection and refinement, with outliers, padding, and features that are all zero."""
    features, turned, source, target, mask = Scene(right=0.5).everything(fill=2)

    def value(features, turned, source, target):
        found = register_by_features(features, turned, source, target, None, mask, radius=0.1)
        return jnp.sum(found.pose.rotation) + jnp.sum(found.pose.translation)

    gradient = jax.jit(jax.grad(value, (0, 1, 2, 3)))
    arrays = [jnp.asarray(np.nan_to_num(a)) for a in (features, turned, source, target)]
    for scale in (1.0, 0.0):
        found = gradient(scale * arrays[0], arrays[1], *arrays[2:])
        assert all(np.isfinite(g).all() for g in found)
    assert np.any(gradient(*arrays)[3])


def test_refuses_bad_numbers(x64, key):
    x, pose = jnp.ones((4, 3)), Pose(jnp.eye(3), jnp.zeros(3))
    with pytest.raises(ValueError, match="a radius is a positive length; got 0.0"):
        find_inliers(pose, x, x, radius=0.0)
    with pytest.raises(
        ValueError, match="one hypothesis or more is tried of draws; got hypotheses=0"
    ):
        ransac(key, x, x, radius=1.0, hypotheses=0)
    with pytest.raises(ValueError, match="got hypotheses=9, draws=8"):
        ransac(key, x, x, radius=1.0, hypotheses=9, draws=8)
