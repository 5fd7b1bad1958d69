"""Universal manifold embedding: moments of invariant features that turn a pose into a linear map.

    F = [sum_p f_p | sum_p f_p x_p^T] / sum_pc f_pc,  a matrix [channel, 4]

for features f >= 0 of the points. If the cloud moves, x' = R x + t, and the features stay,
F' = F [[1, t^T], [0, R^T]] exactly. So the space of the columns is invariant, which gives a
distance of two clouds that knows no pose, and the pose follows from two F in closed form.

The network of the paper only learns invariance (its convolutions are on a grid). Features that are
invariant by construction make all of this exact.

References:
    Haitman, Efraim, Francos, "UMERegRobust: universal manifold embedding compatible features for
    robust point cloud registration", ECCV 2024, https://arxiv.org/abs/2408.12380.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_norm, unit
from geojax.points.procrustes import Pose, fit_rotation

__all__ = [
    "has_full_rank",
    "ume_distance",
    "ume_distances",
    "ume_moments",
    "ume_pose",
    "ume_spread",
]


def ume_moments(
    features: Float[Array, "*n point channel"],
    positions: Float[Array, "*n point 3"],
    mask: Bool[Array, "*n point"] | None = None,
) -> Float[Array, "*n channel 4"]:
    """The moments F of a cloud, of order zero (column 0) and one (columns 1 to 3).

    Args:
        features: invariant and not negative.
        positions: of the points, from an origin near them: rounding is that of |x|, not of the
            extent of the cloud.
        mask: which points are real.

    Raises:
        ValueError: features and positions are not of the same points.
    """
    if features.shape[:-1] != positions.shape[:-1] or positions.shape[-1] != 3:
        raise ValueError(
            "features [..., point, channel] and positions [..., point, 3] are of the same points; "
            f"got shapes {features.shape} and {positions.shape}"
        )
    if mask is not None:
        features, positions = (jnp.where(mask[..., None], a, 0) for a in (features, positions))
    x = jnp.concatenate([jnp.ones_like(positions[..., :1]), positions], -1)
    moments = jnp.einsum("...pc,...pi->...ci", features, x, precision="highest")
    total = jnp.sum(features, (-2, -1))[..., None, None]
    return safe_divide(moments, jnp.broadcast_to(total, moments.shape))


def ume_distance(
    one: Float[Array, "*n channel 4"], two: Float[Array, "*n channel 4"]
) -> Float[Array, "*n"]:
    """|P_1 - P_2| / sqrt(2) with the projectors P on the columns: 0 to 2 for rank four.

    It is the root of the sum of sin^2 of the angles between the spaces, computed from what each
    basis leaves outside of the other space, so that it is accurate for spaces that coincide too.
    Derivatives are zero there.
    """
    bases = _basis(jnp.stack([one, two]))
    outside = _reject(bases, bases[::-1])
    return safe_norm(jnp.moveaxis(outside, 0, -1).reshape(*one.shape[:-2], -1)) / 2**0.5


def ume_distances(
    one: Float[Array, "*n row channel 4"], two: Float[Array, "*n column channel 4"]
) -> Float[Array, "*n row column"]:
    """`ume_distance` of all pairs; each basis is made once, row x column x channel x 8 are held."""
    left, right = _basis(one)[..., :, None, :, :], _basis(two)[..., None, :, :, :]
    outside = jnp.concatenate([_reject(left, right), _reject(right, left)], -1)
    return safe_norm(outside.reshape(*outside.shape[:-2], -1)) / 2**0.5


def ume_pose(source: Float[Array, "*n channel 4"], target: Float[Array, "*n channel 4"]) -> Pose:
    """The pose that takes the cloud of one F onto that of the other; exact without noise.

    With m the zeroth moments of the source: what remains of the first moments without their part
    along m does not know the translation, and Kabsch's rotation takes the one onto the other.
    """
    m = source[..., 0]
    x, y = (_without(m, moments[..., 1:]) for moments in (source, target))
    rotation = fit_rotation(x, y)
    along = lambda moments: jnp.einsum("...c,...ci->...i", m, moments[..., 1:], precision="highest")
    moved = jnp.einsum("...ij,...j->...i", rotation, along(source), precision="highest")
    square = jnp.broadcast_to(jnp.sum(m * m, -1, keepdims=True), moved.shape)
    return Pose(rotation, safe_divide(along(target) - moved, square))


def ume_spread(moments: Float[Array, "*n channel 4"]) -> Float[Array, "*n 3"]:
    """The singular values of the first moments without their part along the zeroth.

    Falling, in the unit of the positions. No pose changes them; the singular values of F itself
    depend on where the origin is.
    """
    rest = _without(moments[..., 0], moments[..., 1:])
    return jnp.linalg.svd(rest, compute_uv=False)


def has_full_rank(
    moments: Float[Array, "*n channel 4"], *, tolerance: float = 1e-5
) -> Bool[Array, "*n"]:
    """Whether F has rank four: the pose is then determined, and the distance means something.

    Args:
        moments: F; it needs four channels or more.
        tolerance: the smallest of `ume_spread` is more than this, in the unit of the positions.

    Raises:
        ValueError: fewer than four channels.
    """
    if moments.shape[-2] < 4:
        raise ValueError(f"four columns need four channels or more; got shape {moments.shape}")
    return (ume_spread(moments)[..., -1] > tolerance) & jnp.any(moments[..., 0] != 0, -1)


def _without(m: Array, columns: Array) -> Array:
    """The columns minus their parts along m."""
    direction = unit(m)
    part = jnp.einsum("...c,...ci->...i", direction, columns, precision="highest")
    return columns - direction[..., None] * part[..., None, :]


def _basis(moments: Array) -> Array:
    """Orthonormal columns with the same span; zero where a column adds nothing to those before.

    Gram-Schmidt, each column twice. A QR factorisation has no finite derivative at lower rank.
    """
    least = 64 * float(jnp.finfo(moments.dtype).eps)
    columns = unit(jnp.swapaxes(moments, -1, -2))
    basis = columns[..., :1, :].mT
    for i in range(1, moments.shape[-1]):
        column = columns[..., i, :, None]
        for _ in range(2):
            column = _reject(basis, column)
            new = jnp.sum(column * column, -2, keepdims=True) > least**2
            column = unit(jnp.where(new, column, 0)[..., 0])[..., None]
        basis = jnp.concatenate([basis, column], -1)
    return basis


def _reject(basis: Array, columns: Array) -> Array:
    """The columns without what is in the span of the basis."""
    part = jnp.einsum("...ci,...cj->...ij", basis, columns, precision="highest")
    return columns - jnp.einsum("...ci,...ij->...cj", basis, part, precision="highest")
