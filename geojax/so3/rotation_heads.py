"""Rotation matrices from the numbers that a network puts out, and back; angles between rotations.

No four numbers or fewer describe all rotations continuously: quaternions, rotation vectors and
Euler angles jump somewhere, which networks cannot learn. Five, six and nine can be continuous.
Every function here gives a rotation for every input: where the numbers leave it open (all zero,
two parallel columns) it is a fixed one. Derivatives are finite everywhere.

References:
    Zhou, Barnes, Lu, Yang, Li, "On the continuity of rotation representations in neural networks",
    CVPR 2019, https://arxiv.org/abs/1812.07035 (6D, 5D).
    Levinson et al., "An analysis of SVD for deep rotation estimation", NeurIPS 2020,
    https://arxiv.org/abs/2006.14616 (special orthogonal Procrustes, SVDO+).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.registry import Registry

__all__ = [
    "ROTATION_HEADS",
    "RotationHead",
    "from_5d",
    "from_6d",
    "from_9d",
    "from_axis_angle",
    "from_euler",
    "from_quaternion",
    "geodesic_angle",
    "nearest_rotation",
    "to_5d",
    "to_6d",
    "to_9d",
    "to_axis_angle",
    "to_euler",
    "to_quaternion",
]

# What the three numbers of 5D are divided by so that none of the five is beyond one.
_STRETCH = (math.sqrt(2) + 1, math.sqrt(2) + 1, math.sqrt(2))


class RotationHead(NamedTuple):
    """How a network's last numbers become a rotation, and which numbers a rotation has.

    Attributes:
        numbers: how many there are.
        decode: `[..., numbers]` to rotation matrices `[..., 3, 3]`.
        encode: the way back, which `decode` undoes.
    """

    numbers: int
    decode: Callable[[Array], Array]
    encode: Callable[[Array], Array]


def nearest_rotation(matrix: Float[Array, "*n 3 3"]) -> Float[Array, "*n 3 3"]:
    """The rotation R with the largest tr(R^T M), the nearest to M: SVDO+, Kabsch's algorithm.

    R = U diag(1, 1, det(U V^T)) V^T for M = U S V^T, so that Q1 M Q2 gives Q1 R Q2 for rotations
    Q1, Q2. The derivative is exact also where singular values coincide, since it divides by sums:

        R^T dR = [w]x,  (tr(P) - P) w = vee(R^T dM - dM^T R),  P = R^T M

    where tr(P) - P has the eigenvalues s_i + s_j; s_3 counts as negative where det(M) < 0. If the
    smallest sum vanishes, R itself is not determined: the determinant of tr(P) - P is not taken
    for smaller than 16 eps |M|^3 (eps that of the dtype), so derivatives are at most of size
    1 / (16 eps |M|). All higher derivatives are those of this rule. M = 0 gives the identity.

    Raises:
        ValueError: these are no 3x3 matrices.
    """
    _check_matrix(matrix)
    # R does not depend on the size of M, whose products then neither overflow nor underflow.
    scaled = unit(matrix.reshape(*matrix.shape[:-2], 9)).reshape(matrix.shape)
    zero = jnp.all(scaled == 0, (-2, -1), keepdims=True)
    return _nearest(jnp.where(zero, _like(scaled, np.eye(3)), scaled))


@jax.custom_jvp
def _nearest(matrix: Array) -> Array:
    wide = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    left, _, right = jnp.linalg.svd(wide)
    sign = jnp.where(_det(left) * _det(right) < 0, -1, 1).astype(wide.dtype)
    right = jnp.concatenate([right[..., :2, :], sign[..., None, None] * right[..., 2:, :]], -2)
    return _times(left, right).astype(matrix.dtype)


@_nearest.defjvp
def _by_sums(primals: tuple, tangents: tuple):
    (matrix,), (change,) = primals, tangents
    rotation = _nearest(matrix)
    stretch = _times(rotation.mT, matrix)
    stretch = (stretch + stretch.mT) / 2
    trace = jnp.trace(stretch, axis1=-2, axis2=-1)[..., None, None]
    sums = trace * _like(matrix, np.eye(3)) - stretch
    adjugate = jnp.stack([_cross(sums[..., i - 2, :], sums[..., i - 1, :]) for i in range(3)], -2)
    det = jnp.sum(sums[..., 0, :] * adjugate[..., 0, :], -1)
    limit = 16 * float(jnp.finfo(matrix.dtype).eps)
    turn = _apply(adjugate, _vee(_times(rotation.mT, change))) / jnp.maximum(det, limit)[..., None]
    return rotation, _times(rotation, _skew(turn))


def from_9d(x: Float[Array, "*n 9"]) -> Float[Array, "*n 3 3"]:
    """The rotation nearest to the matrix with these entries, row by row (`nearest_rotation`)."""
    _check_numbers(x, 9, "a 3x3 matrix")
    return nearest_rotation(x.reshape(*x.shape[:-1], 3, 3))


def to_9d(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 9"]:
    """The nine entries, row by row."""
    _check_matrix(rotation)
    return rotation.reshape(*rotation.shape[:-2], 9)


def from_6d(x: Float[Array, "*n 6"]) -> Float[Array, "*n 3 3"]:
    """The first two columns up to Gram-Schmidt: x = a/|a|, z along x cross b, y = z cross x.

    G a, G b give G R for every rotation G; the lengths of a and b do not matter.
    """
    _check_numbers(x, 6, "two columns")
    return _frame(x[..., :3], x[..., 3:])


def to_6d(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 6"]:
    """The first and the second column."""
    _check_matrix(rotation)
    return jnp.concatenate([rotation[..., 0], rotation[..., 1]], -1)


def from_5d(x: Float[Array, "*n 5"]) -> Float[Array, "*n 3 3"]:
    """Two entries of the first column, and a stereographic projection of the other with y.

    With t = (x_2, x_3, x_4) k and u = ((|t|^2 - 1) / (|t|^2 + 1), 2 t / (|t|^2 + 1)), the unit
    4-vector that t projects: the columns are those of `from_6d` for (x_0, x_1, u_0 / |u_1:|) and
    u_1:. Both are multiplied here by what makes them polynomials.
    """
    _check_numbers(x, 5, "a 5D rotation")
    t = x[..., 2:] * _like(x[..., 2:], _STRETCH)
    square = jnp.sum(t * t, -1, keepdims=True)
    first = jnp.concatenate([2 * safe_norm(t)[..., None] * x[..., :2], square - 1], -1)
    return _frame(first, t)


def to_5d(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 5"]:
    """Five numbers, none beyond one, without a singularity."""
    _check_matrix(rotation)
    x, y = rotation[..., 0], rotation[..., 1]
    w = jnp.concatenate([x[..., 2:], y], -1)
    w = w / jnp.sqrt(jnp.sum(w * w, -1, keepdims=True))  # |w|^2 = 1 + x_3^2, so 1 - w_0 > 0.29
    s = w[..., 1:] / (1 - w[..., :1]) / _like(y, _STRETCH)
    return jnp.concatenate([x[..., :2], s], -1)


def from_quaternion(x: Float[Array, "*n 4"]) -> Float[Array, "*n 3 3"]:
    """From a quaternion (w, x, y, z) of any length, real part first; zero is the identity."""
    _check_numbers(x, 4, "a quaternion")
    q = unit(x)
    zero = jnp.all(q == 0, -1, keepdims=True)
    return of_unit_quaternion(jnp.where(zero, _like(q, (1, 0, 0, 0)), q))


def to_quaternion(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 4"]:
    """The unit quaternion (w, x, y, z) with w >= 0; of a half turn, one of the two.

    4 q q^T is linear in R. Its row with the largest diagonal entry is q but for its length.
    """
    _check_matrix(rotation)
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = jnp.moveaxis(_vee(r), -1, 0)
    xy, xz, yz = (r[..., i, j] + r[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    table = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 + yy - xx - zz, yz],
        [wz, xz, yz, 1 + zz - xx - yy],
    ]
    rows = jnp.stack([jnp.stack(row, -1) for row in table], -2)
    best = jnp.argmax(jnp.diagonal(rows, axis1=-2, axis2=-1), -1)[..., None, None]
    q = unit(
        jnp.take_along_axis(rows, jnp.broadcast_to(best, (*r.shape[:-2], 1, 4)), -2)[..., 0, :]
    )
    return jnp.where(q[..., :1] < 0, -q, q)


def from_axis_angle(x: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
    """From a rotation vector, the axis times the angle [rad]; smooth at zero, to any order."""
    _check_numbers(x, 3, "a rotation vector")
    cos, sinc = _cos_and_sinc(jnp.sum(x * x, -1, keepdims=True) / 4)
    return of_unit_quaternion(jnp.concatenate([cos, sinc * x / 2], -1))


def to_axis_angle(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 3"]:
    """The rotation vector, axis times angle [rad], no longer than pi; at pi one of the two."""
    q = to_quaternion(rotation)
    w, axis = q[..., :1], q[..., 1:]
    square = jnp.sum(axis * axis, -1, keepdims=True)
    # 2 atan(r) / r with r = |axis| / w, by its series in r^2 where that is small
    small = square < 0.01 * w * w
    divisor = jnp.where(small, w, 1)
    series = _polynomial(-square / divisor**2, [1 / (2 * k + 1) for k in range(9)]) / divisor
    sine = jnp.sqrt(jnp.where(small, 1, square))
    return 2 * jnp.where(small, series, jnp.arctan2(sine, w) / sine) * axis


def from_euler(x: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
    """R_x(a) R_z(b) R_y(c) from (a, b, c) [rad]: intrinsic turns about x, z', y''."""
    _check_numbers(x, 3, "Euler angles")
    (ca, cb, cc), (sa, sb, sc) = jnp.moveaxis(jnp.cos(x), -1, 0), jnp.moveaxis(jnp.sin(x), -1, 0)
    rows = [
        [cb * cc, -sb, cb * sc],
        [ca * sb * cc + sa * sc, ca * cb, ca * sb * sc - sa * cc],
        [sa * sb * cc - ca * sc, sa * cb, sa * sb * sc + ca * cc],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def to_euler(rotation: Float[Array, "*n 3 3"]) -> Float[Array, "*n 3"]:
    """The angles (a, b, c) of `from_euler`, b within +-pi/2.

    At b = +-pi/2 only a +- c is determined. c is measured after R_x(a) was undone, so that the
    angles fit the rotation there too, whatever rounding made of a.
    """
    _check_matrix(rotation)
    r = rotation
    second = jnp.stack([r[..., 1, 1], r[..., 2, 1]], -1)
    a = _angle(second[..., 1], second[..., 0])
    b = _angle(-r[..., 0, 1], safe_norm(second))
    cos, sin = jnp.cos(a), jnp.sin(a)
    c = _angle(sin * r[..., 1, 0] - cos * r[..., 2, 0], cos * r[..., 2, 2] - sin * r[..., 1, 2])
    return jnp.stack([a, b, c], -1)


def geodesic_angle(one: Float[Array, "*n 3 3"], two: Float[Array, "*n 3 3"]) -> Float[Array, "*n"]:
    """The angle [rad], 0 to pi, of the rotation between two rotations.

    By atan2 of sine and cosine, which is accurate at both ends, unlike the acos of the trace,
    whose derivative is infinite there. Here it is zero at 0 and pi, and of size one between.
    """
    _check_matrix(one)
    _check_matrix(two)
    between = _times(one.mT, two)
    return _angle(safe_norm(_vee(between)), jnp.trace(between, axis1=-2, axis2=-1) - 1)


ROTATION_HEADS: Registry[RotationHead] = Registry("rotation head")
for _name, _head in {
    "5d": RotationHead(5, from_5d, to_5d),
    "6d": RotationHead(6, from_6d, to_6d),
    "svd": RotationHead(9, from_9d, to_9d),
    "quaternion": RotationHead(4, from_quaternion, to_quaternion),
    "axis-angle": RotationHead(3, from_axis_angle, to_axis_angle),
    "euler": RotationHead(3, from_euler, to_euler),
}.items():
    ROTATION_HEADS.register(_name)(_head)


def _frame(a: Array, b: Array) -> Array:
    """The rotation with the first column along a and the second in the plane of a and b."""
    x, b = unit(a), unit(b)
    zero = jnp.all(x == 0, -1, keepdims=True)
    x = jnp.where(zero, _like(x, (1, 0, 0)), x)
    rest = _across(b, x)
    # What remains of a parallel b is rounding; any direction across then does.
    parallel = jnp.sum(rest * rest, -1, keepdims=True) < (8 * float(jnp.finfo(a.dtype).eps)) ** 2
    least = jax.nn.one_hot(jnp.argmin(jnp.abs(x), -1), 3, dtype=x.dtype)
    y = unit(jnp.where(parallel, _across(least, x), rest))
    y = unit(_across(y, x))  # once more: the first difference may have lost digits
    return jnp.stack([x, y, _cross(x, y)], -1)


def _across(v: Array, x: Array) -> Array:
    return v - jnp.sum(v * x, -1, keepdims=True) * x


def of_unit_quaternion(q: Float[Array, "*n 4"]) -> Float[Array, "*n 3 3"]:
    """From a quaternion (w, x, y, z) of length one."""
    w, x, y, z = jnp.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _cos_and_sinc(square: Array) -> tuple[Array, Array]:
    """cos(r) and sin(r) / r as functions of r^2, by their series where that is below one."""
    small = square < 1
    s, r = jnp.where(small, -square, 0), jnp.sqrt(jnp.where(small, 1, square))
    cos = _polynomial(s, [1 / math.factorial(2 * k) for k in range(10)])
    sinc = _polynomial(s, [1 / math.factorial(2 * k + 1) for k in range(10)])
    return jnp.where(small, cos, jnp.cos(r)), jnp.where(small, sinc, jnp.sin(r) / r)


def _polynomial(x: Array, coefficients: list[float]) -> Array:
    value = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _angle(sin: Array, cos: Array) -> Array:
    """atan2 of any two numbers; where both are zero it is zero and a constant."""
    both = unit(jnp.stack([sin, cos], -1))
    none = (both[..., 0] == 0) & (both[..., 1] == 0)
    return jnp.arctan2(both[..., 0], jnp.where(none, 1, both[..., 1]))


def _vee(matrix: Array) -> Array:
    """The vector w with [w]x = M - M^T."""
    pairs = ((2, 1), (0, 2), (1, 0))
    return jnp.stack([matrix[..., i, j] - matrix[..., j, i] for i, j in pairs], -1)


def _skew(w: Array) -> Array:
    """[w]x, the matrix of the cross product with w."""
    x, y, z = jnp.moveaxis(w, -1, 0)
    o = jnp.zeros_like(x)
    rows = [[o, -z, y], [z, o, -x], [-y, x, o]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _cross(a: Array, b: Array) -> Array:
    return jnp.cross(a, b)


def _det(matrix: Array) -> Array:
    return jnp.sum(matrix[..., 0, :] * _cross(matrix[..., 1, :], matrix[..., 2, :]), -1)


def _times(a: Array, b: Array) -> Array:
    return jnp.einsum("...ij,...jk->...ik", a, b, precision="highest")


def _apply(matrix: Array, x: Array) -> Array:
    return jnp.einsum("...ij,...j->...i", matrix, x, precision="highest")


def _like(array: Array, constant) -> Array:
    """A constant in the dtype of an array, repeated to its shape."""
    return jnp.broadcast_to(jnp.asarray(constant, array.dtype), array.shape)


def _check_matrix(matrix: Array) -> None:
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"rotations are matrices [..., 3, 3]; got shape {matrix.shape}")


def _check_numbers(x: Array, count: int, what: str) -> None:
    if x.ndim < 1 or x.shape[-1] != count:
        raise ValueError(f"{what} has {count} numbers on the last axis; got shape {x.shape}")
