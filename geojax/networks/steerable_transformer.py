"""Steerable Transformer on points: convolutions, attention with steerable positions, feed forward.

With C steerable convolutions (`nn.steerable_convolution`) and the layers of
`nn.steerable_transformer`, each after a norm N of the features,

    f <- C f,    f <- f + f ⊗ f,    f <- f + Attention(f),    f <- f + FeedForward(f)

The first convolution makes features of all degrees from the inputs. Scalars of the output have two
layers, other tensors one linear map.

References:
    Kundu, Kondor, "Steerable Transformers for volumetric data", 2024,
    https://arxiv.org/abs/2405.15932.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import MLP, Blocks, LinearBlocks, in_order, irrep, sum_divisor
from geojax.nn.spherical_outputs import natural_outputs
from geojax.nn.steerable_convolution import (
    SteerableConvolution,
    SteerableEdges,
    edge_attributes,
    edge_envelope,
    node_blocks,
    steerable_edges,
)
from geojax.nn.steerable_transformer import (
    NormFeedForward,
    PositionalAttention,
    SelfCoupling,
    SteerableNorm,
)

__all__ = ["SteerableTransformer"]


@NETWORKS.register("steerable-transformer")
class SteerableTransformer(nn.Module):
    """Steerable Transformer; see the module for its equations.

    Symmetry: features have natural parity (-1)**l, and the default takes even paths only, which
    keeps E(3); `chiral=True` takes all, which keeps SE(3) and tells mirror images apart.

    Differences: points in place of voxels, so that rotations are exact, not those of a grid alone;
    attention over the edges of the graph, all pairs where the cutoff is infinite; convolutions are
    those of Tensor Field Networks, with an envelope, and division by `average_neighbors`, where the
    cutoff is finite; what is repaired in the attention is in `nn.steerable_transformer`.
    """

    cutoff: float = math.inf  # [Å]
    nearest: int | None = None  # only so many nearest senders (not smooth: for point clouds)
    channels: int = 16  # of every degree
    lmax: int = 2
    layers: int = 3
    heads: int = 4
    factor: int = 4  # of the width of the feed forward
    chiral: bool = False  # odd paths too: SE(3) only
    radial_width: int = 32
    activation: str = "silu"  # of the radial networks and the readout; a name in ACTIVATIONS
    product: str = "auto"  # a name in PRODUCTS
    envelope: int = 6  # power of the polynomial, which is squared
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    charge: str | None = None  # node input [node]; its pair product is an edge attribute
    edge_scalars: tuple[str, ...] = ()  # edge inputs [edge] or [edge, d], invariant
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # under a finite cutoff; from the data

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.chiral else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: an output that these features do not have, channels that the heads cannot
                share, or `elements` or `average_neighbors` not known yet.
        """
        n_scalars, last = natural_outputs(self.irreps_out, self.lmax)
        attributes = edge_attributes(graph, self.edge_scalars, self.charge)
        # The nearest neighbours end at no radius.
        cutoff = self.cutoff if self.nearest is None else math.inf
        envelope = edge_envelope(graph, cutoff, self.envelope)
        edges = steerable_edges(graph, self.lmax, attributes, envelope)
        neighbors = sum_divisor(graph, cutoff, self.average_neighbors)

        x = node_blocks(graph, self.elements, self.scalars, self.vectors)
        for i in range(self.layers):
            x = self._layer(i, x, edges, neighbors, graph)
        x = SteerableNorm(name="norm")(x)
        out = LinearBlocks(last, name="output")(x)
        if n_scalars:
            widths = (self.channels, n_scalars)
            out[irrep(0)] = MLP(widths, True, self.activation, name="readout")(x[irrep(0)])
        return in_order(out, self.irreps_out)

    def _layer(
        self,
        number: int,
        x: Blocks,
        edges: SteerableEdges,
        neighbors: Float[Array, "#node 1"],
        graph: Graph,
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        widths = {irrep(l): self.channels for l in range(self.lmax + 1)}
        name = lambda part: f"{part}_{number}"
        normed = lambda part: SteerableNorm(name=name(f"{part}_norm"))(x)
        x = SteerableConvolution(
            widths,
            self.chiral,
            self.radial_width,
            self.activation,
            self.product,
            name=name("convolution"),
        )(x, edges, neighbors, graph)
        coupling = SelfCoupling(self.chiral, self.product, name=name("coupling"))
        x = _sum(x, coupling(normed("coupling")))
        attention = PositionalAttention(self.heads, self.radial_width, name=name("attention"))
        x = _sum(x, attention(normed("attention"), edges, graph))
        feed_forward = NormFeedForward(self.factor, name=name("feed_forward"))
        return _sum(x, feed_forward(normed("feed_forward")))


def _sum(
    one: Blocks, two: Mapping[Irrep, Float[Array, "node _ _"]]
) -> dict[Irrep, Float[Array, "node _ _"]]:
    return {i: block + two[i] for i, block in one.items()}
