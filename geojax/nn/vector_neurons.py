"""Layers on channels of vectors, `[..., 3, channel]`, that turn with every rotation.

A linear map of the channels without bias (`Affine(width, bias=False)` of the last axis, e3nn's
linear map of 1o), a nonlinearity along learned directions, a norm, a maximum along learned
directions, and scalar products at the end. All keep O(3), as long as the vectors are polar: cross
products among them leave SO(3).

References:
    Deng, Litany, Duan, Poulenard, Tagliasacchi, Guibas, "Vector neurons: a general framework for
    SO(3)-equivariant networks", ICCV 2021, https://arxiv.org/abs/2104.12229.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from geojax.arrays import unit
from geojax.graphs import Graph, graph_of_nodes, pool
from geojax.graphs.graph import Size
from geojax.nn.dense import Affine, Part

__all__ = [
    "InvariantHead",
    "VectorGraphNorm",
    "VectorLeakyReLU",
    "VectorLinear",
    "VectorMaxPool",
    "VectorNorm",
    "vector_leaky_relu",
    "vector_max",
]

EPSILON = 1e-5

VectorLinear = partial(Affine, bias=False)


def vector_leaky_relu(
    q: Float[Array, "*n d channel"], direction: Float[Array, "*n d #channel"], slope: float = 0.2
) -> Float[Array, "*n d channel"]:
    """q - (1 - slope) min(q·d̂, 0) d̂: of the half against d, the part along d is made shorter.

    In any dimension.

    Continuous, and q itself where d = 0. The published code divides by |d|² + 1e-6, which is not a
    projection for short d.
    """
    d = jnp.swapaxes(unit(jnp.swapaxes(direction, -1, -2)), -1, -2)
    along = jnp.sum(q * d, -2, keepdims=True)
    return q - (1 - slope) * jnp.minimum(along, 0) * d


def vector_max(
    x: Float[Array, "row 3 channel"],
    scores: Float[Array, "row channel"],
    index: Int[Array, "row"],
    count: Size,
    mask: Bool[Array, "row"] | None = None,
) -> Float[Array, "group 3 channel"]:
    """Of the vectors of each group the one with the largest score, channel by channel.

    Of equal scores the first row counts. A group without rows gets zero. No derivative goes
    through the scores, as in every maximum.

    Args:
        x: rows of nodes or edges.
        scores: invariant.
        index: the group of each row, ascending.
        count: of groups.
        mask: which rows count.
    """
    low = jnp.finfo(scores.dtype).min
    scores = jax.lax.stop_gradient(scores)
    scores = scores if mask is None else jnp.where(mask[:, None], scores, low)
    top = jax.ops.segment_max(scores, index, count, indices_are_sorted=True)
    rows = jnp.broadcast_to(jnp.arange(x.shape[0], dtype=jnp.int32)[:, None], scores.shape)
    best = (scores == top[index]) & (scores > low)
    rows = jnp.where(best, rows, x.shape[0])
    first = jax.ops.segment_min(rows, index, count, indices_are_sorted=True)
    there = first < x.shape[0]
    first = jnp.where(there, first, 0)[:, None]
    found = jnp.take_along_axis(x, jnp.broadcast_to(first, (*first.shape[:1], 3, x.shape[2])), 0)
    return jnp.where(there[:, None], found, 0)


class VectorLeakyReLU(nn.Module):
    """A linear map followed by `vector_leaky_relu` along directions that are another one."""

    channels: int
    slope: float = 0.2
    shared: bool = False  # one direction for all channels

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n 3 channels"]:
        """Of the parts side by side, see `sum_of_parts`; zero where they are zero."""
        q = VectorLinear(self.channels, name="linear")(*parts)
        direction = VectorLinear(1 if self.shared else self.channels, name="direction")(*parts)
        return vector_leaky_relu(q, direction, self.slope)


class VectorNorm(nn.Module):
    """Vectors divided by the root mean square length of all channels, times a gain of each.

    In place of the published batch normalisation of lengths, whose statistics depend on what else
    is in the batch (and |V| BN(|V|) / |V| jumps where V = 0). Vectors much shorter than 0.003 stay
    as short as they are.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*n 3 channel"]) -> Float[Array, "*n 3 channel"]:
        """Zero where x is zero."""
        square = jnp.mean(jnp.sum(x * x, -2, keepdims=True), -1, keepdims=True)
        gain = self.param("gain", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        return x * jax.lax.rsqrt(square + EPSILON) * gain.reshape(*[1] * (x.ndim - 1), -1)


class VectorGraphNorm(nn.Module):
    """Each channel divided by its root mean square length over the graph, times a gain.

    Closest to the published batch normalisation of lengths, and without batch mates. Unlike
    `VectorNorm` it keeps which nodes have the longer vectors: maps of vectors have no bias, so that
    nothing after `VectorNorm` could tell how far from the centre a point is.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "node d channel"], graph: Graph
    ) -> Float[Array, "node d channel"]:
        """Zero where x is zero; in any dimension."""
        square = pool(jnp.sum(x * x, -2), graph, "mean")
        gain = self.param("gain", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        scale = jax.lax.rsqrt(square + EPSILON) * gain[None]
        return x * scale[graph_of_nodes(graph)][:, None]


class VectorMaxPool(nn.Module):
    """`vector_max` with the products of vectors with learned directions as scores."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "row 3 channel"],
        index: Int[Array, "row"],
        count: Size,
        mask: Bool[Array, "row"] | None = None,
    ) -> Float[Array, "group 3 channel"]:
        """Over the rows of each group; see `vector_max`.

        The directions have no derivative, and stay as they start: a maximum passes none to them.
        """
        directions = VectorLinear(x.shape[-1], name="direction")(x)
        return vector_max(x, jnp.sum(x * directions, -2), index, count, mask)


class InvariantHead(nn.Module):
    """Invariants: the products of the vectors with three that are made of them.

    Two layers of half and a quarter of the channels and a linear map give the three vectors T; the
    invariants are Tᵀ V. They are not normalised, as published, so that nothing jumps where the
    three vectors vanish.
    """

    slope: float = 0.2

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n product"]:
        """All products, those with the first vector first.

        Args:
            parts: vectors side by side, see `sum_of_parts`.
        """
        x = jnp.concatenate([p[1](p[0]) if isinstance(p, tuple) else p for p in parts], -1)
        width = x.shape[-1]
        t = VectorLeakyReLU(max(width // 2, 3), self.slope, name="layer_0")(*parts)
        t = VectorLeakyReLU(max(width // 4, 3), self.slope, name="layer_1")(t)
        t = VectorLinear(3, name="vectors")(t)
        products = jnp.einsum("...xt,...xc->...tc", t, x, precision="highest")
        return products.reshape(*x.shape[:-2], 3 * width)
