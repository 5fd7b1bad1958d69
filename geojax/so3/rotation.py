"""Rotations and reflections of spherical features: Wigner matrices from 3x3 matrices, no angles.

Inside, the axes m of a matrix come first and those of the batch last: every operation is then one
long loop over the batch.
"""

from collections.abc import Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from geojax.multilinear import Multilinear
from geojax.so3.coupling import clebsch_gordan
from geojax.so3.features import degree, slices
from geojax.so3.rotation_heads import of_unit_quaternion
from geojax.so3.sphere import generators

__all__ = ["random_rotation", "rotate", "turn", "turn_degree", "wigner_d"]


def wigner_d(
    matrix: Float[Array, "*n 3 3"], lmax: int, *, pseudo: bool = False
) -> tuple[Float[Array, "*n _ _"], ...]:
    """The matrices D^l, l = 0 ... lmax, that turn features of degree l as `matrix` turns vectors.

    D^1 is the matrix itself. D^l commutes with the coupling C_i of degree l-1 and the vector e_i,

        D^l C_j = sum_i R_ij C_i D^(l-1)

    where C_y has one entry per column and C_z, C_x have two, so that each entry of D^l is a sum of
    few terms. Derivatives are those along rotations, dD = (w . J) D for dR = [w]x R with the
    generators J: finite everywhere, at every order, and exact wherever the matrix is orthogonal.

    Args:
        matrix: orthogonal matrices, proper or improper (with a reflection).
        lmax: largest degree.
        pseudo: for features of parity -(-1)**l instead of (-1)**l: times det(matrix).

    Raises:
        ValueError: these are no 3x3 matrices, or lmax < 0.

    References:
        Ivanic, Ruedenberg, "Rotation matrices for real spherical harmonics", 1996,
        https://doi.org/10.1021/jp953350u (a recursion by the same coupling).
    """
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"rotations are matrices [..., 3, 3]; got shape {matrix.shape}")
    if lmax < 0:
        raise ValueError(f"the largest degree is 0 or more; got lmax={lmax}")
    return _wigner_d(matrix, lmax, pseudo)


# One program also where it is called outside of one.
@partial(jax.jit, static_argnums=(1, 2))
def _wigner_d(matrix: Array, lmax: int, pseudo: bool) -> tuple[Array, ...]:
    blocks = _blocks(jnp.moveaxis(matrix, (-2, -1), (0, 1)), lmax, pseudo)
    return tuple(jnp.moveaxis(block, (0, 1), (-2, -1)) for block in blocks)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _blocks(matrix: Array, lmax: int, pseudo: bool) -> list[Array]:
    out = [jnp.ones_like(matrix[:1, :1]), matrix][: lmax + 1]
    for l in range(2, lmax + 1):
        out.append(_next_degree(matrix, out[-1], l))
    if pseudo:
        sign = jnp.sum(matrix[:, 0] * jnp.cross(matrix[:, 1], matrix[:, 2], axis=0), 0)
        out = [block * sign[None, None] for block in out]
    return out


@_blocks.defjvp
def _along_rotations(lmax: int, pseudo: bool, primals: tuple, tangents: tuple):
    (matrix,), (change,) = primals, tangents
    blocks = _blocks(matrix, lmax, pseudo)
    entry = lambda i, j: jnp.sum(change[i] * matrix[j], 0)  # of dR R^T = [w]x
    spin = [(entry(i, j) - entry(j, i)) / 2 for i, j in ((2, 1), (0, 2), (1, 0))]
    changes = [jnp.zeros_like(blocks[0])]
    for l, block in enumerate(blocks[1:], start=1):
        terms = [w[None, None] * _times(J, block) for w, J in zip(spin, generators(l), strict=True)]
        changes.append(sum(terms[1:], terms[0]))
    return blocks, changes


def _next_degree(matrix: Array, block: Array, l: int) -> Array:
    """D^l from R and D^(l-1)."""
    c = _couplings(l)
    x, y, z = 0, 1, 2
    parts = [_times(part, block) for part in c]

    def mixed(j: int, columns: slice) -> Array:
        terms = [matrix[i, j][None, None] * part[:, columns] for i, part in enumerate(parts)]
        return sum(terms[1:], terms[0])

    # C_y has entries (m, m) only, which gives all columns but the first and the last.
    diagonal = np.diagonal(c[y], -1).reshape(1, -1, *[1] * (block.ndim - 2))
    inner = mixed(y, slice(None)) * jnp.asarray(1 / diagonal, block.dtype)

    def outer(row: int, column: int) -> Array:
        """Column m = +-l. In this sum of columns of C_z and C_x all but the entry +-l cancels."""
        other = 2 * l - 2 - column
        one = lambda i: slice(i, i + 1)
        weights = (0.5 / float(c[z, row, column]), 0.5 / float(c[x, row, other]))
        return weights[0] * mixed(z, one(column)) + weights[1] * mixed(x, one(other))

    return jnp.concatenate([outer(0, 0), inner, outer(2 * l, 2 * l - 2)], 1)


@cache
def _couplings(l: int) -> Float[np.ndarray, "xyz m m1"]:
    """C_i, which couples degree l-1 and the unit vector e_i to degree l."""
    return clebsch_gordan(l - 1, 1, l).transpose(1, 2, 0)


def _times(constant: np.ndarray, block: Array) -> Array:
    """A coupling or generator times a matrix `[m, m, ...]`.

    The constant has entries at (m, m + k) only, or at (m, -m - k) only, with k = -1, 0, 1.
    """
    rows, columns = constant.shape
    margin = (rows - columns) // 2 + 1
    wide = np.pad(constant, ((0, 0), (margin, margin)))
    if np.count_nonzero(np.tril(np.triu(wide), 2)) < np.count_nonzero(wide):
        wide, block = wide[:, ::-1], block[::-1]
    # Stored, so that what is read below are plain windows of it.
    source = jax.lax.optimization_barrier(
        jnp.pad(block, ((margin, margin), *[(0, 0)] * (block.ndim - 1)))
    )
    terms = []
    for k in range(3):
        band = np.diagonal(wide, k).reshape(-1, *[1] * (block.ndim - 1))
        if np.any(band):
            terms.append(jnp.asarray(band, block.dtype) * source[k : k + rows])
    return sum(terms[1:], terms[0])


def rotate(
    matrix: Float[Array, "... 3 3"],
    features: Float[Array, "... m channel"],
    *,
    pseudo: bool = False,
) -> Float[Array, "... m channel"]:
    """The features after the world was turned by `matrix`, one for all or one per batch entry."""
    return turn(wigner_d(matrix, degree(features), pseudo=pseudo), features)


@partial(jax.jit, static_argnames="back")
def turn(
    blocks: Sequence[Float[Array, "... _ _"]],
    features: Float[Array, "... m channel"],
    *,
    back: bool = False,
) -> Float[Array, "... m channel"]:
    """The features turned by Wigner matrices of their degrees (or more), or by the inverses."""
    parts = [
        turn_degree(blocks[l], features[..., rows, :], back=back)
        for l, rows in enumerate(slices(degree(features)))
    ]
    return jnp.concatenate(parts, -2)


def turn_degree(
    block: Float[Array, "... m1 m2"], x: Float[Array, "... _ channel"], *, back: bool = False
) -> Float[Array, "... _ channel"]:
    """The rows of one degree, turned by its matrix or by the inverse; some rows of it will do."""
    batch = jnp.broadcast_shapes(block.shape[:-2], x.shape[:-2])
    dtype = jnp.result_type(block, x)
    block, x = (jnp.broadcast_to(a.astype(dtype), (*batch, *a.shape[-2:])) for a in (block, x))
    return (_turned_back if back else _turned)(block, x)


def _sum_columns(block: Array, x: Array) -> Array:
    # Small matrix products, one for each edge, are slower on a CPU: twice for degree 6 and 32
    # channels, and four times for the transposed matrix.
    terms = [block[..., :, j, None] * x[..., j, None, :] for j in range(x.shape[-2])]
    return sum(terms[1:], terms[0])


def _sum_rows(block: Array, x: Array) -> Array:
    return _sum_columns(jnp.swapaxes(block, -1, -2), x)


def _pairs(x: Array, y: Array) -> Array:
    return jnp.einsum("...ic,...jc->...ij", x, y, precision="highest")


# Bilinear, and the derivatives of each are the others.
_turned = Multilinear(
    _sum_columns, (lambda ct, x: _paired(ct, x), lambda ct, block: _turned_back(block, ct))
)
_turned_back = Multilinear(
    _sum_rows, (lambda ct, x: _paired(x, ct), lambda ct, block: _turned(block, ct))
)
_paired = Multilinear(_pairs, (lambda ct, y: _turned(ct, y), lambda ct, x: _turned_back(ct, x)))


def random_rotation(
    key: Key[Array, ""], shape: tuple[int, ...] = (), *, improper: bool = False, dtype=None
) -> Float[Array, "*n 3 3"]:
    """Uniformly random rotations; with `improper`, each times an inversion (determinant -1).

    A normalised Gaussian quaternion is uniform on the 3-sphere, the double cover of the rotations.
    """
    q = jax.random.normal(key, (*shape, 4), dtype)
    q = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
    matrix = of_unit_quaternion(q)
    return -matrix if improper else matrix
