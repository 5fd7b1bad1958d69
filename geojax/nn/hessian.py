"""A Hessian from features, without derivatives: blocks of degrees 0, 1 and 2, put together.

A 3 x 3 block is a sum of its three irreducible parts,

    M_ab = sum over l = 0, 1, 2 and m of C^(1,1,l)_abm h^l_m

with C of unit norm: a multiple of the identity, an antisymmetric part and a symmetric traceless
one. Both indices are polar vectors, so all of h is even: h^1 is a pseudo-vector, 1e. Every edge
j -> i has one h from the features of both ends, the direction and the distance, and every node one
N_i. Then

    H_ij = M_(j->i) + M_(i->j)^T        H_ii = N_i + N_i^T

is symmetric and turns as a Hessian does, whatever the weights are.

References:
    Burger et al., "Shoot from the HIP: Hessian interatomic potentials without derivatives", 2025,
    https://arxiv.org/abs/2509.21624.
"""

from collections.abc import Sequence
from functools import cache
from math import sqrt
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    edge_vectors,
    from_receivers,
    from_senders,
    local_index,
    slot_nodes,
)
from geojax.graphs.graph import Size, graph_of_nodes, n_nodes
from geojax.nn.dense import MLP, Dense
from geojax.nn.linear import Blocks, LinearBlocks
from geojax.nn.message import irrep
from geojax.nn.radial import RadialBasis, polynomial_envelope
from geojax.so3 import clebsch_gordan, harmonics, paths, slices

__all__ = [
    "HessianHead",
    "Route",
    "acoustic_rows",
    "assemble",
    "blocks_of",
    "couple_edges",
    "routes",
]

SCALAR, VECTOR, TENSOR = irrep(0), irrep(1), irrep(2)
PSEUDO = irrep(1, pseudo=True)
PARTS = (SCALAR, PSEUDO, TENSOR)  # of a block


@cache
def _basis() -> Float[np.ndarray, "9 9"]:
    """Rows: the components of h; columns: the entries of a block."""
    rows = [clebsch_gordan(1, 1, l).transpose(2, 0, 1).reshape(2 * l + 1, 9) for l in range(3)]
    return np.concatenate(rows)


def blocks_of(h: Float[Array, "*n 9"]) -> Float[Array, "*n 3 3"]:
    """The 3 x 3 blocks with the irreducible parts h, degree after degree."""
    entries = h @ jnp.asarray(_basis(), h.dtype)
    return entries.reshape(*h.shape[:-1], 3, 3)


class Route(NamedTuple):
    """One way from features of an end of an edge to a part of its block."""

    source: Irrep
    l: int  # of the harmonics of the direction
    target: Irrep


def routes(sources: Sequence[Irrep], lmax: int) -> tuple[Route, ...]:
    """All routes from these irreps, with harmonics up to lmax, to 0e, 1e and 2e."""
    found = []
    for path in paths(max(i.l for i in sources), lmax, 2, parity="all"):
        for source in sources:
            result = Irrep(path.l3, source.p * (-1) ** path.l2)
            if source.l == path.l1 and result in PARTS:
                found.append(Route(source, path.l2, result))
    return tuple(found)


def couple_edges(
    x: Blocks, y: Float[Array, "edge m"], weights: Float[Array, "edge path channel"]
) -> Float[Array, "edge 9"]:
    """One copy of 0e + 1e + 2e of each edge: channels summed, then coupled with the direction.

    As one channel is put out for each part, the sum over channels comes first and every path
    couples single vectors.

    Args:
        x: features of the edge, `[edge, 2l+1, channel]`.
        y: harmonics of its direction.
        weights: in the order of `routes(tuple(x), lmax)`.
    """
    lmax = int(sqrt(y.shape[-1])) - 1
    ways, rows = routes(tuple(x), lmax), slices(lmax)
    parts: dict[Irrep, list[Array]] = {target: [] for target in PARTS}
    for number, (source, l, target) in enumerate(ways):
        mixed = (x[source] * weights[:, None, number]).sum(-1)
        pairs = mixed[:, :, None] * y[:, None, rows[l]]
        table = clebsch_gordan(source.l, l, target.l) * sqrt(2 * target.l + 1)
        table = jnp.asarray(table.reshape(-1, 2 * target.l + 1), y.dtype)
        parts[target].append(pairs.reshape(len(pairs), -1) @ table)
    channels = weights.shape[-1]
    return jnp.concatenate(
        [
            sum(terms[1:], terms[0]) / sqrt(len(terms) * channels)
            if terms
            else jnp.zeros((len(y), target.dim), y.dtype)
            for target, terms in parts.items()
        ],
        -1,
    )


def assemble(
    edge_blocks: Float[Array, "edge 3 3"],
    node_blocks: Float[Array, "node 3 3"],
    graph: Graph,
    slots: Size | None = None,
) -> Float[Array, "node slot 3 3"]:
    """The rows of the Hessian (see `graphs.hessian`), symmetric to the last bit.

    A_ij is the sum of the blocks of all edges j -> i (of all images of j), A_ii has N_i too, and
    H = A + A^T: each pair of entries is the same sum of two numbers.

    Args:
        edge_blocks: zero where nothing is (see `HessianHead`).
        slots: None: as many as the graph has rows of nodes. Rows of a structure with more nodes
            than slots are NaN, since part of its Hessian has no place.
    """
    n_node = n_nodes(graph)
    slots = n_node if slots is None else slots
    own, nodes = local_index(graph), jnp.arange(n_node, dtype=jnp.int32)
    receivers = jnp.concatenate([graph.receivers, nodes])
    senders = jnp.concatenate([own[graph.senders], own])
    blocks = jnp.concatenate([edge_blocks, node_blocks])
    empty = jnp.zeros((n_node, slots, 3, 3), blocks.dtype)
    rows = empty.at[receivers, senders].add(blocks, mode="drop")

    partner, real = slot_nodes(graph, slots)
    place = jnp.broadcast_to(own[:, None], partner.shape)
    turned = jnp.swapaxes(rows.at[partner, place].get(mode="clip"), -1, -2)
    hessian = jnp.where(real[..., None, None], rows + turned, 0)
    cut = (graph.n_node > slots)[graph_of_nodes(graph)][:, None] & real
    return jnp.where(cut[..., None, None], jnp.nan, hessian)


def acoustic_rows(
    rows: Float[Array, "node slot 3 3"], graph: Graph
) -> Float[Array, "node slot 3 3"]:
    """P H P of each graph, P = 1 - (sum over translations): then the sum over j of H_ij is zero.

    Moving all nodes together costs no energy and no force. Symmetric rows stay so, bit by bit.
    """
    partner, real = slot_nodes(graph, rows.shape[1])
    index, n_graph = graph_of_nodes(graph), graph.n_node.shape[0]
    count = jnp.maximum(graph.n_node, 1).astype(rows.dtype)[index][:, None, None]
    # Divisions are before the sums, which are scatters and not fused: so each mean is one number,
    # wherever it is read below.
    place = jnp.broadcast_to(jnp.arange(rows.shape[0])[:, None], rows.shape[:2])
    mean = jnp.zeros_like(rows[:, 0]).at[place].add(rows / count[:, None])
    total = jnp.zeros((n_graph, 3, 3), rows.dtype).at[index].add(mean / count)[index]
    total = (total + jnp.swapaxes(total, -1, -2)) / 2
    both = mean[:, None] + jnp.swapaxes(mean[partner], -1, -2)
    return jnp.where(real[..., None, None], (rows - both) + total[:, None], 0)


class HessianHead(nn.Module):
    """The Hessian of each graph of a batch, from features of its nodes.

    Features are 0e, 1o and 2e, and 1e where there are some. Both ends' features are mixed and
    added; the weight of each route and channel is a function of both ends' scalars and of the
    distance, times an envelope.
    """

    cutoff: float  # [Å], of the Hessian: farther nodes have zero blocks
    channels: int = 32
    lmax: int = 2  # of the harmonics of the direction
    n_basis: int = 16
    envelope: int = 6  # power of the polynomial
    radial_width: int = 64
    acoustic: bool = False  # see `acoustic_rows`

    @nn.compact
    def __call__(
        self, x: Blocks, graph: Graph, slots: Size | None = None
    ) -> Float[Array, "node slot 3 3"]:
        """Its rows; `slots` as in `assemble`.

        Raises:
            ValueError: a part of the features is missing.
        """
        if missing := [str(i) for i in (SCALAR, VECTOR, TENSOR) if i not in x]:
            raise ValueError(
                f"a Hessian is made of features 0e, 1o and 2e; got {', '.join(map(str, x))}, "
                f"without {', '.join(missing)}; raise the degrees of the network"
            )
        rows = assemble(self._edges(x, graph), self._nodes(x), graph, slots)
        return acoustic_rows(rows, graph) if self.acoustic else rows

    def _edges(self, x: Blocks, graph: Graph) -> Float[Array, "edge 3 3"]:
        vectors = edge_vectors(graph)
        r = safe_norm(vectors)
        widths = dict.fromkeys(x, self.channels)
        sent = LinearBlocks(widths, name="sender")(x)
        received = LinearBlocks(widths, name="receiver")(x)
        ends = {i: from_senders(sent[i], graph) + from_receivers(received[i], graph) for i in x}

        scalars, width = x[SCALAR][:, 0], self.radial_width
        hidden = Dense(width, name="radial")(
            RadialBasis(self.cutoff, self.n_basis, self.envelope)(r)
        )
        hidden = hidden + from_senders(Dense(width, name="radial_sender")(scalars), graph)
        hidden = hidden + from_receivers(Dense(width, name="radial_receiver")(scalars), graph)
        count = len(routes(tuple(x), self.lmax))
        weights = MLP((width, count * self.channels), bias=True, name="weights")(nn.silu(hidden))
        weights = weights.reshape(-1, count, self.channels)

        near = polynomial_envelope(r, self.cutoff, self.envelope)
        if "mask" in graph.edges:  # empty slots of a table join nodes to themselves
            near = jnp.where(graph.edges["mask"], near, 0)
        h = couple_edges(ends, harmonics(vectors, self.lmax), weights) * near[:, None]
        return blocks_of(h)

    def _nodes(self, x: Blocks) -> Float[Array, "node 3 3"]:
        """Of 0e and 2e alone: an antisymmetric part would cancel."""
        scalars, tensors = x[SCALAR][:, 0], x[TENSOR]
        channels = tensors.shape[-1]
        found = MLP((self.radial_width, 1 + channels), name="diagonal")(scalars)
        traceless = (tensors * found[:, None, 1:]).sum(-1) / sqrt(channels)
        nothing = jnp.zeros((len(scalars), 3), scalars.dtype)
        return blocks_of(jnp.concatenate([found[:, :1], nothing, traceless], -1))
