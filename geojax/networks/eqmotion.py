"""EqMotion: trajectories in the frequency domain, and reasoning about who acts on whom.

Every agent (node) has geometric features G, channels of vectors, and invariant ones h. With the
past positions x of all times relative to their mean over agents and times, and v their steps,

    G = W DCT x,    V = W' DCT v,    h = [A |v_t|, A' angle(v_t-1, v_t)]

and each pair has shares c_ij of K categories, softmax(MLP[h_i, h_j, MLP(|G_i - G_j|, |V_i - V_j|)])
after one round of messages, used by all layers. A layer is, in this order,

    e_ij = MLP[h_i, h_j, |G_i - G_j|]
    G_i <- G_i + a(h_i) (G_i - Ḡ)
    G_i <- G_i + sum_j MLP(sum_k c_ijk MLP_k[h_i, h_j, |G_i - G_j|]) (G_i - G_j)
    G_i <- G_i + W_v V_i
    G_i <- Ḡ + q - min(q·k̂, 0) k̂,    q = W_q (G_i - Ḡ),    k = W_k (G_i - Ḡ)
    h_i <- h_i + MLP[h_i, sum_j e_ij]

with Ḡ the mean over agents and channels. A linear map of channels and the inverse transform end in
the positions to come.

References:
    Xu, Tan, Tan, Chen, Wang, Wang, Wang, "EqMotion: equivariant multi-agent motion prediction with
    invariant interaction reasoning", CVPR 2023, https://arxiv.org/abs/2303.10876.
"""

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    centered,
    from_receivers,
    from_senders,
    graph_of_nodes,
    pool,
    to_receivers,
)
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    Perceptron,
    VectorLinear,
    angles_between,
    cosine_transform,
    node_scalars,
    node_vectors,
    vector_count,
    vector_leaky_relu,
)

__all__ = ["EqMotion"]


def _center(G: Float[Array, "node 3 channel"], graph: Graph) -> Float[Array, "node 3 1"]:
    """The mean over the nodes of a graph and all channels."""
    return pool(jnp.mean(G, -1), graph, "mean")[graph_of_nodes(graph)][..., None]


def _difference(x: Float[Array, "node *d"], graph: Graph) -> Float[Array, "edge *d"]:
    """Of the receiver less that of the sender."""
    return from_receivers(x, graph) - from_senders(x, graph)


class Reasoning(nn.Module):
    """The shares of categories of each pair."""

    channels: int
    categories: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "node d"],
        G: Float[Array, "node 3 channel"],
        V: Float[Array, "node 3 channel"],
        graph: Graph,
    ) -> Float[Array, "edge category"]:
        """Invariant; they sum to one."""
        width = self.channels
        to_edge = partial(from_receivers, graph=graph), partial(from_senders, graph=graph)
        lengths = [safe_norm(_difference(x, graph), -2) for x in (G, V)]
        lengths = Perceptron((width, width), name="lengths")(jnp.concatenate(lengths, -1))
        m = Affine(width, name="edge_0")((h, to_edge[0]), (h, to_edge[1]), lengths)
        m = Perceptron((width,), end=True, name="edge_1")(nn.silu(m))
        h = h + Affine(width, name="node_1")(
            nn.silu(Affine(width, name="node_0")(h, to_receivers(m, graph)))
        )
        c = Affine(width, name="category_0")((h, to_edge[0]), (h, to_edge[1]), lengths)
        return jax.nn.softmax(Affine(self.categories, name="category_1")(nn.silu(c)), -1)


class Layer(nn.Module):
    """One round; see the module."""

    channels: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "node d"],
        G: Float[Array, "node 3 channel"],
        V: Float[Array, "node 3 channel"],
        categories: Float[Array, "edge category"],
        graph: Graph,
    ) -> tuple[Float[Array, "node d"], Float[Array, "node 3 channel"]]:
        """h and G after it."""
        width, n_geometric, count = self.channels, G.shape[-1], categories.shape[-1]
        to_edge = partial(from_receivers, graph=graph), partial(from_senders, graph=graph)
        apart = _difference(G, graph)
        # The first layers of e and of every category, side by side: edges are gathered once
        ends = Affine((1 + count) * width, name="ends")(
            (h, to_edge[0]), (h, to_edge[1]), safe_norm(apart, -2)
        )
        first, *each = jnp.split(nn.silu(ends), 1 + count, -1)
        e = Perceptron((width,), end=True, name="message")(first)

        attention = Perceptron((width, n_geometric), name="attention")(h)
        G = G + attention[:, None] * (G - _center(G, graph))

        each = [
            categories[:, k : k + 1] * Affine(width, name=f"category_{k}")(each[k])
            for k in range(count)
        ]
        pull = nn.silu(Affine(width, name="pull_0")(nn.silu(sum(each[1:], each[0]))))
        pull = Affine(n_geometric, bias=False, gain=1e-3, name="pull_1")(pull)
        G = G + to_receivers(pull[:, None] * apart, graph)
        G = G + VectorLinear(n_geometric, name="steps")(V)

        center = _center(G, graph)
        q, k = (VectorLinear(n_geometric, name=name)(G - center) for name in ("query", "key"))
        G = center + vector_leaky_relu(q, k, 0.0)
        update = nn.silu(Affine(width, name="node_0")(h, to_receivers(e, graph)))
        return h + Affine(width, name="node_1")(update), G


@NETWORKS.register("eqmotion")
class EqMotion(nn.Module):
    """From the past of all agents to where each will be; see the module.

    Outputs are the displacements from the present position, the nearest time first: "10x1o" are ten
    times. Species are not read; what tells agents apart goes into `scalars` (published: nothing).

    Repaired: the nonlinearity projects for short k too (published: |k|² + 1e-4 in place of |k|²),
    and angles have derivatives in uniform motion (published: arccos).
    """

    irreps_out: str = "10x1o"
    channels: int = 64  # of invariant features
    vector_channels: int = 64  # of positions and velocities
    layers: int = 4
    categories: int = 2  # of pairs, in the reasoning about who acts on whom
    nearest: int | None = None  # only so many nearest senders; published: all pairs
    history: str = "history"  # node input [node, time, 3], positions relative to the present one
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant

    cutoff: ClassVar[float] = math.inf
    group: ClassVar[str] = "E(3)"

    def setup(self):
        half = self.channels // 2
        self.speeds, self.angles = Affine(half), Affine(self.channels - half)
        self.agents = Affine(self.channels) if self.scalars else None
        self.positions = VectorLinear(self.vector_channels)
        self.velocities = VectorLinear(self.vector_channels)
        self.reasoning = Reasoning(self.channels, self.categories) if self.layers else None
        self.rounds = [Layer(self.channels, name=f"layer_{i}") for i in range(self.layers)]
        self.output = VectorLinear(vector_count(self.irreps_out))

    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: `irreps_out` are no vectors; the past has fewer than two positions.
        """
        h, G, V, center = self._inputs(graph)
        if self.reasoning is not None:
            categories = self.reasoning(h, G, V, graph)
            for layer in self.rounds:
                h, G = layer(h, G, V, categories, graph)
        x = _from_frequencies(self.output(G)) + (center - centered(graph))[..., None]
        return IrrepsArray(self.irreps_out, x.swapaxes(1, 2).reshape(-1, 3 * x.shape[-1]))

    def relations(self, graph: Graph) -> Float[Array, "edge category"]:
        """The shares of categories of each pair, sender to receiver.

        Raises:
            ValueError: without layers nobody acts on anybody; and as `__call__`.
        """
        if self.reasoning is None:
            raise ValueError("relations are those of layers; got layers=0; give one or more")
        h, G, V, _ = self._inputs(graph)
        return self.reasoning(h, G, V, graph)

    def _inputs(self, graph: Graph) -> tuple[Array, Array, Array, Float[Array, "node 3"]]:
        """h, G, V, and the mean of all positions, from which those of G count."""
        past = node_vectors(graph, (self.history,))
        if past.shape[-1] < 2:
            raise ValueError(
                f"the past has two positions or more; {self.history!r} has {past.shape[-1]}"
            )
        x = jnp.concatenate([past, jnp.zeros_like(past[..., :1])], -1) + centered(graph)[..., None]
        center = _center(x, graph)
        v = jnp.diff(x, axis=-1)
        steps = jnp.moveaxis(v, 2, 1)
        turns = angles_between(steps[:, :-1], steps[:, 1:])
        h = jnp.concatenate([self.speeds(safe_norm(steps)), self.angles(turns)], -1)
        if self.agents is not None:
            h = h + self.agents(node_scalars(graph, (0,), self.scalars))
        G = self.positions(_to_frequencies(x - center))
        return h, G, self.velocities(_to_frequencies(v)), center[..., 0]


def _to_frequencies(x: Float[Array, "node 3 time"]) -> Float[Array, "node 3 frequency"]:
    return _times(x, cosine_transform(x.shape[-1]).T)


def _from_frequencies(x: Float[Array, "node 3 frequency"]) -> Float[Array, "node 3 time"]:
    return _times(x, cosine_transform(x.shape[-1]))


def _times(x: Array, matrix: np.ndarray) -> Array:
    return jnp.matmul(x, jnp.asarray(matrix, x.dtype), precision="highest")
