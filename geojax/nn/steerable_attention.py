"""The layer of SE(3)-Transformers: attention whose keys and values are made by steerable kernels.

    q_i = W_Q f_i    k_ij = W_K(x_ij) f_j    v_ij = W_V(x_ij) f_j
    a_ij = softmax over j of q_i · k_ij / sqrt(d)        z_i = sum_j a_ij v_ij
    f_i <- S [z_i, f_i]

The products q · k run over all degrees, so that the weights a are invariant; d is the width of the
keys, degrees and heads together. S mixes the channels of each degree: one matrix, or one made by
attention among the channels.

References:
    Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers", NeurIPS 2020,
    https://arxiv.org/abs/2006.10503. Fuchs, Wagstaff, Dauparas, Posner, "Iterative
    SE(3)-Transformers", 2021, https://arxiv.org/abs/2102.13419.
"""

from collections.abc import Mapping
from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax.graphs import Graph, from_receivers, from_senders, to_receivers
from geojax.nn.activation import ACTIVATIONS
from geojax.nn.attention import edge_softmax
from geojax.nn.linear import Blocks, LinearBlocks
from geojax.nn.message import irrep
from geojax.nn.norm import LayerNorm
from geojax.nn.steerable import SteerableKernel, couple
from geojax.nn.steerable_convolution import SteerableEdges

__all__ = ["AttentiveSelfInteraction", "SteerableAttention"]

VECTOR = irrep(1)


class SteerableAttention(nn.Module):
    """One layer; see the module for its equations.

    `relative` puts the edge vector into the vectors of the sender: "add" to their first channel,
    where there are several, "cat" as one more channel.
    """

    widths: Mapping[Irrep, int]  # channels of the result, natural parity
    divide: int = 1  # keys and values have 1/divide of these channels
    heads: int = 1
    attentive: bool = False  # self-interaction by attention among channels
    relative: str = "none"
    chiral: bool = False  # odd paths too
    hidden: int = 32  # of the radial networks
    activation: str = "relu"  # of the radial networks and of the attentive self-interaction
    product: str = "auto"  # a name in PRODUCTS

    @nn.compact
    def __call__(
        self, x: Blocks, edges: SteerableEdges, graph: Graph
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        """Of node features.

        Raises:
            ValueError: channels that the heads cannot share.
        """
        values = {i: max(1, width // self.divide) for i, width in self.widths.items()}
        keys = {i: width for i, width in values.items() if i in x}
        if shared := [f"{width}x{i}" for i, width in values.items() if width % self.heads]:
            raise ValueError(
                f"every head has as many channels; got heads={self.heads} for values of "
                f"{' + '.join(shared)}; change channels, divide or heads"
            )
        sent = {i: from_senders(block, graph) for i, block in x.items()}
        coupled = couple(
            with_relative(sent, edges.vectors, self.relative),
            edges.harmonics,
            values,
            chiral=self.chiral,
            method=self.product,
        )
        kernel = lambda widths, name: SteerableKernel(
            widths, self.hidden, self.activation, name=name
        )(coupled, edges.invariants)
        query = LinearBlocks(keys, name="query")(x)
        logits = agreement(query, kernel(keys, "key"), self.heads, graph)
        weights = edge_softmax(logits, graph, edges.envelope)

        found = {}
        for i, value in kernel(values, "value").items():
            own = by_channel(weights, value.shape[-1])
            z = to_receivers(value * own[:, None, :], graph)
            found[i] = jnp.concatenate([z, x[i]], -1) if i in x else z
        if self.attentive:
            return AttentiveSelfInteraction(self.widths, self.activation, name="mix")(found)
        return LinearBlocks(self.widths, name="mix")(found)


def with_relative(
    sent: Blocks, vectors: Float[Array, "edge 3"], relative: str
) -> dict[Irrep, Float[Array, "edge _ _"]]:
    """The features at edges with the edge vectors put into their vectors.

    Raises:
        ValueError: an unknown way.
    """
    if relative not in ("none", "add", "cat"):
        raise ValueError(f"relative is 'none', 'add' or 'cat'; got {relative!r}; use 'none'")
    column, old = vectors[..., None], sent.get(VECTOR)
    if relative == "cat":
        return {**sent, VECTOR: column if old is None else jnp.concatenate([old, column], -1)}
    if relative == "add" and old is not None and old.shape[-1] > 1:
        return {**sent, VECTOR: jnp.concatenate([old[..., :1] + column, old[..., 1:]], -1)}
    return dict(sent)


def agreement(query: Blocks, key: Blocks, heads: int, graph: Graph) -> Float[Array, "edge heads"]:
    """q_i · k_ij / sqrt(d) of each head: channels are cut into heads, degrees are added."""
    parts, width = [], 0
    for i, k in key.items():
        products = jnp.sum(from_receivers(query[i], graph) * k, -2)
        parts.append(products.reshape(products.shape[0], heads, -1).sum(-1))
        width += k.shape[-2] * k.shape[-1]
    return sum(parts[1:], parts[0]) / sqrt(width)


def by_channel(weights: Float[Array, "edge heads"], channels: int) -> Float[Array, "edge channel"]:
    """The weight of each channel's head."""
    edges, heads = weights.shape
    wide = jnp.broadcast_to(weights[..., None], (edges, heads, channels // heads))
    return wide.reshape(edges, channels)


class AttentiveSelfInteraction(nn.Module):
    """Channels mixed with weights that depend on their inner products, irrep by irrep.

        f'_c = sum_d softmax over d of MLP(layer norm of all f_a · f_b)_cd f_d

    References:
        Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers", NeurIPS 2020 (and their code).
    """

    widths: Mapping[Irrep, int]
    activation: str = "relu"  # published: leaky ReLU of slope 0.01

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "node _ _"]]:
        """Of the irreps in `widths`."""
        return {i: self._mixed(i, x[i], width) for i, width in self.widths.items() if i in x}

    def _mixed(self, i: Irrep, block: Array, width: int) -> Array:
        count = block.shape[-1]
        gram = jnp.einsum("nma,nmb->nab", block, block).reshape(block.shape[0], count**2)
        h = ACTIVATIONS[self.activation].call(LayerNorm(name=f"norm_{i}")(gram))
        shape = (count**2, count * width)
        kernel = self.param(f"kernel_{i}", nn.initializers.he_uniform(), shape).astype(h.dtype)
        start = lambda key, shape: jax.random.uniform(key, shape, minval=-1, maxval=1) / count
        bias = self.param(f"bias_{i}", start, shape[1:]).astype(h.dtype)
        logits = (h @ kernel + bias[None, :]).reshape(block.shape[0], width, count)
        return jnp.einsum("nwc,nmc->nmw", jax.nn.softmax(logits, -1), block)
