"""The pose that takes one cloud onto another: hypotheses, selection, refinement.

Correspondences are rows: `source[..., i, :]` belongs to `target[..., i, :]` where the mask is true
(see `matching`). Which of them are inliers is a constant for autodiff; poses are differentiable in
the points and the weights.

References:
    Yao et al., "PARE-Net: position-aware rotation-equivariant networks for robust point cloud
    registration", ECCV 2024, https://arxiv.org/abs/2407.10142 (a pose from each correspondence).
    Fischler, Bolles, "Random sample consensus", 1981, https://doi.org/10.1145/358669.358692.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from geojax.arrays import safe_divide, safe_norm
from geojax.points.procrustes import Pose, fit_pose, fit_rotation, move, pose_through
from geojax.points.search import in_chunks

__all__ = [
    "Registration",
    "better",
    "feature_residuals",
    "find_inliers",
    "poses_from_features",
    "positive",
    "ransac",
    "refine",
    "register_by_features",
    "select_pose",
]


class Registration(NamedTuple):
    """A pose and what speaks for it.

    Attributes:
        pose: takes the source onto the target.
        inliers: which correspondences (for closest points: which source points) it brings within
            the radius of their target. Fewer than three determine no pose.
    """

    pose: Pose
    inliers: Bool[Array, "*n match"]


def poses_from_features(
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
) -> Pose:
    """A pose from each correspondence alone: Kabsch's rotation of its equivariant features.

    Where the features of two copies of a cloud are equivariant, one correct correspondence gives
    the pose exactly, if its vectors span a plane or more.

    Returns:
        Poses `[*n match]`; each takes its source point onto its target point.
    """
    return pose_through(fit_rotation(source_features, target_features), source, target)


def feature_residuals(
    rotation: Float[Array, "*n 3 3"],
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
) -> Float[Array, "*n match"]:
    """|R f_source - f_target| over all channels: what the contrastive rotation loss compares."""
    turned = jnp.einsum("...ij,...mcj->...mci", rotation, source_features, precision="highest")
    difference = turned - target_features
    return safe_norm(difference.reshape(*difference.shape[:-2], -1))


def find_inliers(
    pose: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
) -> Bool[Array, "*n match"]:
    """Which source points the pose brings within the radius of their target points."""
    if mask is not None:
        source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    square = jnp.sum(jnp.square(move(pose, source) - target), -1)
    close = jax.lax.stop_gradient(square) <= positive(radius) ** 2
    return close if mask is None else close & mask


def select_pose(
    poses: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    pose_mask: Bool[Array, "*n hypothesis"] | None = None,
    chunk: int = 256,
) -> Registration:
    """The pose with the most inliers, the first of equally good ones.

    Args:
        poses: hypotheses `[*n hypothesis]`.
        source: points of the correspondences.
        target: points of the correspondences.
        mask: which correspondences are real.
        radius: of inliers, in the unit of the positions.
        pose_mask: which hypotheses are real; at least one.
        chunk: hypotheses tried at once; chunk x match distances are held.
    """
    mask = jnp.ones(source.shape[:-1], bool) if mask is None else mask
    if pose_mask is None:
        pose_mask = jnp.ones(poses.translation.shape[:-1], bool)

    def best(rotation: Array, translation: Array, real: Array, *points: Array) -> tuple:
        source, target, mask = points

        def count(rotation: Array, translation: Array) -> Array:
            # Coordinate by coordinate, so that loops run along the points
            square = jnp.zeros((rotation.shape[0], source.shape[0]), source.dtype)
            for i in range(3):
                gap = translation[:, i, None] - target[None, :, i]
                for j in range(3):
                    gap += rotation[:, i, j, None] * source[None, :, j]
                square += jnp.square(gap)
            return jnp.sum((square <= radius**2) & mask[None], -1, dtype=jnp.int32)

        constants = jax.lax.stop_gradient((rotation, translation))
        source, target = jax.lax.stop_gradient((source, target))
        source, target = (jnp.where(mask[:, None], x, 0) for x in (source, target))
        counts = in_chunks(count, *constants, chunk=chunk)
        row = jnp.argmax(jnp.where(real, counts, -1))
        return rotation[row], translation[row]

    best = jnp.vectorize(best, signature="(h,d,d),(h,d),(h),(m,d),(m,d),(m)->(d,d),(d)")
    pose = Pose(*best(*poses, pose_mask, source, target, mask))
    return Registration(pose, find_inliers(pose, source, target, mask, radius=radius))


def refine(
    start: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    weights: Float[Array, "*n match"] | None = None,
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    iterations: int = 5,
) -> Registration:
    """The weighted Procrustes pose of the inliers of the last pose, some times over.

    A pose with fewer than three inliers stays.
    """
    weights = jnp.ones(source.shape[:-1], source.dtype) if weights is None else weights
    inliers = partial(find_inliers, source=source, target=target, mask=mask, radius=radius)

    def step(pose: Pose, _):
        good = inliers(pose)
        return better(pose, fit_pose(source, target, weights, good), good, 3), None

    pose, _ = jax.lax.scan(step, start, length=iterations)
    return Registration(pose, inliers(pose))


def register_by_features(
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    weights: Float[Array, "*n match"] | None = None,
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    iterations: int = 5,
) -> Registration:
    """One hypothesis from each correspondence, the one with the most inliers, refined.

    Args:
        source_features: equivariant features of the source points, as vectors.
        target_features: those of the target points.
        source: points of the correspondences.
        target: points of the correspondences.
        weights: of the correspondences in the refinement, for instance their scores.
        mask: which correspondences are real.
        radius: of inliers, in the unit of the positions.
        iterations: of the refinement.
    """
    if mask is not None:
        features = (source_features, target_features)
        source_features, target_features = (
            jnp.where(mask[..., None, None], f, 0) for f in features
        )
        source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    poses = poses_from_features(source_features, target_features, source, target)
    first = select_pose(poses, source, target, mask, radius=radius, pose_mask=mask)
    return refine(first.pose, source, target, weights, mask, radius=radius, iterations=iterations)


@partial(jax.jit, static_argnames=("radius", "hypotheses", "draws", "iterations", "chunk"))
def ransac(
    key: Key[Array, ""],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    hypotheses: int = 4096,
    draws: int | None = None,
    iterations: int = 5,
    chunk: int = 256,
) -> Registration:
    """The pose through three random correspondences that has the most inliers, refined.

    With a share p of correct correspondences a hypothesis is correct with a chance of p^3, so that
    3 / p^3 of them find one in 19 of 20 cases. A motion keeps lengths: of more `draws` those are
    tried whose triangles have the most similar sides, which costs little where p is small.

    Args:
        key: of the draws; the same key gives the same pose.
        source: points of the correspondences.
        target: points of the correspondences.
        mask: which correspondences are real; with fewer than three, no pose is determined.
        radius: of inliers, in the unit of the positions.
        hypotheses: how many are tried, a static number.
        draws: how many triples are drawn, a static number; as many as are tried if not given.
        iterations: of the refinement.
        chunk: as of `select_pose`.

    Raises:
        ValueError: no hypothesis, or fewer draws than hypotheses.
    """
    draws = hypotheses if draws is None else draws
    if not 1 <= hypotheses <= draws:
        raise ValueError(f"one hypothesis or more is tried of draws; got {hypotheses=}, {draws=}")
    real = jnp.ones(source.shape[:-1], bool) if mask is None else mask
    source, target = (jnp.where(real[..., None], x, 0) for x in (source, target))
    rows = _triples(key, real, draws)
    flat = rows.reshape(*rows.shape[:-2], -1)
    picked = lambda x: jnp.take_along_axis(x, flat[..., None], -2).reshape(*rows.shape, 3)
    triples = picked(source), picked(target)
    if draws > hypotheses:
        a, b = (jax.lax.stop_gradient(safe_norm(x - jnp.roll(x, 1, -2))) for x in triples)
        worst = jnp.max(safe_divide(jnp.abs(a - b), a + b), -1)
        kept = jax.lax.top_k(-worst, hypotheses)[1][..., None, None]
        triples = (jnp.take_along_axis(x, kept, -3) for x in triples)
    poses = fit_pose(*triples)
    first = select_pose(poses, source, target, mask, radius=radius, chunk=chunk)
    return refine(first.pose, source, target, None, mask, radius=radius, iterations=iterations)


def _triples(key: Array, mask: Array, count: int) -> Array:
    """Rows `[*n, count, 3]` of three different real entries each, if there are as many."""
    number = jnp.sum(mask, -1)[..., None]
    chance = jax.random.uniform(key, (3, *mask.shape[:-1], count))
    first, second, third = (
        jnp.floor(chance[i] * jnp.maximum(number - i, 1)).astype(jnp.int32) for i in range(3)
    )
    # Drawn of what remains, then moved past those that were taken, the smaller one first.
    second = second + (second >= first)
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    third = third + (third >= low)
    third = third + (third >= high)
    draws = jnp.minimum(jnp.stack([first, second, third], -1), mask.shape[-1] - 1)
    order = jnp.argsort(~mask, axis=-1)[..., None]  # stable: the real entries in their order
    flat = draws.reshape(*draws.shape[:-2], -1, 1)
    return jnp.take_along_axis(order, flat, -2).reshape(draws.shape)


def better(old: Pose, new: Pose, inliers: Array, least: int) -> Pose:
    """The new pose if it has so many inliers to be made of, else the old one."""
    enough = jnp.sum(inliers, -1) >= least
    choose = lambda a, b: jnp.where(
        enough.reshape(*enough.shape, *[1] * (a.ndim - enough.ndim)), a, b
    )
    return jax.tree.map(choose, new, old)


def positive(radius: float) -> float:
    if not radius > 0:
        raise ValueError(f"a radius is a positive length; got {radius}")
    return radius
