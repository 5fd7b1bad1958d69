"""What layers of steerable kernels read, and the layer of Tensor Field Networks."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    edge_vectors,
    from_receivers,
    from_senders,
    to_receivers,
)
from geojax.nn.inputs import node_scalars, node_vectors
from geojax.nn.linear import Blocks, LinearBlocks
from geojax.nn.message import irrep
from geojax.nn.radial import polynomial_envelope
from geojax.nn.steerable import SteerableKernel, couple
from geojax.registry import did_you_mean
from geojax.so3 import harmonics

__all__ = [
    "SteerableConvolution",
    "SteerableEdges",
    "edge_attributes",
    "edge_envelope",
    "node_blocks",
    "steerable_edges",
]


def node_blocks(
    graph: Graph, elements: Sequence[int], scalars: Sequence[str], vectors: Sequence[str]
) -> dict[Irrep, Float[Array, "node _ _"]]:
    """The inputs of nodes, 0e and (where there are vectors) 1o; see `node_scalars`."""
    blocks = {irrep(0): node_scalars(graph, elements, scalars)[:, None, :]}
    return {**blocks, irrep(1): node_vectors(graph, vectors)} if vectors else blocks


class SteerableEdges(NamedTuple):
    """What the layers read about edges; made once for all of them.

    Attributes:
        vectors: from sender to receiver [Å].
        harmonics: of the vectors, up to twice the largest degree of features.
        invariants: attributes and the length, for the radial networks.
        envelope: vanishes at the cutoff; None where there is none.
    """

    vectors: Float[Array, "edge 3"]
    harmonics: Float[Array, "edge m 1"]
    invariants: Float[Array, "edge d"]
    envelope: Float[Array, "edge"] | None


def steerable_edges(
    graph: Graph,
    lmax: int,
    attributes: Float[Array, "edge _"],
    envelope: Float[Array, "edge"] | None,
) -> SteerableEdges:
    """Of the positions that the graph has now.

    Args:
        graph: with the positions.
        lmax: largest degree of the features.
        attributes: from `edge_attributes`.
        envelope: from `edge_envelope`.
    """
    vectors = edge_vectors(graph)
    invariants = jnp.concatenate([attributes, safe_norm(vectors)[:, None]], -1)
    return SteerableEdges(vectors, harmonics(vectors, 2 * lmax)[..., None], invariants, envelope)


def edge_attributes(
    graph: Graph, names: Sequence[str] = (), charge: str | None = None
) -> Float[Array, "edge d"]:
    """Invariant inputs of edges side by side: the arrays `names`, and the product of two charges.

    Args:
        graph: whose edges have the arrays `[edge]` or `[edge, d]`.
        names: of the arrays.
        charge: name of an array `[node]`.

    Raises:
        KeyError: the graph has no such array.
    """
    dtype = graph.nodes["positions"].dtype
    parts = [_read(graph.edges, name, "edges") for name in names]
    if charge:
        q = _read(graph.nodes, charge, "nodes")
        parts.append(from_receivers(q, graph) * from_senders(q, graph))
    columns = [part.reshape(part.shape[0], -1).astype(dtype) for part in parts]
    return jnp.concatenate(columns, -1) if columns else jnp.zeros((*graph.senders.shape, 0), dtype)


def _read(arrays: Mapping[str, Array], name: str, kind: str) -> Array:
    if name not in arrays:
        raise KeyError(
            f"a network's inputs are arrays of the graph; its {kind} have {sorted(arrays)}, not "
            f"{name!r}; {did_you_mean(name, arrays)}"
        )
    return arrays[name]


def edge_envelope(graph: Graph, cutoff: float, power: int) -> Float[Array, "edge"] | None:
    """The square of the polynomial envelope; None where the cutoff [Å] is infinite.

    Layers have nothing else that vanishes at the cutoff. The square has five continuous derivatives
    there, so that even energies that are steep in it have smooth forces.
    """
    if math.isinf(cutoff):
        return None
    return polynomial_envelope(safe_norm(edge_vectors(graph)), cutoff, power) ** 2


class SteerableConvolution(nn.Module):
    """f_i <- sum_j u(|x_ij|) W(x_ij) f_j / neighbors + W_self f_i.

    References:
        Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff, Riley, "Tensor field networks", 2018,
        https://arxiv.org/abs/1802.08219. The envelope u is ours.
    """

    widths: Mapping[Irrep, int]  # channels of the result, natural parity
    chiral: bool = False  # odd paths too
    hidden: int = 32  # of the radial networks
    activation: str = "relu"  # of the radial networks
    product: str = "auto"  # a name in PRODUCTS

    @nn.compact
    def __call__(
        self,
        x: Blocks,
        edges: SteerableEdges,
        neighbors: Float[Array, "#node 1"],
        graph: Graph,
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        """Of node features; `neighbors` from `sum_divisor`."""
        sent = {i: from_senders(block, graph) for i, block in x.items()}
        coupled = couple(
            sent, edges.harmonics, self.widths, chiral=self.chiral, method=self.product
        )
        kernel = SteerableKernel(self.widths, self.hidden, self.activation, name="kernel")
        own = LinearBlocks(self.widths, name="self_interaction")(x)
        out = {}
        for i, messages in kernel(coupled, edges.invariants).items():
            if edges.envelope is not None:
                messages = messages * edges.envelope[:, None, None]
            sums = to_receivers(messages, graph) / neighbors[..., None]
            out[i] = sums + own[i] if i in own else sums
        return out
