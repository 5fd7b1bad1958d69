"""What the two ComFormers share: who sends messages to whom, attention by gates, the readout.

Messages run along the edges of the graph, and from each atom to itself along the three shortest
lattice vectors and back (`shortest_vectors`). With x_i features of atoms and e_ij of edges,

    m_ij = u(|r_ij|) MLP_v(W_v x_i, W_v x_j, e'_ij)
           sigmoid(norm(W_q x_i ⊙ MLP_k(W_k x_i, W_k x_j, e'_ij) / sqrt(channels)))
    x_i <- softplus(x_i + norm(W_o sum_j m_ij)),    e'_ij = W_e e_ij

The gate is per channel: no softmax, so that the number of neighbours counts.

Not as published: norm(x) = gain x + shift, channel by channel, is a batch norm as it is after
training, with as many parameters. While it trains, a batch norm divides by the statistics of the
batch, and what is predicted of a crystal depends on the others. The functions that can be learned
are the same. (A layer norm would make others, steep where an atom has one far neighbour.) The gain
of the gates starts at sqrt(channels), so that they are not all alike. The envelope u is ours:
without it messages jump when an atom comes or goes.

References:
    Yan, Fu, Qian, Qian, Ji, "Complete and efficient graph transformers for crystal material
    property prediction", ICLR 2024, https://arxiv.org/abs/2403.11857; and the authors' code.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    edge_vectors,
    from_receivers,
    from_senders,
    graph_of_edges,
    graph_of_nodes,
    pool,
    to_receivers,
    volumes,
)
from geojax.nn.dense import Affine, Part
from geojax.nn.radial import gaussians, polynomial_envelope

__all__ = [
    "ChannelAffine",
    "CrystalHead",
    "Expansion",
    "GateAttention",
    "GatedMessage",
    "Links",
    "edge_links",
    "image_links",
    "inverse_length",
    "is_smooth",
]

CLOSEST = 0.05  # [Å]; below twice this, every Gaussian of -0.75 / r is zero in any precision


class Links(NamedTuple):
    """Who sends messages to whom, of one kind.

    Links that are alike share a row of features, so there are two leading axes: rows, and messages.

    Attributes:
        vectors: `[*row, 3]` [Å], from sender to receiver.
        weight: `[*message, 1]`, factor of each message; None is one.
        spread: from rows to messages.
        senders, receivers: from nodes to messages.
        collect: from messages to their sums at nodes.
        of_graphs: from graphs to rows.
    """

    vectors: Float[Array, "*row 3"]
    weight: Float[Array, "*message 1"] | None
    spread: Callable[[Array], Array]
    senders: Callable[[Array], Array]
    receivers: Callable[[Array], Array]
    collect: Callable[[Array], Array]
    of_graphs: Callable[[Array], Array]


def is_smooth(cutoff: float, nearest: int | None) -> bool:
    """Whether messages vanish at the cutoff: not where only so many neighbours are listened to."""
    return math.isfinite(cutoff) and nearest is None


def edge_links(graph: Graph, cutoff: float, nearest: int | None, power: int) -> Links:
    """The edges of the graph; rows and messages are the edges.

    Args:
        graph: whose edges they are.
        cutoff: [Å], where the messages vanish.
        nearest: not None: they do not.
        power: of the envelope.
    """
    vectors, index, weight = edge_vectors(graph), graph_of_edges(graph), None
    if is_smooth(cutoff, nearest):
        weight = polynomial_envelope(safe_norm(vectors), cutoff, power)[:, None]
    return Links(
        vectors,
        weight,
        spread=lambda rows: rows,
        senders=partial(from_senders, graph=graph),
        receivers=partial(from_receivers, graph=graph),
        collect=partial(to_receivers, graph=graph),
        of_graphs=lambda x: x[index],
    )


def image_links(graph: Graph, lattice: Float[Array, "graph 3 3"]) -> Links:
    """Of each atom to itself along ±e1, ±e2, ±e3; rows `[graph, 6]`, messages `[node, 6]`.

    They have no weight in graphs without a lattice.
    """
    index, dtype = graph_of_nodes(graph), lattice.dtype
    crystal = (volumes(graph) > 0).astype(dtype)
    to_messages = lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], 6, *x.shape[1:]))
    return Links(
        jnp.concatenate([lattice, -lattice], 1),
        jnp.broadcast_to(crystal[index][:, None, None], (index.shape[0], 6, 1)),
        spread=lambda rows: rows[index],
        senders=to_messages,
        receivers=to_messages,
        collect=lambda messages: messages.sum(1),
        of_graphs=lambda x: x[:, None],
    )


def inverse_length(vectors: Float[Array, "*n 3"]) -> Float[Array, "*n"]:
    """-0.75 / r [1/Å]; constant below r = 0.05 Å."""
    return -0.75 / jnp.maximum(safe_norm(vectors), CLOSEST)


class Expansion(nn.Module):
    """softplus(W exp(-(x - mu)² / spacing) + b), with centres mu from `start` to `stop`.

    The exponent is divided by the spacing [1/Å], not by its square, as in the authors' code: with
    256 centres a Gaussian spans some ten of them.
    """

    start: float
    stop: float
    n_basis: int
    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, "*n channel"]:
        """Of each number."""
        gamma = (self.n_basis - 1) / (self.stop - self.start)
        waves = gaussians(x, self.start, self.stop, self.n_basis, gamma=gamma)
        return jax.nn.softplus(Affine(self.channels, name="linear")(waves))


class ChannelAffine(nn.Module):
    """gain x + shift, channel by channel; the shift starts at zero."""

    start: float = 1.0  # of the gains

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Of the last axis."""
        row = (1,) * (x.ndim - 1) + x.shape[-1:]
        gain = self.param("gain", nn.initializers.constant(self.start), x.shape[-1:])
        shift = self.param("shift", nn.initializers.zeros, x.shape[-1:])
        return x * gain.astype(x.dtype).reshape(row) + shift.astype(x.dtype).reshape(row)


class GatedMessage(nn.Module):
    """MLP_v(values) sigmoid(norm(query MLP_k(keys) / sqrt(channels))), channel by channel."""

    @nn.compact
    def __call__(
        self, query: Float[Array, "*message channel"], keys: Sequence[Part], values: Sequence[Part]
    ) -> Float[Array, "*messages channel"]:
        """Keys and values are parts that lie side by side, see `Affine`."""
        width = query.shape[-1]
        root = math.sqrt(width)
        key = Affine(width, name="key_1")(nn.silu(Affine(width, name="key_0")(*keys)))
        value = Affine(width, name="value_1")(nn.silu(Affine(width, name="value_0")(*values)))
        return value * nn.sigmoid(ChannelAffine(root, name="norm")(query * key / root))


class GateAttention(nn.Module):
    """One round of messages between atoms, along links of every kind."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "node channel"],
        features: Sequence[Float[Array, "... channel"]],
        links: Sequence[Links],
    ) -> Float[Array, "node channel"]:
        """The new features of the atoms.

        Args:
            x: features of the atoms.
            features: of the rows of each kind of links.
            links: by kind.
        """
        width = x.shape[-1]
        query, key, value = (Affine(width, name=n)(x) for n in ("query", "key", "value"))
        edge, message = Affine(width, name="edge"), GatedMessage(name="message")
        total = jnp.zeros_like(x)
        for kind, e in zip(links, features, strict=True):
            e = (edge(e), kind.spread)
            sent = message(
                kind.receivers(query),
                ((key, kind.receivers), (key, kind.senders), e),
                ((value, kind.receivers), (value, kind.senders), e),
            )
            total = total + kind.collect(sent if kind.weight is None else sent * kind.weight)
        return jax.nn.softplus(x + ChannelAffine(name="norm")(Affine(width, name="out")(total)))


class CrystalHead(nn.Module):
    """W2 silu(W1 x), of the mean over the atoms of a graph or of each atom."""

    width: int  # of the output
    readout: str = "graph"  # or "node"

    @nn.compact
    def __call__(self, x: Float[Array, "node channel"], graph: Graph) -> Float[Array, "node width"]:
        """Of each node; with "graph" all nodes of a graph get its value.

        Raises:
            ValueError: an unknown readout.
        """
        if self.readout not in ("graph", "node"):
            raise ValueError(f"a readout is 'graph' or 'node'; got {self.readout!r}")
        if self.readout == "graph":
            x = pool(x, graph, "mean")
        x = nn.silu(Affine(x.shape[-1], name="hidden")(x))
        x = Affine(self.width, name="output")(x)
        return x[graph_of_nodes(graph)] if self.readout == "graph" else x
