"""What networks of spherical channels start from: features of nodes, and of edges what all layers
share: frames, invariants of the length, the envelope.

Frames are computed once for a graph. Every layer multiplies its messages by the envelope, or puts
it into its attention, so that energies are C² where neighbours come and go.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders, to_receivers
from geojax.nn.activation import activate
from geojax.nn.dense import Dense
from geojax.nn.norm import LayerNorm
from geojax.nn.radial import gaussians, polynomial_envelope
from geojax.nn.so2 import edge_frames, from_edge_frame

__all__ = [
    "EdgeDegree",
    "EdgeInputs",
    "EdgeInvariants",
    "NodeEmbedding",
    "RadialNetwork",
    "edge_inputs",
]


class EdgeInputs(NamedTuple):
    """What the layers of a network share."""

    frames: tuple[Float[Array, "edge _ _"], ...]  # of `edge_frames`
    waves: Float[Array, "edge rbf"]  # Gaussians of the length
    envelope: Float[Array, "edge"]  # zero from the cutoff on
    scalars: Float[Array, "node d"]  # invariant inputs of nodes, read at both ends of an edge


def edge_inputs(
    graph: Graph,
    scalars: Float[Array, "node d"],
    *,
    lmax: int,
    cutoff: float,
    n_basis: int,
    envelope: int,
    reach: float | None = None,
) -> EdgeInputs:
    """Frames, Gaussians and envelope of each edge.

    Gaussians have centres from 0 to `reach` (the cutoff if None), and a standard deviation of two
    spacings, as in the released codes of eSCN, EquiformerV2 and eSEN.

    Args:
        graph: whose edge vectors are taken.
        scalars: of `node_scalars`.
        lmax: largest degree of the frames.
        cutoff: [Å]; infinite: no envelope.
        n_basis: number of Gaussians.
        envelope: power of the polynomial.
        reach: centre of the last Gaussian [Å].

    Raises:
        ValueError: neither the cutoff nor the reach is finite.
    """
    vectors = edge_vectors(graph)
    length = safe_norm(vectors)
    stop = cutoff if reach is None else reach
    if not math.isfinite(stop):
        raise ValueError(
            f"Gaussians of the distance end somewhere; got cutoff={cutoff} and reach={reach}; give "
            "reach, the largest distance [Å] to be resolved"
        )
    spacing = stop / (n_basis - 1)
    waves = gaussians(length, 0.0, stop, n_basis, gamma=1 / (2 * (2 * spacing) ** 2))
    frames = edge_frames(vectors, lmax)
    return EdgeInputs(frames, waves, polynomial_envelope(length, cutoff, envelope), scalars)


class NodeEmbedding(nn.Module):
    """Linear maps of a node's scalars and vectors to degrees 0 and 1; other degrees are zero."""

    channels: int
    lmax: int

    @nn.compact
    def __call__(
        self, scalars: Float[Array, "node d"], vectors: Float[Array, "node xyz v"]
    ) -> Float[Array, "node m channel"]:
        """Spherical features of each node.

        Raises:
            ValueError: there are vectors and no degree 1.
        """
        rows = [Dense(self.channels, name="scalars")(scalars)[:, None, :]]
        if vectors.shape[-1]:
            if self.lmax < 1:
                raise ValueError(
                    f"vectors are features of degree 1; got lmax={self.lmax}; use 1 or more"
                )
            rows.append(Dense(self.channels, name="vectors")(vectors))
        missing = (self.lmax + 1) ** 2 - sum(part.shape[1] for part in rows)
        rows.append(jnp.zeros((scalars.shape[0], missing, self.channels), scalars.dtype))
        return jnp.concatenate(rows, 1)


class RadialNetwork(nn.Module):
    """Dense layers with biases; layer norm and SiLU between them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n width"]:
        """Of invariants of an edge."""
        for i, width in enumerate(self.widths):
            if i:
                x = activate(LayerNorm(name=f"norm_{i - 1}")(x))
            x = Dense(width, bias=True, name=f"dense_{i}")(x)
        return x


class EdgeInvariants(nn.Module):
    """The Gaussians of an edge beside embeddings of the scalars of its sender and receiver."""

    width: int  # of each embedding

    @nn.compact
    def __call__(self, edges: EdgeInputs, graph: Graph) -> Float[Array, "edge width"]:
        """Of width n_basis + 2 width."""
        sender = Dense(self.width, name="sender")(edges.scalars)
        receiver = Dense(self.width, name="receiver")(edges.scalars)
        ends = from_senders(sender, graph), from_receivers(receiver, graph)
        return jnp.concatenate([edges.waves, *ends], -1)


class EdgeDegree(nn.Module):
    """sum over j of u_ij R_l(e_ij) Y_l(r_ij): a node's surroundings, before any message.

    In an edge's frame the harmonics of its direction are the row of order 0.
    """

    channels: int
    lmax: int
    radial: tuple[int, ...]  # widths of the hidden layers of R

    @nn.compact
    def __call__(
        self, edges: EdgeInputs, invariants: Float[Array, "edge d"], graph: Graph
    ) -> Float[Array, "node m channel"]:
        """Spherical features of each node."""
        widths = (*self.radial, (self.lmax + 1) * self.channels)
        rows = RadialNetwork(widths, name="radial")(invariants)
        rows = rows.reshape(-1, self.lmax + 1, self.channels) * edges.envelope[:, None, None]
        return to_receivers(from_edge_frame(edges.frames, rows, m_max=0), graph)
