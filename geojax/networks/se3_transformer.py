"""SE(3)-Transformer: attention over neighbours with steerable kernels for keys and values.

Every layer is one of `nn.steerable_attention` and a nonlinearity of norms,

    f_i <- S [sum_j softmax_j(q_i · k_ij / sqrt(d)) v_ij, f_i]        f_i <- f_i / |f_i| s(|f_i|)

and a convolution of Tensor Field Networks, or one more attention, makes the output. Scalars of the
output have two more layers.

References:
    Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers: 3D roto-translation equivariant attention
    networks", NeurIPS 2020, https://arxiv.org/abs/2006.10503.
"""

import math
from collections.abc import Callable, Mapping

import flax.linen as nn
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import MLP, Blocks, in_order, irrep, sum_divisor
from geojax.nn.norm_nonlinearity import BiasedNorm, NormNonlinearity
from geojax.nn.spherical_outputs import natural_outputs
from geojax.nn.steerable_attention import SteerableAttention
from geojax.nn.steerable_convolution import (
    SteerableConvolution,
    SteerableEdges,
    edge_attributes,
    edge_envelope,
    node_blocks,
    steerable_edges,
)
from geojax.registry import did_you_mean

__all__ = ["SE3Transformer"]

NORMS: dict[str, Callable[..., nn.Module]] = {"layer": NormNonlinearity, "bias": BiasedNorm}


@NETWORKS.register("se3-transformer")
class SE3Transformer(nn.Module):
    """SE(3)-Transformer; see the module for its equations.

    Symmetry: features have natural parity (-1)**l, and the default takes even paths only (l + k + J
    even), which keeps E(3). The published network takes all paths, which forgets parities: mirror
    images get different features. That is `chiral=True` here, equivariant under SE(3).

    Published sizes, all with `chiral=True` and `activation="relu"`:

        charged particles (Satorras et al. 2021): the defaults, `scalars=("charges",)`,
            `vectors=("velocities",)`, `irreps_out="1o"`, `output_gain=0.01`
        charged particles (Fuchs et al. 2020): lmax=3, channels=8, divide=4, norm="bias",
            output="attention", relative="add", attentive_output=True
        QM9: layers=7, lmax=3, channels=32, divide=2, heads=8

    Differences: an envelope in the attention, and division by `average_neighbors` in the last
    convolution, where the cutoff is finite; `activation="silu"` by default, since the slopes of
    "relu" jump, and with them forces; norms are smooth at zero (`nn.norm_nonlinearity`); products
    are normalised, which changes how training starts; scalars are read out node by node, not after
    a pooling of the nodes; Satorras et al. keep the matrices S fixed, here they are trained.
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 21  # of every degree
    lmax: int = 2
    layers: int = 4  # of attention
    divide: int = 1  # keys and values have 1/divide of the channels
    heads: int = 1
    norm: str = "layer"  # nonlinearity: layer norm of the norms, or "bias": norms plus a bias
    output: str = "convolution"  # or "attention"
    attentive: bool = False  # self-interaction S by attention among channels
    attentive_output: bool = False  # the same in an output by attention
    relative: str = "none"  # "add" or "cat": edge vectors beside the vectors of senders
    output_gain: float | None = None  # start of a trained factor of the output
    chiral: bool = False  # odd paths too: SE(3) only
    radial_width: int = 32
    activation: str = "silu"  # a name in ACTIVATIONS
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
            KeyError: the graph has no input of a name, or an unknown `norm` or `output`.
            ValueError: an output that these features do not have, channels that the heads cannot
                share, or `elements` or `average_neighbors` not known yet.
        """
        n_scalars, last = natural_outputs(self.irreps_out, self.lmax)
        hidden = {irrep(l): self.channels for l in range(self.lmax + 1)}
        if n_scalars:
            last = {irrep(0): self.channels * (self.lmax + 1), **last}
        attributes = edge_attributes(graph, self.edge_scalars, self.charge)
        envelope = edge_envelope(graph, self.cutoff, self.envelope)
        edges = steerable_edges(graph, self.lmax, attributes, envelope)

        x = node_blocks(graph, self.elements, self.scalars, self.vectors)
        for i in range(self.layers):
            x = self._attention(hidden, self.divide, self.heads, self.attentive, f"layer_{i}")(
                x, edges, graph
            )
            x = _chosen("norm", NORMS, self.norm)(self.activation, name=f"norm_{i}")(x)
        outputs = {"convolution": self._convolved, "attention": self._attended}
        x = _chosen("output", outputs, self.output)(last, x, edges, graph)
        if n_scalars:
            widths = (x[irrep(0)].shape[-1], n_scalars)
            x[irrep(0)] = MLP(widths, True, self.activation, name="readout")(x[irrep(0)])
        if self.output_gain is None:
            return in_order(x, self.irreps_out)
        gain = self.param("output_gain", nn.initializers.constant(self.output_gain), ())
        return in_order(x, self.irreps_out) * gain.astype(graph.nodes["positions"].dtype)

    def _attention(
        self, widths: Mapping[Irrep, int], divide: int, heads: int, attentive: bool, name: str
    ) -> SteerableAttention:
        return SteerableAttention(
            widths,
            divide,
            heads,
            attentive,
            self.relative,
            self.chiral,
            self.radial_width,
            self.activation,
            self.product,
            name=name,
        )

    def _attended(
        self, widths: Mapping[Irrep, int], x: Blocks, edges: SteerableEdges, graph: Graph
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        """The output by attention, with one head: its channels are few."""
        layer = self._attention(widths, 1, 1, self.attentive_output, "output")
        return layer(x, edges, graph)

    def _convolved(
        self, widths: Mapping[Irrep, int], x: Blocks, edges: SteerableEdges, graph: Graph
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        layer = SteerableConvolution(
            widths, self.chiral, self.radial_width, self.activation, self.product, name="output"
        )
        neighbors = sum_divisor(graph, self.cutoff, self.average_neighbors)
        return layer(x, edges, neighbors, graph)


def _chosen(field: str, table: Mapping[str, Callable], name: str) -> Callable:
    if name not in table:
        raise KeyError(
            f"{field} is one of {', '.join(table)}; got {name!r}; {did_you_mean(name, table)}"
        )
    return table[name]
