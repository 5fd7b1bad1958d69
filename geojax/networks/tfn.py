"""Tensor Field Network: convolutions with steerable kernels, and nonlinearities of norms.

With f_i features of degrees l <= lmax and W steerable kernels (`nn.steerable`),

    f_i <- mean_j sum_k W^{lk}(x_ij) f_j^k + W_self^l f_i^l
    f_i <- f_i / |f_i| MLP(|f_i|)

and after the last convolution no nonlinearity of norms. Scalars of the output have two more layers.

References:
    Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff, Riley, "Tensor field networks", 2018,
    https://arxiv.org/abs/1802.08219, in the form that Fuchs et al. (SE(3)-Transformers, 2020) and
    Satorras et al. (EGNN, 2021) compare with.
"""

import math

import flax.linen as nn
from e3nn_jax import IrrepsArray

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import MLP, in_order, irrep, sum_divisor
from geojax.nn.norm_nonlinearity import NormNonlinearity
from geojax.nn.spherical_outputs import natural_outputs
from geojax.nn.steerable_convolution import (
    SteerableConvolution,
    edge_attributes,
    edge_envelope,
    node_blocks,
    steerable_edges,
)

__all__ = ["TFN"]


@NETWORKS.register("tfn")
class TFN(nn.Module):
    """Tensor Field Network; see the module for its equations.

    Symmetry: features have natural parity (-1)**l, and the default takes even paths only (l + k + J
    even), which keeps E(3). The published network takes all paths, which forgets parities: mirror
    images get different features. That is `chiral=True` here, equivariant under SE(3).

    Published: on charged particles (Satorras et al. 2021) the default sizes with `chiral=True`,
    `activation="relu"`, `scalars=("charges",)`, `vectors=("velocities",)` and `irreps_out="1o"`, of
    127,024 parameters; on QM9 layers=7, lmax=3, channels=32.

    Differences: an envelope and division by `average_neighbors` where the cutoff is finite;
    `activation="silu"` by default, since the slopes of "relu" jump, and with them forces;
    products and sums are normalised, which changes how training starts; norms are smooth
    at zero (`nn.norm_nonlinearity`); scalars are read out node by node, not after a maximum over
    the nodes.
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 16  # of every degree
    lmax: int = 1
    layers: int = 4  # convolutions, the last one makes the output
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
            KeyError: the graph has no input of a name.
            ValueError: an output that these features do not have, or `elements` or
                `average_neighbors` not known yet.
        """
        n_scalars, last = natural_outputs(self.irreps_out, self.lmax)
        hidden = {irrep(l): self.channels for l in range(self.lmax + 1)}
        if n_scalars:
            last = {irrep(0): self.channels * (self.lmax + 1), **last}
        attributes = edge_attributes(graph, self.edge_scalars, self.charge)
        envelope = edge_envelope(graph, self.cutoff, self.envelope)
        edges = steerable_edges(graph, self.lmax, attributes, envelope)
        neighbors = sum_divisor(graph, self.cutoff, self.average_neighbors)

        x = node_blocks(graph, self.elements, self.scalars, self.vectors)
        for i in range(self.layers):
            final = i == self.layers - 1
            x = SteerableConvolution(
                last if final else hidden,
                self.chiral,
                self.radial_width,
                self.activation,
                self.product,
                name=f"layer_{i}",
            )(x, edges, neighbors, graph)
            if not final:
                x = NormNonlinearity(self.activation, linear=True, name=f"norm_{i}")(x)
        if n_scalars:
            widths = (x[irrep(0)].shape[-1], n_scalars)
            x[irrep(0)] = MLP(widths, True, self.activation, name="readout")(x[irrep(0)])
        return in_order(x, self.irreps_out)
