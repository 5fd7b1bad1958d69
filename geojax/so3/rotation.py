"""Rotations and reflections of spherical features: Wigner matrices from 3x3 matrices, no angles."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from geojax.so3.coupling import clebsch_gordan
from geojax.so3.features import degree, slices

__all__ = ["random_rotation", "rotate", "turn", "wigner_d"]

# Wigner matrices are orthogonal only if they are computed in full precision.
_einsum = lambda *operands: jnp.einsum(*operands, precision="highest")


def wigner_d(
    matrix: Float[Array, "*n 3 3"], lmax: int, *, pseudo: bool = False
) -> tuple[Float[Array, "*n _ _"], ...]:
    """The matrices D^l, l = 0 ... lmax, that turn features of degree l as `matrix` turns vectors.

    D^1 is the matrix itself, and D^l is D^(l-1) x D^1 projected on its part of largest degree:
    polynomials in the entries, so derivatives are finite everywhere.

    Args:
        matrix: orthogonal matrices, proper or improper (with a reflection).
        lmax: largest degree.
        pseudo: for features of parity -(-1)**l instead of (-1)**l: times det(matrix).
    """
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"rotations are matrices [..., 3, 3]; got shape {matrix.shape}")
    out = [jnp.ones((*matrix.shape[:-2], 1, 1), matrix.dtype)]
    for l in range(1, lmax + 1):
        # Columns of `project` are orthonormal: (l-1) x 1 -> l.
        project = jnp.asarray(clebsch_gordan(l - 1, 1, l) * math.sqrt(2 * l + 1), matrix.dtype)
        half = _einsum("...ij,jbc->...ibc", out[-1], project)
        out.append(_einsum("iad,...ab,...ibc->...dc", project, matrix, half))
    if pseudo:
        sign = jnp.sum(matrix[..., 0] * jnp.cross(matrix[..., 1], matrix[..., 2]), -1)
        out = [block * sign[..., None, None] for block in out]
    return tuple(out)


def rotate(
    matrix: Float[Array, "... 3 3"],
    features: Float[Array, "... m channel"],
    *,
    pseudo: bool = False,
) -> Float[Array, "... m channel"]:
    """The features after the world was turned by `matrix`, one for all or one per batch entry."""
    return turn(wigner_d(matrix, degree(features), pseudo=pseudo), features)


def turn(
    blocks: Sequence[Float[Array, "... _ _"]],
    features: Float[Array, "... m channel"],
    *,
    back: bool = False,
) -> Float[Array, "... m channel"]:
    """The features turned by Wigner matrices of their degrees (or more), or by the inverses."""
    axes = "...ji,...jc->...ic" if back else "...ij,...jc->...ic"
    parts = [
        _einsum(axes, blocks[l], features[..., rows, :])
        for l, rows in enumerate(slices(degree(features)))
    ]
    return jnp.concatenate(parts, -2)


def random_rotation(
    key: Key[Array, ""], shape: tuple[int, ...] = (), *, improper: bool = False, dtype=None
) -> Float[Array, "*n 3 3"]:
    """Uniformly random rotations; with `improper`, each times an inversion (determinant -1).

    A normalised Gaussian quaternion is uniform on the 3-sphere, the double cover of the rotations.
    """
    q = jax.random.normal(key, (*shape, 4), dtype)
    q = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
    w, x, y, z = (q[..., i] for i in range(4))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    return -matrix if improper else matrix
