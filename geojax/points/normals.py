"""Normals and curvature of a cloud's surface, from the principal axes of neighbourhoods.

The normal is the eigenvector of the smallest eigenvalue l0 of the covariance of the neighbours, and
the curvature ("surface variation") is l0 / (l0 + l1 + l2), between 0 and 1/3. An eigenvector has no
sign: a rule that turns with the cloud gives it one, or normals are not equivariant. Where the data
do not fix a normal (neighbours along a line, alike in all directions, or the rule undecided) it is
zero, not something arbitrary.

Derivatives are those of the smallest eigenpair alone: they need l0 < l1 only, so that patches that
are round in their plane (l1 = l2), where the derivative of a full eigendecomposition is NaN, are
safe. Derivatives of what is zero are zero.

References:
    Hoppe et al., "Surface reconstruction from unorganized points", SIGGRAPH 1992,
    https://doi.org/10.1145/133994.134011.
    Pauly, Gross, Kobbelt, "Efficient simplification of point-sampled surfaces", 2002,
    https://doi.org/10.1109/VISUAL.2002.1183771 (surface variation).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, unit
from geojax.points.search import Neighbors, gather

__all__ = ["Normals", "estimate_normals", "orient", "plane"]


class Normals(NamedTuple):
    """Normals of points.

    Attributes:
        normals: unit vectors; zero where none is determined.
        curvature: l0 / (l0 + l1 + l2); zero where there are no neighbours.
        mask: whether the normal is determined.
    """

    normals: Float[Array, "*n 3"]
    curvature: Float[Array, "*n"]
    mask: Bool[Array, "*n"]


@partial(jax.jit, static_argnames="centered")
def plane(
    vectors: Float[Array, "*n neighbor 3"],
    mask: Bool[Array, "*n neighbor"] | None = None,
    *,
    weights: Float[Array, "*n neighbor"] | None = None,
    centered: bool = True,
) -> Normals:
    """The plane of least squares through points: its normal, whose sign is arbitrary.

    The normal is determined where l1 - l0 exceeds sqrt(eps) of the sum of the eigenvalues; hence
    never by fewer than three points.

    Args:
        vectors: the points, from any origin.
        mask: which of them are real.
        weights: not negative; by default all count the same.
        centered: whether the plane passes through their mean, else through the origin.

    Returns:
        Use `orient` before the normal meets anything that is not blind to its sign.
    """
    weights = jnp.ones(vectors.shape[:-1], vectors.dtype) if weights is None else weights
    if mask is not None:
        weights = jnp.where(mask, weights, 0)
        vectors = jnp.where(mask[..., None], vectors, 0)
    weights = safe_divide(weights, jnp.broadcast_to(jnp.sum(weights, -1)[..., None], weights.shape))
    if centered:
        mean = jnp.sum(weights[..., None] * vectors, -2)
        vectors = vectors - mean[..., None, :]
    # The result does not depend on the scale, so that a constant one is exact for derivatives too.
    scale = jnp.max(jnp.where(weights > 0, jnp.max(jnp.abs(vectors), -1), 0), -1)
    scale = jax.lax.stop_gradient(scale)[..., None, None]
    scaled = safe_divide(vectors, jnp.broadcast_to(scale, vectors.shape))
    weighted = weights[..., None] * scaled
    covariance = jnp.einsum("...ki,...kj->...ij", weighted, scaled, precision="highest")
    trace = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None]
    least, normal = _least_eigenpair(safe_divide(covariance, trace))
    return Normals(normal, least, jnp.any(normal != 0, -1))


@jax.jit
def orient(normals: Float[Array, "*n 3"], directions: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """The normals, reversed where they point away from `directions`.

    Zero where the two are at right angles to sqrt(eps), since no side is meant there.

    Args:
        normals: unit vectors.
        directions: towards the side that is meant, of any length; zero where none is.
    """
    along = jnp.sum(normals * unit(directions), -1)
    decided = jnp.abs(along) > _tolerance(normals)
    return normals * jnp.where(decided, jnp.sign(along), 0)[..., None]


@jax.jit
def estimate_normals(
    positions: Float[Array, "*n point 3"],
    neighbors: Neighbors,
    mask: Bool[Array, "*n point"] | None = None,
    *,
    viewpoint: Float[Array, "*n 3"] | None = None,
    sides: Float[Array, "*n point 3"] | None = None,
) -> Normals:
    """Normals of a cloud by the planes through neighbourhoods, on a side that turns with it.

    Args:
        positions: of the cloud.
        neighbors: of its points among themselves; each neighbourhood is taken as it is, with the
            point itself only if it is listed.
        mask: which points are real; the others have no normal.
        viewpoint: where the cloud was seen from; normals point towards it. It belongs to the cloud:
            whoever turns or moves the cloud does the same to it. By default normals point away
            from the centroid of the cloud, which leaves those of flat clouds undetermined.
        sides: for each point a direction on the side that is meant, such as the normal that a
            scanner told; zero where none is. In the place of a viewpoint.

    Raises:
        ValueError: both sides and a viewpoint.
    """
    if sides is not None and viewpoint is not None:
        raise ValueError("normals have their sides from a viewpoint or from `sides`; got both")
    real = jnp.ones(positions.shape[:-1], bool) if mask is None else mask
    positions = jnp.where(real[..., None], positions, 0)
    taken = neighbors.mask & real[..., None]
    # From the point itself, so that no digits are lost where the cloud is far from the origin
    vectors = gather(positions, neighbors.index) - positions[..., None, :]
    found = plane(vectors, taken)
    if sides is not None:
        directions = jnp.where(real[..., None], sides, 0)
    elif viewpoint is None:
        number = jnp.maximum(jnp.sum(real, -1), 1).astype(positions.dtype)[..., None]
        directions = positions - (jnp.sum(positions, -2) / number)[..., None, :]
    else:
        directions = viewpoint[..., None, :] - positions
    normals = orient(found.normals, jax.lax.stop_gradient(directions))
    return Normals(normals, found.curvature, jnp.any(normals != 0, -1))


def _tolerance(x: Array) -> float:
    return float(np.sqrt(np.finfo(x.dtype).eps))


@jax.custom_jvp
def _least_eigenpair(matrix: Float[Array, "*n 3 3"]) -> tuple[Array, Array]:
    """The smallest eigenvalue of symmetric matrices of trace 1, and its eigenvector.

    The vector is zero where the eigenvalue is not simple.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    simple = values[..., 1] - values[..., 0] > _tolerance(matrix)
    return values[..., 0], jnp.where(simple[..., None], vectors[..., 0], 0)


@_least_eigenpair.defjvp
def _least_eigenpair_jvp(primals: tuple, tangents: tuple):
    """dl = n . dA n and dn = -(A - l)^+ dA n, by the inverse of A - l + n n^T."""
    (matrix,), (change,) = primals, tangents
    value, vector = _least_eigenpair(matrix)
    simple = jnp.any(vector != 0, -1)[..., None, None]
    one = jnp.eye(3, dtype=matrix.dtype)
    one = jnp.broadcast_to(one, matrix.shape)
    outer = vector[..., :, None] * vector[..., None, :]
    shifted = jnp.where(simple, matrix - value[..., None, None] * one + outer, one)
    pushed = _apply(change, vector)
    slope = jnp.sum(vector * pushed, -1)
    across = pushed - slope[..., None] * vector
    return (value, vector), (slope, -_apply(_inverse(shifted), across))


def _apply(matrix: Array, vector: Array) -> Array:
    return jnp.sum(matrix * vector[..., None, :], -1)


def _inverse(matrix: Array) -> Array:
    """Of symmetric matrices, by cross products of their rows."""
    a, b, c = (matrix[..., i, :] for i in range(3))
    cofactors = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], -2)
    return cofactors / jnp.sum(a * cofactors[..., 0, :], -1)[..., None, None]
