"""EquiformerV2: graph attention in the frames of edges, up to high degrees.

    x <- x + W attention(norm(x))
    x <- x + feed_forward(norm(x))

from an embedding of the species and an edge-degree embedding. Energies are a two-layer network on
the scalars at the end; other irreps come from one more attention, such as direct forces ("1o").

References:
    Liao, Wood, Das, Smidt, "EquiformerV2: Improved equivariant transformer for scaling to
    higher-degree representations", ICLR 2024, https://arxiv.org/abs/2306.12059.
"""

import flax.linen as nn
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import (
    FEED_FORWARDS,
    MLP,
    ROW_ACTIVATIONS,
    EdgeDegree,
    EdgeInputs,
    EdgeInvariants,
    Linear,
    LinearBlocks,
    NodeEmbedding,
    SeparableNorm,
    SO2Attention,
    as_blocks,
    edge_inputs,
    in_order,
    irrep,
    natural_outputs,
    neighbor_count,
    node_scalars,
    node_vectors,
)

__all__ = ["EquiformerV2"]


@NETWORKS.register("equiformer-v2")
class EquiformerV2(nn.Module):
    """Equivariant transformer; see the module for its equations.

    The published sizes are for 90 elements and direct forces (irreps_out="0e+1o"), with cutoff=12,
    n_basis=600, heads=8, activation="sphere", feed_forward="grid":

        31M   layers=8,  lmax=4, m_max=2
        83M   layers=12, lmax=6, m_max=2
        153M  layers=20, lmax=6, m_max=3

    Symmetry: rotations, exactly, with the gates. The published nonlinearities take values on a grid
    on the sphere, and what the grid does not resolve is aliased. The errors are those of forces,
    for rotations of an ethanol molecule and parameters as they start, as a share of the largest
    force (2 layers of 32 channels, mean over 8 rotations; training changes them):

        grid_degree    2 lmax    3 lmax    4 lmax + 2    6 lmax + 2    8 lmax
        lmax=2          29 %        6 %         0.5 %        0.05 %    0.03 %
        lmax=4          28 %        6 %         0.9 %         0.1 %    0.05 %

    With `chiral=False` the SO(2) layers keep the half of their matrices that respects reflections,
    and the network respects all of E(3).

    Differences from the released code: derivatives go through the frames, which are safe for every
    direction and not rolled at random; the attention and the edge-degree embedding vanish at the
    cutoff (an envelope is an addition) and nothing limits the number of neighbours; dropout of
    attention weights and paths is left out, since networks draw no random numbers; weights start
    with variance 1/fan-in and nonlinearities keep the second moment; parameters of the energy's
    last layer that have no effect are left out; scalars and vectors of nodes may be inputs.
    """

    cutoff: float = 5.0  # [Å]
    channels: int = 128
    lmax: int = 4
    m_max: int = 2  # largest order in the frames of edges
    layers: int = 4
    heads: int = 4
    hidden: int = 64  # channels inside a message
    alpha_channels: int = 64  # of a head's logit
    value_channels: int = 16  # of each head
    ffn_channels: int = 128  # hidden, of the feed-forward networks
    edge_channels: int = 128
    n_basis: int = 64
    reach: float | None = None  # [Å] centre of the last Gaussian; the cutoff if None
    envelope: int = 5  # power of the polynomial
    activation: str = "gate"  # of messages; "sphere" as published
    feed_forward: str = "gate"  # "grid" as published
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
        vectors = node_vectors(graph, self.vectors)
        x = NodeEmbedding(self.channels, self.lmax, name="embedding")(inputs, vectors)
        x = x + self._edge_degree(edges, graph)
        for i in range(self.layers):
            y = SeparableNorm(name=f"norm_{i}")(x)
            y = self._attention(f"attention_{i}")(y, edges, graph)
            x = x + Linear(self.channels, bias=True, name=f"projection_{i}")(y)
            y = SeparableNorm(name=f"feed_forward_norm_{i}")(x)
            x = x + self._feed_forward(f"feed_forward_{i}")(y)
        x = SeparableNorm(name="norm")(x)
        out = {}
        if scalars:
            out[irrep(0)] = MLP((self.ffn_channels, scalars), True, name="scalars")(x[:, :1])
        if tensors:
            y = as_blocks(self._attention("attention")(x, edges, graph))
            out |= LinearBlocks(tensors, name="tensors")(y)
        return in_order(out, self.irreps_out)

    def _edge_degree(self, edges: EdgeInputs, graph: Graph) -> Float[Array, "node m channel"]:
        radial = (self.edge_channels,) * 2
        invariants = EdgeInvariants(self.edge_channels, name="invariants")(edges, graph)
        degree = EdgeDegree(self.channels, self.lmax, radial, name="edge_degree")
        return degree(edges, invariants, graph) / neighbor_count(self.average_neighbors)

    def _attention(self, name: str) -> SO2Attention:
        return SO2Attention(
            self.heads,
            self.lmax,
            self.m_max,
            self.hidden,
            self.alpha_channels,
            self.value_channels,
            self.edge_channels,
            self.activation,
            self.grid_degree,
            "all" if self.chiral else "even",
            name=name,
        )

    def _feed_forward(self, name: str) -> nn.Module:
        make = FEED_FORWARDS[self.feed_forward].make
        return make(self.ffn_channels, self.channels, self.grid_degree, name)
