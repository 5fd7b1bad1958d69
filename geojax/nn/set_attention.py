"""Attention among the points of a set, dense and with masks: offset attention, transformer layers.

    offset         x + relu(norm(W (x - A x))),     A = softmax(q k^T), its columns divided by sums
    transformer    norm(y + W_2 relu(W_1 y)),       y = norm(x + several heads of attention)

Both treat the last two axes as `[point, channel]` and all before them as sets of their own. Points
that a mask excludes are neither heard nor counted, and get zeros.

References:
    Guo et al., "PCT: point cloud transformer", 2020, https://arxiv.org/abs/2012.09688 (offset).
    Vaswani et al., "Attention is all you need", 2017, https://arxiv.org/abs/1706.03762.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide
from geojax.nn.dense import Affine
from geojax.nn.norm import LayerNorm

__all__ = [
    "OffsetAttention",
    "TransformerLayer",
    "attend",
    "attention_logits",
    "masked_softmax",
    "split_heads",
]


def masked_softmax(
    scores: Float[Array, "*n query point"], mask: Bool[Array, "... point"]
) -> Float[Array, "*n query point"]:
    """The softmax over the points of the mask, and zero for the others; zero where there are none.

    Args:
        scores: of each query and point.
        mask: which points there are, of a shape that can be broadcast to that of the scores.
    """
    mask = jnp.broadcast_to(mask, scores.shape)
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    top = jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True))
    terms = jnp.where(mask, jnp.exp(scores - top), 0)
    return safe_divide(terms, jnp.broadcast_to(jnp.sum(terms, -1, keepdims=True), terms.shape))


def _masked_log_softmax(
    scores: Float[Array, "*n query point"], mask: Bool[Array, "... point"]
) -> Float[Array, "*n query point"]:
    """Its logarithm, and zero for what the mask excludes."""
    mask = jnp.broadcast_to(mask, scores.shape)
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jnp.where(mask, scores - jax.nn.logsumexp(scores, -1, keepdims=True), 0)


def split_heads(x: Float[Array, "*n channel"], heads: int) -> Float[Array, "*n heads d"]:
    """Channels shared out among heads.

    Raises:
        ValueError: they cannot be shared evenly.
    """
    width = x.shape[-1]
    if width % heads:
        raise ValueError(f"heads share channels evenly; got {heads} heads for {width}")
    return x.reshape(*x.shape[:-1], heads, width // heads)


def attention_logits(
    q: Float[Array, "*n query head d"], k: Float[Array, "*n point head d"]
) -> Float[Array, "*n head query point"]:
    """q . k / sqrt(d) of each query and point."""
    return jnp.einsum("...ihd,...jhd->...hij", q, k) / math.sqrt(q.shape[-1])


def attend(
    logits: Float[Array, "*n head query point"],
    v: Float[Array, "*n point head d"],
    mask: Bool[Array, "*n point"],
) -> Float[Array, "*n query head*d"]:
    """What each query hears: softmax(logits) v, heads side by side."""
    weights = masked_softmax(logits, mask[..., None, None, :])
    heard = jnp.einsum("...hij,...jhd->...ihd", weights, v)
    return heard.reshape(*heard.shape[:-2], -1)


class OffsetAttention(nn.Module):
    """Attention whose difference from its input goes through one layer; see the module.

    Row i of the softmax says to whom point i sends, so that a point hears the sum over i, divided
    by the sum of these weights: a softmax over i of their logarithms, for a point that hardly any
    sends to has weights below the least of float32. Queries and keys have a quarter of the
    channels, and their products are not scaled, as published.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n point channel"], mask: Bool[Array, "*n point"]
    ) -> Float[Array, "*n point channel"]:
        """Of sets of points."""
        width = x.shape[-1]
        q = Affine(max(width // 4, 1), bias=False, name="query")(x)
        k = Affine(max(width // 4, 1), bias=False, name="key")(x)
        v = Affine(width, name="value")(x)
        sent = _masked_log_softmax(q @ jnp.swapaxes(k, -1, -2), mask[..., None, :])
        mean = masked_softmax(jnp.swapaxes(sent, -1, -2), mask[..., None, :]) @ v
        change = nn.relu(LayerNorm(name="norm")(Affine(width, name="output")(x - mean)))
        return jnp.where(mask[..., None], x + change, 0)


class TransformerLayer(nn.Module):
    """One layer of a transformer's encoder, with norms after the sums.

    Raises:
        ValueError: the heads do not share the channels evenly.
    """

    heads: int
    hidden: int  # channels between the two affine layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n point channel"], mask: Bool[Array, "*n point"]
    ) -> Float[Array, "*n point channel"]:
        """Of sets of points."""
        width = x.shape[-1]
        q, k, v = (
            split_heads(Affine(width, name=name)(x), self.heads)
            for name in ("query", "key", "value")
        )
        heard = attend(attention_logits(q, k), v, mask)
        x = LayerNorm(name="norm_0")(x + Affine(width, name="output")(heard))
        h = Affine(width, name="affine_1")(nn.relu(Affine(self.hidden, name="affine_0")(x)))
        return jnp.where(mask[..., None], LayerNorm(name="norm_1")(x + h), 0)
