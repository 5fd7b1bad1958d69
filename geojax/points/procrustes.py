"""Rigid motions, and the one that takes points onto points: the weighted Procrustes problem.

    minimise sum_p w_p |R x_p + t - y_p|^2 over rotations R (proper) and translations t

R is the rotation nearest to the covariance sum_p w_p (y_p - y)(x_p - x)^T, with means x and y
(Kabsch), and t = y - R x.

References:
    Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976,
    https://doi.org/10.1107/S0567739476001873.
    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 1991, https://doi.org/10.1109/34.88573 (with a scale).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide
from geojax.so3.rotation_heads import nearest_rotation

__all__ = ["Pose", "compose", "fit_pose", "fit_rotation", "fit_similarity", "inverse", "move"]


class Pose(NamedTuple):
    """A rigid motion: x goes to R x + t.

    Attributes:
        rotation: R, orthogonal with determinant one.
        translation: t, in the unit of the positions.
    """

    rotation: Float[Array, "*n 3 3"]
    translation: Float[Array, "*n 3"]


def move(pose: Pose, positions: Float[Array, "*n point 3"]) -> Float[Array, "*n point 3"]:
    """R x + t for each point; the pose has the batch axes of the positions."""
    turned = jnp.einsum("...ij,...pj->...pi", pose.rotation, positions, precision="highest")
    return turned + pose.translation[..., None, :]


def compose(last: Pose, first: Pose) -> Pose:
    """The motion that moves by `first` and then by `last`."""
    rotation = jnp.einsum("...ij,...jk->...ik", last.rotation, first.rotation, precision="highest")
    return Pose(rotation, move(last, first.translation[..., None, :])[..., 0, :])


def inverse(pose: Pose) -> Pose:
    """The motion back."""
    back = jnp.einsum("...ji,...j->...i", pose.rotation, pose.translation, precision="highest")
    return Pose(pose.rotation.mT, -back)


def fit_pose(
    source: Float[Array, "*n point 3"],
    target: Float[Array, "*n point 3"],
    weights: Float[Array, "*n point"] | None = None,
    mask: Bool[Array, "*n point"] | None = None,
) -> Pose:
    """The rigid motion that takes source points nearest to target points, row by row.

    Derivatives are finite where the rotation is not determined too (points on a line, or in one
    place, or no weight at all), and the pose is one of the best there; see `nearest_rotation`.

    Args:
        source: where points come from.
        target: where each of them should go.
        weights: of the rows, not negative; their sum does not matter. Equal if not given.
        mask: which rows are real; what is in the others does not matter.

    Raises:
        ValueError: source and target have different shapes.
    """
    x, y, w = _clean(source, target, weights, mask)
    x_mean, y_mean = _mean(x, w), _mean(y, w)
    covariance = _pairs(x - x_mean[..., None, :], y - y_mean[..., None, :], w)
    return pose_through(nearest_rotation(covariance), x_mean, y_mean)


def fit_rotation(
    source: Float[Array, "*n point 3"],
    target: Float[Array, "*n point 3"],
    weights: Float[Array, "*n point"] | None = None,
    mask: Bool[Array, "*n point"] | None = None,
) -> Float[Array, "*n 3 3"]:
    """The rotation alone that takes vectors nearest to vectors; arguments as of `fit_pose`.

    For directions, normals or channels of an equivariant feature, which no translation changes.
    """
    return nearest_rotation(_pairs(*_clean(source, target, weights, mask)))


def fit_similarity(
    source: Float[Array, "*n point 3"],
    target: Float[Array, "*n point 3"],
    weights: Float[Array, "*n point"] | None = None,
    mask: Bool[Array, "*n point"] | None = None,
) -> tuple[Pose, Float[Array, "*n"]]:
    """Pose and scale s for which s R x + t is nearest to the target; arguments as of `fit_pose`.

    `move(pose, s x)` applies them. The scale is zero where the source is one point.
    """
    x, y, w = _clean(source, target, weights, mask)
    x_mean, y_mean = _mean(x, w), _mean(y, w)
    centred = x - x_mean[..., None, :]
    covariance = _pairs(centred, y - y_mean[..., None, :], w)
    rotation = nearest_rotation(covariance)
    spread = jnp.einsum("...p,...pi,...pi->...", w, centred, centred, precision="highest")
    scale = safe_divide(jnp.sum(rotation * covariance, (-2, -1)), spread)
    return pose_through(rotation, scale[..., None] * x_mean, y_mean), scale


def pose_through(rotation: Array, x: Array, y: Array) -> Pose:
    """The motion with this rotation that takes x to y."""
    return Pose(rotation, y - jnp.einsum("...ij,...j->...i", rotation, x, precision="highest"))


def _clean(
    source: Array, target: Array, weights: Array | None, mask: Array | None
) -> tuple[Array, Array, Array]:
    """Positions and weights, which are zero in rows that are not real and sum to one."""
    if source.shape != target.shape or source.shape[-1] != 3:
        raise ValueError(
            "every source point [..., point, 3] has its target point; got shapes "
            f"{source.shape} and {target.shape}"
        )
    w = jnp.ones(source.shape[:-1], source.dtype) if weights is None else weights
    if mask is not None:
        w = jnp.where(mask, w, 0)
        source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    total = jnp.sum(w, -1, keepdims=True)
    return source, target, safe_divide(w, jnp.broadcast_to(total, w.shape))


def _mean(x: Array, w: Array) -> Array:
    return jnp.einsum("...p,...pi->...i", w, x, precision="highest")


def _pairs(x: Array, y: Array, w: Array) -> Array:
    """sum_p w_p y_p x_p^T."""
    return jnp.einsum("...p,...pi,...pj->...ij", w, y, x, precision="highest")
