"""eSEN: messages in the frames of edges, with all choices made for a smooth energy.

    x <- x + sum over j of u(r_ij) message(norm(x_i), norm(x_j), r_ij)
    x <- x + feed_forward(norm(x))

No softmax, no limit of the number of neighbours, no grid in messages, few radial functions, an
envelope. Energies are a three-layer network on the scalars at the end, and forces their derivative.

References:
    Fu, Wood, Barroso-Luque, Levine, Gao, Dzamba, Zitnick, "Learning smooth and expressive
    interatomic potentials for physical property prediction", ICML 2025,
    https://arxiv.org/abs/2502.12147.
"""

from math import sqrt

import flax.linen as nn
from e3nn_jax import IrrepsArray

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import (
    FEED_FORWARDS,
    MLP,
    ROW_ACTIVATIONS,
    EdgeDegree,
    EdgeInvariants,
    LinearBlocks,
    NodeEmbedding,
    RMSNorm,
    SO2Message,
    as_blocks,
    edge_inputs,
    in_order,
    irrep,
    natural_outputs,
    neighbor_count,
    node_scalars,
    node_vectors,
    sum_messages,
)

__all__ = ["ESEN"]


@NETWORKS.register("esen")
class ESEN(nn.Module):
    """Equivariant smooth energy network; see the module for its equations.

    Published sizes, all with channels=128, hidden=128:

        eSEN-30M   layers=10, lmax=3, m_max=2, cutoff=6, n_basis=10
        small      layers=4,  lmax=2, m_max=2, cutoff=6, n_basis=64 (the backbone of UMA-S)

    Symmetry: rotations, exactly. With `chiral=False` the SO(2) layers keep the half of their
    matrices that respects reflections, and the network respects all of E(3). The published
    alternatives activation="sphere" and feed_forward="sphere" act on a grid on the sphere and are
    equivariant approximately; the errors are those of `EquiformerV2`.

    "1o" and other tensors in `irreps_out` are a linear map of the features at the end: direct
    forces, as in the published pre-training. They are no derivative of an energy.

    Differences from the released code: derivatives go through the frames, which are safe for every
    direction and not rolled at random; sums over neighbours are divided by
    sqrt(average_neighbors), where the code divides those of the edge-degree embedding by 5 and
    leaves those of messages; weights start with variance 1/fan-in and nonlinearities keep the
    second moment; scalars and vectors of nodes may be inputs.
    """

    cutoff: float = 6.0  # [Å]
    channels: int = 128
    lmax: int = 2
    m_max: int = 2  # largest order in the frames of edges
    layers: int = 4
    hidden: int = 128  # channels within layers and feed-forward networks
    edge_channels: int = 128
    n_basis: int = 64
    reach: float | None = None  # [Å] centre of the last Gaussian; the cutoff if None
    envelope: int = 5  # power of the polynomial
    activation: str = "gate"  # of messages; or "sphere"
    feed_forward: str = "spectral"  # or "sphere"
    grid_degree: int | None = None  # of quadratures on the sphere; 4 lmax + 2 if None
    chiral: bool = True  # tells mirror images apart, as published; False: E(3)
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # from the data

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        exact = ROW_ACTIVATIONS[self.activation].exact and FEED_FORWARDS[self.feed_forward].exact
        return ("SE(3)" if self.chiral else "E(3)") + ("" if exact else ", approximately")

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: no activation or feed-forward network of this name.
            ValueError: an output that these features cannot reach, an infinite cutoff without
                `reach`, or `elements` or `average_neighbors` not known yet.
        """
        scalars, tensors = natural_outputs(self.irreps_out, self.lmax)
        inputs = node_scalars(graph, self.elements, self.scalars, self.vectors)
        edges = edge_inputs(
            graph,
            inputs,
            lmax=self.lmax,
            cutoff=self.cutoff,
            n_basis=self.n_basis,
            envelope=self.envelope,
            reach=self.reach,
        )
        vectors, radial = node_vectors(graph, self.vectors), (self.edge_channels,) * 2
        count = neighbor_count(self.average_neighbors)
        invariants = EdgeInvariants(self.edge_channels, name="invariants")(edges, graph)
        x = NodeEmbedding(self.channels, self.lmax, name="embedding")(inputs, vectors)
        surroundings = EdgeDegree(self.channels, self.lmax, radial, name="edge_degree")
        x = x + surroundings(edges, invariants, graph) / sqrt(count)
        feed_forward = FEED_FORWARDS[self.feed_forward].make
        for i in range(self.layers):
            y = RMSNorm(name=f"norm_{i}")(x)
            rows, _ = self._message(f"message_{i}")(y, invariants, edges, graph)
            x = x + sum_messages(rows, edges, graph, m_max=self.m_max) / sqrt(count)
            y = RMSNorm(name=f"feed_forward_norm_{i}")(x)
            name = f"feed_forward_{i}"
            x = x + feed_forward(self.hidden, self.channels, self.grid_degree, name)(y)
        x = RMSNorm(name="norm")(x)
        out = {}
        if scalars:
            widths = (self.hidden, self.hidden, scalars)
            out[irrep(0)] = MLP(widths, True, name="scalars")(x[:, :1])
        if tensors:
            out |= LinearBlocks(tensors, name="tensors")(as_blocks(x))
        return in_order(out, self.irreps_out)

    def _message(self, name: str) -> SO2Message:
        return SO2Message(
            self.channels,
            self.hidden,
            self.lmax,
            self.m_max,
            (self.edge_channels,) * 2,
            activation=self.activation,
            grid_degree=self.grid_degree,
            parity="all" if self.chiral else "even",
            name=name,
        )
