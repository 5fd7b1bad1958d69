"""Spherical features: arrays `[..., m, channel]` with m = (lmax+1)**2 rows, degree after degree.

The rows of degree l are `l*l ... (l+1)**2 - 1`, in e3nn's real basis (polar axis y; l = 1 is x, y,
z) and component normalisation (a unit vector's harmonics of degree l have |Y_l|^2 = 2l+1). Channels
are last and contiguous. Natural parity is (-1)**l: degree 1 flips under inversion. An array can
also hold pseudo-tensors, of parity -(-1)**l; that is not written in the array, the code that owns
it knows.
"""

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:  # the import takes a second, and few programs need it
    from e3nn_jax import IrrepsArray

__all__ = ["degree", "degrees", "expand_by_degree", "from_irreps", "slices", "to_irreps"]


def degree(x: Float[Array, "*n m channel"]) -> int:
    """The largest degree l of spherical features, from their number of components.

    Raises:
        ValueError: the number of components is not a square, or there is no channel axis.
    """
    if x.ndim < 2 or x.shape[-2] == 0 or math.isqrt(x.shape[-2]) ** 2 != x.shape[-2]:
        raise ValueError(
            "spherical features have shape [..., (lmax+1)**2, channel]; "
            f"got shape {tuple(x.shape)}; add a channel axis, or pad the missing degrees with zeros"
        )
    return math.isqrt(x.shape[-2]) - 1


def slices(lmax: int) -> tuple[slice, ...]:
    """The rows of each degree 0 ... lmax."""
    return tuple(slice(l * l, (l + 1) ** 2) for l in range(lmax + 1))


def degrees(lmax: int) -> Int[np.ndarray, "m"]:
    """The degree l of every row: 0 1 1 1 2 2 2 2 2 ..."""
    return np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)


def expand_by_degree(values: Float[Array, "*n l channel"]) -> Float[Array, "*n m channel"]:
    """One value per degree, repeated on the 2l+1 rows of that degree."""
    batch, channels = values.shape[:-2], values.shape[-1]
    # Broadcasts and one concatenation: the transpose sums rows, where that of a gather scatters.
    rows = [
        jnp.broadcast_to(values[..., l, None, :], (*batch, 2 * l + 1, channels))
        for l in range(values.shape[-2])
    ]
    return jnp.concatenate(rows, -2)


def to_irreps(x: Float[Array, "*n m channel"], *, pseudo: bool = False) -> "IrrepsArray":
    """The features as e3nn's type, for example `8x0e+8x1o+8x2e`; `8x0o+8x1e+8x2o` if pseudo."""
    from e3nn_jax import Irreps, IrrepsArray

    lmax, channels = degree(x), x.shape[-1]
    irreps = Irreps([(channels, (l, _parity(l, pseudo))) for l in range(lmax + 1)])
    # e3nn is channel-major within a degree.
    chunks = [
        jnp.swapaxes(x[..., rows, :], -1, -2).reshape(*x.shape[:-2], -1) for rows in slices(lmax)
    ]
    return IrrepsArray(irreps, jnp.concatenate(chunks, -1))


def from_irreps(x: "IrrepsArray", *, pseudo: bool = False) -> Float[Array, "*n m channel"]:
    """Features from e3nn's type: the inverse of `to_irreps`.

    Degrees that are absent become zero rows, so `4x1o` gives `[..., 4, 4]` with row 0 zero.

    Raises:
        ValueError: an irrep has the other parity, or the degrees differ in multiplicity.
    """
    counts: dict[int, int] = {}
    parts: dict[int, list[jax.Array]] = {}
    for rows, (multiplicity, irrep) in zip(x.irreps.slices(), x.irreps, strict=True):
        if irrep.p != _parity(irrep.l, pseudo):
            raise ValueError(
                f"{'pseudo' if pseudo else 'natural'} features have parity "
                f"{'-' if pseudo else ''}(-1)**l; got {x.irreps}; hold the other parity in a "
                f"second array, read with pseudo={not pseudo}"
            )
        counts[irrep.l] = counts.get(irrep.l, 0) + multiplicity
        block = x.array[..., rows].reshape(*x.shape[:-1], multiplicity, 2 * irrep.l + 1)
        parts.setdefault(irrep.l, []).append(jnp.swapaxes(block, -1, -2))
    channels = set(counts.values())
    if len(channels) != 1:
        raise ValueError(
            "all degrees of spherical features have the same number of channels; "
            f"got {x.irreps}; mix or pad them to one multiplicity first"
        )
    (channel,) = channels
    zeros = lambda l: jnp.zeros((*x.shape[:-1], 2 * l + 1, channel), x.dtype)
    blocks = [jnp.concatenate(parts.get(l, [zeros(l)]), -1) for l in range(max(counts) + 1)]
    return jnp.concatenate(blocks, -2)


def _parity(l: int, pseudo: bool) -> int:
    return (-1) ** (l + pseudo)
