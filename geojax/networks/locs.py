"""LoCS: every node sees its neighbours in a frame of its own, and answers in it.

With R_i the frame of node i, u_ij what it sees of node j in it (`symmetrize.local_pairs`: place,
turn, distance, direction and velocity, 12 numbers), and s_i its own velocity and other vectors
in its frame,

    h_i = MLP(s_i),    h_i <- h_i + MLP[h_i, mean_j W(place_ij) [u_ij, R_iᵀ v_i]]
    h_i <- h_i + MLP[h_i, mean_j MLP[h_i, h_j, u_ij]]                    in each further layer
    y_i = R_i MLP[h_i, s_i]

W is an anisotropic filter: a matrix that a perceptron makes of where the neighbour is. With several
edge types, messages are sum_k c_ijk MLP_k[...] with shares c = softmax(MLP[h_i, h_j, u_ij]) that
come after the first round.

References:
    Kofinas, Nagaraja, Gavves, "Roto-translated local coordinate frames for interacting dynamical
    systems", NeurIPS 2021, https://arxiv.org/abs/2110.14961.
"""

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders, to_receivers
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    Perceptron,
    node_scalars,
    node_vectors,
    sum_divisor,
    vector_count,
)
from geojax.symmetrize import local_pairs, node_frames

__all__ = ["LoCS"]

PLACE = (0, 1, 2, 6, 7, 8)  # of what `local_pairs` gives: coordinates, distance, direction


class FilteredMessages(nn.Module):
    """The mean over neighbours of W(place) x, W a matrix for each edge."""

    channels: int

    @nn.compact
    def __call__(
        self, place: Float[Array, "edge _"], x: Float[Array, "edge d"], graph: Graph
    ) -> Float[Array, "node channels"]:
        """Of x, edge by edge."""
        hidden = nn.silu(Affine(self.channels, name="filter_0")(place))
        matrices = Affine(self.channels * x.shape[-1], name="filter_1")(hidden)
        matrices = matrices.reshape(*x.shape, self.channels)
        return _mean(jnp.einsum("ed,edc->ec", x, matrices), graph)


class Messages(nn.Module):
    """The mean over neighbours of sum_k c_k MLP_k[h_i, h_j, u_ij]."""

    channels: int

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "node channel"],
        seen: Float[Array, "edge _"],
        types: Float[Array, "edge type"] | None,
        graph: Graph,
    ) -> Float[Array, "node channels"]:
        """Without types there is one."""
        total = []
        for k in range(1 if types is None else types.shape[-1]):
            m = nn.silu(Ends(self.channels, name=f"edge_{k}_0")(h, seen, graph))
            m = Perceptron((self.channels,), end=True, name=f"edge_{k}_1")(m)
            total.append(m if types is None else types[:, k : k + 1] * m)
        return _mean(sum(total[1:], total[0]), graph)


class Ends(nn.Module):
    """An affine map of both ends of an edge and of what is seen along it."""

    channels: int

    @nn.compact
    def __call__(
        self, h: Float[Array, "node channel"], seen: Float[Array, "edge _"], graph: Graph
    ) -> Float[Array, "edge channels"]:
        """Of the receiver, the sender and the edge."""
        to_edge = partial(from_receivers, graph=graph), partial(from_senders, graph=graph)
        return Affine(self.channels, name="affine")((h, to_edge[0]), (h, to_edge[1]), seen)


def _mean(messages: Array, graph: Graph) -> Array:
    return to_receivers(messages, graph) / sum_divisor(graph, math.inf, None)


@NETWORKS.register("locs")
class LoCS(nn.Module):
    """From what each node sees in its own frame to where it will be; see the module.

    Outputs are the displacements from the present position, the nearest time first: "10x1o" are ten
    times, all at once. Frames are right-handed, so mirror images are told apart.

    Repaired: the published frame ties its turn about the velocity to the z axis of the world, and
    is equivariant under turns about that axis alone. Here `second` closes it, by default the mean
    vector to the neighbours. A node at rest, or whose two vectors are parallel, has some frame that
    does not turn.

    Left out: dNRI, the model around it in the paper (a variational autoencoder with forward and
    backward GRUs over time, a learned prior and sampled edge types), and the decoder's roll-out in
    steps. This is its static form: one frame, that of the present. The past is in `vectors`, and
    edge types are shares.
    """

    irreps_out: str = "10x1o"
    channels: int = 64
    layers: int = 4  # rounds of messages, the first one filtered
    edge_types: int = 1  # kinds of pairs, told apart softly; 1: none
    nearest: int | None = None  # only so many nearest senders; published: all pairs
    velocity: str = "velocity"  # node input [node, 3], the first axis of the frame
    second: str = ""  # node input [node, 3] for the second axis; the mean vector to the neighbours
    vectors: tuple[str, ...] = ()  # more node inputs [node, 3] or [node, k, 3], such as the past
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant

    cutoff: ClassVar[float] = math.inf
    group: ClassVar[str] = "SE(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: `irreps_out` are no vectors; there are no layers.
        """
        count = vector_count(self.irreps_out)
        if self.layers < 1:
            raise ValueError(f"the first layer looks at the neighbours; got layers={self.layers}")
        frames = self.frames(graph)
        own = self._own(graph, frames)
        velocity = from_receivers(own[:, :3], graph)
        seen = self._seen(graph, frames)

        h = Perceptron((self.channels, self.channels), name="embedding")(own)
        heard = FilteredMessages(self.channels, name="filter")(
            seen[:, jnp.array(PLACE)], jnp.concatenate([seen, velocity], -1), graph
        )
        h = h + Perceptron((self.channels, self.channels), name="update_0")(
            jnp.concatenate([h, heard], -1)
        )
        types = None
        if self.edge_types > 1 and self.layers > 1:
            types = nn.silu(Ends(self.channels, name="types_0")(h, seen, graph))
            types = jax.nn.softmax(Affine(self.edge_types, name="types_1")(types), -1)
            self.sow("intermediates", "types", types)
        for i in range(1, self.layers):
            heard = Messages(self.channels, name=f"messages_{i}")(h, seen, types, graph)
            h = h + Perceptron((self.channels, self.channels), name=f"update_{i}")(
                jnp.concatenate([h, heard], -1)
            )
        local = Perceptron((self.channels, 3 * count), name="output")(jnp.concatenate([h, own], -1))
        local = local.reshape(-1, count, 3)
        moved = jnp.einsum("nxy,ncy->ncx", frames, local, precision="highest")
        return IrrepsArray(self.irreps_out, moved.reshape(-1, 3 * count))

    def frames(self, graph: Graph) -> Float[Array, "node 3 3"]:
        """The frame of each node; its axes are the columns.

        Raises:
            KeyError: the graph has no input of a name.
        """
        if self.second:
            second = node_vectors(graph, (self.second,))[..., 0]
        else:
            second = -_mean(edge_vectors(graph), graph)
        return node_frames(node_vectors(graph, (self.velocity,))[..., 0], second)

    def _own(self, graph: Graph, frames: Float[Array, "node 3 3"]) -> Float[Array, "node _"]:
        """The velocity and the other vectors in the frame, and the scalars."""
        vectors = node_vectors(graph, (self.velocity, *self.vectors))
        local = jnp.einsum("nxy,nxc->ncy", frames, vectors, precision="highest")
        local = local.reshape(vectors.shape[0], -1)
        if not self.scalars:
            return local
        return jnp.concatenate([local, node_scalars(graph, (0,), self.scalars)], -1)

    def _seen(self, graph: Graph, frames: Float[Array, "node 3 3"]) -> Float[Array, "edge 12"]:
        """Of the sender, in the frame of the receiver."""
        velocity = node_vectors(graph, (self.velocity,))[..., 0]
        to_edge = partial(from_receivers, graph=graph), partial(from_senders, graph=graph)
        return local_pairs(
            to_edge[0](frames), to_edge[1](frames), -edge_vectors(graph), to_edge[1](velocity)
        )
