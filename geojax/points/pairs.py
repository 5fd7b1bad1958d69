"""What two points with normals look like from nowhere in particular: invariants of the pair.

With d = x_j - x_i and the unit normals n_i, n_j:

    point-pair features   (|d|, angle(n_i, d), angle(n_j, d), angle(n_i, n_j))
    Darboux features      (theta, alpha, phi, |d|) in the frame (u, v, w) of the pair

Both are invariant to rotations and translations. alpha is the sine of the angle by which the other
normal leaves the plane of d and the first, and changes its sign under a reflection; theta is the
angle by which it is turned within that plane. Normals of unknown sign: see `signed`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit

__all__ = ["angle", "darboux_features", "darboux_frame", "point_pair_features"]


@partial(jax.jit, static_argnames="signed")
def angle(
    a: Float[Array, "*#n 3"], b: Float[Array, "*#n 3"], *, signed: bool = True
) -> Float[Array, "..."]:
    """The angle between two vectors [rad], 0 to pi; 0 if either vanishes.

    atan2(|a x b|, a . b), which is exact near 0 and pi, where an arc cosine loses half of the
    digits. Derivatives are zero where the vectors are parallel (the angle has a kink there).

    Args:
        a, b: of any length; batch axes of length one are repeated.
        signed: whether the signs of a and b count; if not, it is the angle between their lines, 0
            to pi / 2.
    """
    along = jnp.sum(a * b, -1)
    return _atan2(safe_norm(jnp.cross(a, b)), along if signed else jnp.abs(along))


def _atan2(y: Array, x: Array) -> Array:
    """atan2, and zero with zero derivatives where both vanish."""
    nowhere = (x == 0) & (y == 0)
    return jnp.where(nowhere, 0, jnp.arctan2(y, jnp.where(nowhere, 1, x)))


@partial(jax.jit, static_argnames="signed")
def point_pair_features(
    vectors: Float[Array, "*#n 3"],
    normals_i: Float[Array, "*#n 3"],
    normals_j: Float[Array, "*#n 3"],
    *,
    signed: bool = True,
) -> Float[Array, "... 4"]:
    """(|d|, angle(n_i, d), angle(n_j, d), angle(n_i, n_j)) of pairs of points.

    The pair (j, i) has the angles pi - angle(n_j, d), pi - angle(n_i, d), angle(n_i, n_j). RoITr
    divides angles by pi and leaves lengths as they are.

    Args:
        vectors: d = x_j - x_i.
        normals_i: where d begins.
        normals_j: where d ends.
        signed: false for normals whose sign is not known: angles are then between lines, 0 to
            pi / 2, and do not change when any normal is reversed.

    Returns:
        The length in the unit of d, and three angles [rad].

    References:
        Drost, Ulrich, Navab, Ilic, "Model globally, match locally", CVPR 2010,
        https://doi.org/10.1109/CVPR.2010.5540108.
        Yu et al., "Rotation-invariant transformer for point cloud matching", CVPR 2023,
        https://arxiv.org/abs/2303.08231 (RoITr).
    """
    parts = (
        safe_norm(vectors),
        angle(normals_i, vectors, signed=signed),
        angle(normals_j, vectors, signed=signed),
        angle(normals_i, normals_j, signed=signed),
    )
    return jnp.stack(jnp.broadcast_arrays(*parts), -1)


@jax.jit
def darboux_frame(
    vectors: Float[Array, "*#n 3"], normals: Float[Array, "*#n 3"]
) -> Float[Array, "... 3 3"]:
    """Rows u = n, v = unit(d x n), w = u x v, a right-handed frame where n is a unit vector.

    v and w are zero where d and n are parallel or d is zero.

    Args:
        vectors: d, from the point with the normal to the other.
        normals: n, unit vectors.
    """
    v = unit(jnp.cross(unit(vectors), normals))
    return jnp.stack(jnp.broadcast_arrays(normals, v, jnp.cross(normals, v)), -2)


@jax.jit
def darboux_features(
    vectors: Float[Array, "*#n 3"],
    normals_i: Float[Array, "*#n 3"],
    normals_j: Float[Array, "*#n 3"],
) -> Float[Array, "... 4"]:
    """(theta, alpha, phi, |d|) of pairs of points, in the frame of the source.

    The source is the point whose normal has the smaller angle with the line of the pair, so that
    (i, j) and (j, i) have the same features; d runs from the source s to the target t, and

        phi = u . d / |d|,  alpha = v . n_t,  theta = atan2(w . n_t, u . n_t)

    with cosines and sines in [-1, 1] and theta in [-pi, pi]. Coincident points have zeros. Where
    n_s and d are parallel there is no frame: theta and alpha are zero, and phi is 1 or -1 as it is
    nearby (Open3D sets it to zero).

    Two points with the same neighbours have the same normal, and then rounding would choose the
    source, and with it the sign of phi: where the cosines are equal to sqrt(eps), i is the source.

    Args:
        vectors: d = x_j - x_i.
        normals_i: unit normals where d begins.
        normals_j: unit normals where d ends.

    References:
        Rusu, Blodow, Beetz, "Fast point feature histograms (FPFH) for 3D registration", ICRA 2009,
        https://doi.org/10.1109/ROBOT.2009.5152473.
    """
    vectors, normals_i, normals_j = jnp.broadcast_arrays(vectors, normals_i, normals_j)
    direction = unit(vectors)
    cosine_i, cosine_j = _dot(normals_i, direction), _dot(normals_j, direction)
    margin = float(np.sqrt(np.finfo(direction.dtype).eps))
    swap = (jnp.abs(cosine_i) + margin < jnp.abs(cosine_j))[..., None]
    source = jnp.where(swap, normals_j, normals_i)
    target = jnp.where(swap, normals_i, normals_j)
    direction = jnp.where(swap, -direction, direction)
    frame = darboux_frame(direction, source)
    v, w = frame[..., 1, :], frame[..., 2, :]
    alpha = _dot(v, target)
    framed = jnp.any(v != 0, -1)
    along = jnp.where(framed, _dot(source, target), 1)
    theta = _atan2(_dot(w, target), along)
    return jnp.stack([theta, alpha, _dot(source, direction), safe_norm(vectors)], -1)


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, -1)
