"""Attention that knows where points are by distances and angles, within a cloud and between two.

The structure of a cloud, as each pair (i, j) of its points sees it, with the three points k nearest
to i (not i itself) and sinusoids s of a length or an angle:

    p_ij = W_d s(|x_j - x_i| / sigma_d) + max_k W_a s(angle(x_k - x_i, x_j - x_i) / sigma_a)

    self     h_i + W sum_j a_ij v_j,    a_ij = softmax_j q_i . (k_j + W_p p_ij) / sqrt(d)
    cross    h_i + W sum_j a_ij v_j,    q, k of h + pos, v of h, j in the other cloud

and a layer on each point after both. pos_i is what point i knows of its place among the points of
its own cloud, a map of sum_j a'_ij W' p_ij with the same logits over j other than i: so the points
of two clouds are compared by their places, although the clouds have no frame in common. Nothing
here changes when either cloud is moved, turned or reflected.

References:
    Qin et al., "Geometric transformer for fast and robust point cloud registration", CVPR 2022,
    https://arxiv.org/abs/2202.06688 (structure embedding).
    Yu et al., "Rotation-invariant transformer for point cloud matching", CVPR 2023,
    https://arxiv.org/abs/2303.08231 (positions for the other cloud).
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_norm
from geojax.nn.dense import Affine
from geojax.nn.norm import LayerNorm
from geojax.nn.set_attention import attend, attention_logits, masked_softmax, split_heads
from geojax.points import angle, gather, nearest

__all__ = [
    "CrossAttention",
    "StructureAttention",
    "StructureEmbedding",
    "between_clouds",
    "sinusoids",
]

AROUND = 3  # points near i that angles are taken with


def sinusoids(x: Float[Array, "*n"], channels: int) -> Float[Array, "*n channel"]:
    """sin(x w) and cos(x w), with w from 1 to about 1/10000, in even steps of the logarithm.

    Raises:
        ValueError: the channels are not even.
    """
    if channels % 2:
        raise ValueError(f"sines and cosines make an even number of channels; got {channels}")
    w = 1e4 ** (-2 * np.arange(channels // 2) / channels)
    phase = x[..., None] * jnp.asarray(w, x.dtype).reshape(*[1] * x.ndim, -1)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)


class StructureEmbedding(nn.Module):
    """p_ij, how point i sees point j of its cloud; see the module."""

    channels: int  # even
    distance: float  # sigma_d, in the unit of the positions
    angle: float  # sigma_a [degree]

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n point 3"], mask: Bool[Array, "*n point"]
    ) -> Float[Array, "*n point point channel"]:
        """Of all pairs; the rows of points that are not real are finite."""
        vectors = x[..., None, :, :] - x[..., :, None, :]
        p = sinusoids(safe_norm(vectors) / self.distance, self.channels)
        p = Affine(self.channels, name="distance_map")(p)
        near = nearest(x, x, mask, k=AROUND, query_mask=mask, exclude_self=True)
        ends = gather(x, near.index) - x[..., None, :]
        between = jnp.vectorize(angle, signature="(d),(d)->()")
        degrees = between(ends[..., :, None, :, :], vectors[..., None, :]) * (180 / math.pi)
        turns = sinusoids(degrees / self.angle, self.channels)
        turns = Affine(self.channels, name="angle_map")(turns)
        there = near.mask[..., :, None, :, None]
        top = jnp.max(jnp.where(there, turns, jnp.finfo(x.dtype).min), -2)
        return p + jnp.where(jnp.any(there, -2), top, 0)


class PointLayer(nn.Module):
    """norm(y + W_2 relu(W_1 y)) of y = norm(x + W heard), with twice the channels in between."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n point channel"], heard: Float[Array, "*n point channel"]
    ) -> Float[Array, "*n point channel"]:
        """Of what points are and what they heard."""
        width = x.shape[-1]
        y = LayerNorm(name="norm_0")(x + Affine(width, name="output")(heard))
        h = nn.relu(Affine(2 * width, name="affine_0")(y))
        return LayerNorm(name="norm_1")(y + Affine(width, name="affine_1")(h))


class StructureAttention(nn.Module):
    """Self attention with structure; see the module.

    Raises:
        ValueError: the heads do not share the channels evenly.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "*n point channel"],
        p: Float[Array, "*n point point channel"],
        mask: Bool[Array, "*n point"],
    ) -> tuple[Float[Array, "*n point channel"], Float[Array, "*n point channel"]]:
        """Features, and the places `pos` for the cross attention that follows.

        Args:
            h: features.
            p: of `StructureEmbedding`.
            mask: which points there are.
        """
        width = h.shape[-1]
        split = lambda name, y: split_heads(Affine(width, name=name)(y), self.heads)
        q, k, v = (split(name, h) for name in ("query", "key", "value"))
        seen = split("structure_key", p)
        logits = attention_logits(q, k)
        logits += jnp.einsum("...ihd,...ijhd->...hij", q, seen) / math.sqrt(q.shape[-1])
        heard = attend(logits, v, mask)
        n = h.shape[-2]
        own = jnp.arange(n)[:, None] == jnp.arange(n)[None]
        others = mask[..., None, None, :] & ~own.reshape(*[1] * (mask.ndim), n, n)
        seen = split("structure_value", p)
        place = jnp.einsum("...hij,...ijhd->...ihd", masked_softmax(logits, others), seen)
        place = Affine(width, name="place")(place.reshape(h.shape))
        y = LayerNorm(name="place_norm")(place)
        y = Affine(width, name="place_1")(nn.relu(Affine(2 * width, name="place_0")(y)))
        real = mask[..., None]
        h = PointLayer(name="layer")(h, heard)
        return jnp.where(real, h, 0), jnp.where(real, y, 0)


class CrossAttention(nn.Module):
    """Attention to the points of the other cloud; see the module.

    Raises:
        ValueError: the heads do not share the channels evenly.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "graph 2 point channel"],
        places: Float[Array, "graph 2 point channel"],
        mask: Bool[Array, "graph 2 point"],
    ) -> Float[Array, "graph 2 point channel"]:
        """Features of both clouds, each of what was before; a cloud without another hears nothing.

        Args:
            h: features.
            places: of `StructureAttention`.
            mask: which points there are.
        """
        width = h.shape[-1]
        split = lambda name, y: split_heads(Affine(width, name=name)(y), self.heads)
        q, k = (split(name, h + places) for name in ("query", "key"))
        v = split("value", h)
        swap = lambda y: jnp.flip(y, 1)
        h = PointLayer(name="layer")(h, attend(attention_logits(q, swap(k)), swap(v), swap(mask)))
        return jnp.where(mask[..., None], h, 0)


def between_clouds(
    h: Float[Array, "cloud point channel"],
    x: Float[Array, "cloud point 3"],
    mask: Bool[Array, "cloud point"],
    layers: int,
    heads: int,
    distance: float,
    angle: float,
) -> Float[Array, "cloud point channel"]:
    """Features after points have heard of their own cloud and of the other, in turn.

    The layers (`structure`, `self_0`, `cross_0`, ...) belong to the compact method that calls this.

    Args:
        h: features; clouds 0 and 1 are a pair, 2 and 3 the next.
        x: positions, a cloud in any frame of its own.
        mask: which points there are.
        layers: how many times.
        heads: that share the channels.
        distance: sigma_d of the structure, in the unit of the positions.
        angle: sigma_a of the structure [degree].
    """
    both = lambda y: y.reshape(-1, 2, *y.shape[1:])
    p = StructureEmbedding(h.shape[-1], distance, angle, name="structure")(x, mask)
    for i in range(layers):
        h, place = StructureAttention(heads, name=f"self_{i}")(h, p, mask)
        cross = CrossAttention(heads, name=f"cross_{i}")
        h = cross(both(h), both(place), both(mask)).reshape(h.shape)
    return h
