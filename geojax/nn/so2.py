"""Linear layers in the frames of edges (eSCN).

A rotation that takes an edge to the polar axis y leaves only turns about that axis, which mix the
two rows +m and -m of every degree. So a layer that respects rotations is any linear map of the rows
of order 0, and of the pairs of each order m > 0 any complex one, over all degrees and channels.
With all orders it is every path of the tensor product with the harmonics of the edge at once.

Orders above m_max may be left out: turns about the axis do not mix orders, so this is as exact as
the full layer. It is no longer exact if a pointwise nonlinearity on a grid acts in between, since
that mixes orders and what it makes above m_max is cut; norms and gates are fine.

Rows in a frame are degree after degree, of each degree l the orders -k ... k with k = min(l,
m_max). An edge of length zero (padding) has no frame: its rows are finite and mean nothing.
"""

from collections.abc import Sequence
from functools import cache
from math import sqrt
from typing import get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax import so3
from geojax.products.escn import frame
from geojax.so3.rotation import turn_degree

__all__ = ["SO2Linear", "edge_frames", "from_edge_frame", "gain_count", "to_edge_frame"]

Blocks = Sequence[Float[Array, "... _ _"]]
_unit_normal = nn.initializers.normal(1.0)


def edge_frames(vectors: Float[Array, "*n xyz"], lmax: int) -> tuple[Float[Array, "*n _ _"], ...]:
    """The Wigner matrices that take each edge to the polar axis, for all layers of a network.

    Which of these frames is taken (they differ by a roll about the edge) has no effect on what the
    layers return, nor on its derivatives, which are finite for every direction.
    """
    return so3.wigner_d(frame(vectors), lmax)


def to_edge_frame(
    blocks: Blocks, x: Float[Array, "*n m channel"], *, m_max: int | None = None
) -> Float[Array, "*n row channel"]:
    """The rows of the features in the frames, up to order m_max.

    Args:
        blocks: of `edge_frames`, of the degrees of x or more.
        x: features at each edge.
        m_max: largest order; None keeps all of them.
    """
    parts = []
    for l, rows in enumerate(so3.slices(so3.degree(x))):
        k = _top(l, m_max)
        parts.append(turn_degree(blocks[l][..., l - k : l + k + 1, :], x[..., rows, :]))
    return jnp.concatenate(parts, -2)


def from_edge_frame(
    blocks: Blocks, x: Float[Array, "*n row channel"], *, m_max: int | None = None
) -> Float[Array, "*n m channel"]:
    """The features whose rows in the frames are x: back from `to_edge_frame`.

    Rows of degree l > m_max are multiplied by sqrt((2l+1) / (2 m_max+1)): they have lost orders,
    and so keep the variance that they had.

    Raises:
        ValueError: the number of rows is that of no largest degree with this m_max.
    """
    lmax = _degree(x, m_max)
    counts = [2 * _top(l, m_max) + 1 for l in range(lmax + 1)]
    parts, start = [], 0
    for l, count in enumerate(counts):
        rows, k = x[..., start : start + count, :], count // 2
        scale = sqrt((2 * l + 1) / count)
        block = blocks[l][..., l - k : l + k + 1, :]
        parts.append(turn_degree(block, rows if scale == 1 else rows * scale, back=True))
        start += count
    return jnp.concatenate(parts, -2)


def gain_count(lmax: int, m_max: int | None = None) -> int:
    """How many gains `SO2Linear` takes per channel: one for each degree l and order |m|."""
    return sum(_top(l, m_max) + 1 for l in range(lmax + 1))


class SO2Linear(nn.Module):
    """The linear maps of rows in an edge's frame that respect rotations.

    Order 0 is one linear layer over degrees and channels, with a bias; order m > 0 is

        y_+m = x_+m W_r - x_-m W_i        y_-m = x_-m W_r + x_+m W_i

    with real matrices over the degrees l >= m and channels. A reflection at a plane through the
    edge changes the sign of the rows -m of natural tensors, so W_r keeps the parity and W_i changes
    it.

    References:
        Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2) for efficient equivariant GNNs",
        2023, https://arxiv.org/abs/2302.03655.
    """

    channels: int  # of the result
    lmax: int  # largest degree of the result
    m_max: int | None = None  # largest order of the input and of the result; None: no limit
    scalars: int = 0  # invariants made from order 0 besides, for gates and attention
    parity: so3.Parity = "even"  # of the paths, as in `tensor_product`: W_r, W_i or ("all") both

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*n row channel"],
        gains: Float[Array, "*n gain channel"] | None = None,
    ) -> tuple[Float[Array, "*n row_out channels"], Float[Array, "*n scalars"]]:
        """The rows of the result in the same frames, and the invariants.

        Args:
            x: rows of `to_edge_frame`, with the same m_max.
            gains: factors of x by degree, order |m| (ascending within a degree) and channel, such
                as functions of the edge's length; `gain_count` of them.

        Raises:
            ValueError: rows or gains that do not fit; or invariants of a layer that changes parity.
        """
        self._check()
        lmax = _degree(x, self.m_max)
        rows = _split(x, _places(lmax, self.m_max))
        if gains is not None:
            rows = _scaled(rows, gains, lmax, self.m_max)
        width = (self.lmax + 1) * self.channels
        order_0 = self._order_0(jnp.concatenate([rows[l, 0] for l in range(lmax + 1)], -1))
        first, scalars = jnp.split(order_0, [width], -1)
        out = self._by_degree(0, first)
        for m in range(1, min(lmax, _top(self.lmax, self.m_max)) + 1):
            of = range(m, lmax + 1)
            both = (jnp.concatenate([rows[l, s * m] for l in of], -1) for s in (1, -1))
            plus, minus = self._order(m, *both)
            out |= self._by_degree(m, plus) | self._by_degree(-m, minus)
        zero = jnp.zeros((*x.shape[:-2], self.channels), x.dtype)
        places = _places(self.lmax, self.m_max)
        return jnp.stack([out.get(place, zero) for place in places], -2), scalars

    def _by_degree(self, m: int, found: Array) -> dict[tuple[int, int], Array]:
        """Cut rows of order m that lie side by side."""
        degrees = range(abs(m), self.lmax + 1)
        parts = jnp.split(found, len(degrees), -1)
        return {(l, m): part for l, part in zip(degrees, parts, strict=True)}

    def _check(self) -> None:
        if self.parity not in get_args(so3.Parity):
            raise ValueError(f"parity is one of {get_args(so3.Parity)}; got {self.parity!r}")
        if self.parity == "odd" and self.scalars:
            raise ValueError(
                "a layer that changes parity (parity='odd') makes no row of order 0; got "
                f"scalars={self.scalars}; take them from a layer with parity 'even' or 'all'"
            )

    def _order_0(self, x: Array) -> Array:
        width = (self.lmax + 1) * self.channels + self.scalars
        if self.parity == "odd":  # nothing of order 0 changes parity
            return jnp.zeros((*x.shape[:-1], width), x.dtype)
        kernel = self.param("kernel_0", _unit_normal, (x.shape[-1], width)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(x.dtype)
        return x @ (kernel / sqrt(x.shape[-1])) + bias.reshape(*[1] * (x.ndim - 1), -1)

    def _order(self, m: int, plus: Array, minus: Array) -> list[Array]:
        """The rows +m and -m of all degrees side by side."""
        count = (self.lmax + 1 - m) * self.channels
        kinds = {"even": "r", "odd": "i", "all": "ri"}[self.parity]
        shape = (plus.shape[-1], count)
        # For both matrices the usual factor of 1 / sqrt(2), since each row is a sum of two terms.
        scale = 1 / sqrt(shape[0] * len(kinds))
        kernels = [self.param(f"kernel_{m}{kind}", _unit_normal, shape) for kind in kinds]
        kernel = jnp.concatenate(kernels, -1).astype(plus.dtype) * scale
        found = jnp.stack([plus, minus], -2) @ kernel
        if kinds == "r":
            return [found[..., 0, :], found[..., 1, :]]
        if kinds == "i":
            return [-found[..., 1, :], found[..., 0, :]]
        real, imaginary = jnp.split(found, 2, -1)
        return [
            real[..., 0, :] - imaginary[..., 1, :],
            real[..., 1, :] + imaginary[..., 0, :],
        ]


def _top(l: int, m_max: int | None) -> int:
    """The largest order of degree l."""
    if m_max is not None and m_max < 0:
        raise ValueError(f"the largest order is 0 or more, or None for no limit; got m_max={m_max}")
    return l if m_max is None else min(l, m_max)


@cache
def _places(lmax: int, m_max: int | None) -> tuple[tuple[int, int], ...]:
    """The degree and order of each row."""
    return tuple(
        (l, m) for l in range(lmax + 1) for m in range(-_top(l, m_max), _top(l, m_max) + 1)
    )


def _degree(x: Array, m_max: int | None) -> int:
    """The largest degree of rows in a frame."""
    rows, lmax = x.shape[-2], 0
    while len(_places(lmax, m_max)) < rows:
        lmax += 1
    if len(_places(lmax, m_max)) != rows:
        raise ValueError(
            "rows in an edge's frame are 2 min(l, m_max) + 1 for each degree l = 0, 1, ...; got "
            f"shape {tuple(x.shape)} with m_max={m_max}; use the m_max of to_edge_frame"
        )
    return lmax


def _split(x: Array, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Array]:
    """The rows `[..., channel]` by degree and order."""
    parts = jnp.split(x, len(places), -2)
    return {place: part[..., 0, :] for place, part in zip(places, parts, strict=True)}


def _scaled(
    rows: dict[tuple[int, int], Array], gains: Array, lmax: int, m_max: int | None
) -> dict[tuple[int, int], Array]:
    """The rows times their gains."""
    count, channels = gain_count(lmax, m_max), rows[0, 0].shape[-1]
    if gains.shape[-2:] != (count, channels):
        raise ValueError(
            f"gains are one for each degree, order and channel, [..., {count}, {channels}] for "
            f"lmax={lmax} and m_max={m_max}; got shape {tuple(gains.shape)}; see gain_count"
        )
    factor = _split(gains, [place for place in _places(lmax, m_max) if place[1] >= 0])
    return {(l, m): row * factor[l, abs(m)] for (l, m), row in rows.items()}
