"""How good a registration is: errors of poses, recall, inliers of matches, overlap of clouds.

Angles in degrees, lengths in the unit of the positions. Relative rotation and translation errors
(RRE, RTE) and recall as in the benchmarks 3DMatch (indoor: inlier radius 0.1 m, recall by a root
mean square below 0.2 m) and KITTI (outdoor: 5 degrees and 2 m, or stricter).

References:
    Zeng et al., "3DMatch", CVPR 2017, https://arxiv.org/abs/1603.08182.
    Choy, Park, Koltun, "Fully convolutional geometric features", ICCV 2019 (feature-matching
    recall).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_norm
from geojax.points.procrustes import Pose, move
from geojax.points.registration import find_inliers
from geojax.points.search import within
from geojax.so3.rotation_heads import geodesic_angle

__all__ = [
    "correspondence_rmse",
    "feature_matching_recall",
    "inlier_ratio",
    "overlap",
    "registration_recall",
    "rotation_error",
    "translation_error",
]


def rotation_error(pose: Pose, truth: Pose) -> Float[Array, "*n"]:
    """RRE [degree]: the angle between the rotations, accurate for small ones too."""
    return geodesic_angle(pose.rotation, truth.rotation) * (180 / np.pi)


def translation_error(pose: Pose, truth: Pose) -> Float[Array, "*n"]:
    """RTE: the distance of the translations. It depends on where the origin is."""
    return safe_norm(pose.translation - truth.translation)


def registration_recall(
    pose: Pose,
    truth: Pose,
    mask: Bool[Array, "*n pair"] | None = None,
    *,
    angle: float,
    distance: float,
) -> Float[Array, "*n"]:
    """The share of pairs of clouds (the last batch axis) whose pose is right.

    Args:
        pose: found.
        truth: the right ones.
        mask: which pairs count.
        angle: the largest rotation error [degree] of a success.
        distance: the largest translation error of a success.
    """
    right = rotation_error(pose, truth) <= angle
    return _share(right & (translation_error(pose, truth) <= distance), mask, pose.rotation.dtype)


def correspondence_rmse(
    pose: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
) -> Float[Array, "*n"]:
    """The root mean square distance of true correspondences after the source was moved."""
    mask = jnp.ones(source.shape[:-1], bool) if mask is None else mask
    source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    gap = jnp.where(mask[..., None], move(pose, source) - target, 0)
    number = jnp.sum(mask, -1, dtype=source.dtype)
    return safe_divide(safe_norm(gap.reshape(*gap.shape[:-2], -1)), jnp.sqrt(number))


def inlier_ratio(
    truth: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
) -> Float[Array, "*n"]:
    """The share of matches that the true pose brings within the radius; zero without a match."""
    good = find_inliers(truth, source, target, mask, radius=radius)
    return _share(good, mask, source.dtype)


def feature_matching_recall(
    inlier_ratios: Float[Array, "*n pair"],
    mask: Bool[Array, "*n pair"] | None = None,
    *,
    threshold: float = 0.05,
) -> Float[Array, "*n"]:
    """The share of pairs of clouds with more inliers than the threshold, enough for a RANSAC."""
    return _share(inlier_ratios > threshold, mask, inlier_ratios.dtype)


def overlap(
    pose: Pose,
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    radius: float,
) -> Float[Array, "*n"]:
    """The share of source points that have a target point within the radius after the motion."""
    if source_mask is not None:
        source = jnp.where(source_mask[..., None], source, 0)
    found = within(
        move(pose, source), target, target_mask, radius=radius, k=1, query_mask=source_mask
    )
    return _share(found.mask[..., 0], source_mask, source.dtype)


def _share(good: Array, mask: Array | None, dtype) -> Array:
    """The share of true entries on the last axis, zero where nothing counts."""
    mask = jnp.ones(good.shape, bool) if mask is None else mask
    count = lambda x: jnp.sum(x, -1, dtype=dtype)
    return safe_divide(count(good & mask), count(mask))
