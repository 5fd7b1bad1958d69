"""Iterative SE(3)-Transformer: blocks of attention that move the points and look at them again.

Each block is an SE(3)-Transformer with its own weights. After it every position moves by the first
vector among the features of its node, and edge vectors, harmonics and radial functions are computed
anew. Features are passed on from block to block. Derivatives flow through all of it:

    f <- block(f, x)        x_i <- x_i + f_i^{1o, first}

References:
    Fuchs, Wagstaff, Dauparas, Posner, "Iterative SE(3)-Transformers", 2021,
    https://arxiv.org/abs/2102.13419.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep, IrrepsArray

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.nn import MLP, in_order, irrep
from geojax.nn.norm_nonlinearity import BiasedNorm
from geojax.nn.spherical_outputs import natural_outputs
from geojax.nn.steerable_attention import SteerableAttention
from geojax.nn.steerable_convolution import (
    edge_attributes,
    edge_envelope,
    node_blocks,
    steerable_edges,
)

__all__ = ["IterativeSE3Transformer"]

SCALAR, VECTOR = irrep(0), irrep(1)


@NETWORKS.register("iterative-se3-transformer")
class IterativeSE3Transformer(nn.Module):
    """Iterative SE(3)-Transformer; see the module for its equations.

    The first "1o" of the output is how far the node moved, x_out - x; all else are features after
    the last block. An edge keeps the envelope of the length that it came with: who is a
    neighbour is decided by the input, and so is smooth there.

    Symmetry: features have natural parity (-1)**l, and the default takes even paths only, which
    keeps E(3); the published network takes all paths, `chiral=True` here, which keeps SE(3).

    Published: the defaults with `chiral=True`, `activation="relu"`, `irreps_out="1o"` and one edge
    input. There it was the pair's energy at the present positions; here edge inputs are constants,
    beside the length, which is not. Other differences are those of `SE3Transformer`.
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 4  # of every degree
    lmax: int = 2
    layers: int = 4  # of attention in each block
    iterations: int = 3  # blocks
    divide: int = 1  # keys and values have 1/divide of the channels
    heads: int = 1
    attentive: bool = False  # self-interaction by attention among channels
    relative: str = "add"  # edge vectors added to the vectors of senders; or "cat", "none"
    basis_gradients: bool = True  # False: directions are constants for derivatives
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

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.chiral else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: no features of degree 1, an output that these features do not have, channels
                that the heads cannot share, or `elements` not known yet.
        """
        n_scalars, last = self._outputs()
        hidden = {irrep(l): self.channels for l in range(self.lmax + 1)}
        attributes = edge_attributes(graph, self.edge_scalars, self.charge)
        envelope = edge_envelope(graph, self.cutoff, self.envelope)
        x = node_blocks(graph, self.elements, self.scalars, self.vectors)
        start = graph.nodes["positions"]
        for block in range(self.iterations):
            edges = steerable_edges(graph, self.lmax, attributes, envelope)
            if not self.basis_gradients:
                edges = edges._replace(harmonics=jax.lax.stop_gradient(edges.harmonics))
            for i in range(self.layers):
                x = self._attention(hidden, f"layer_{block}_{i}", self.divide, self.heads)(
                    x, edges, graph
                )
                x = BiasedNorm(self.activation, name=f"norm_{block}_{i}")(x)
            if block == self.iterations - 1:
                x = self._attention(last, "output", 1, 1)(x, edges, graph)
            if VECTOR in x:
                positions = graph.nodes["positions"] + x[VECTOR][..., 0]
                graph = graph._replace(nodes={**graph.nodes, "positions": positions})
        if VECTOR in x:
            moved = (graph.nodes["positions"] - start)[..., None]
            x[VECTOR] = jnp.concatenate([moved, x[VECTOR][..., 1:]], -1)
        if n_scalars:
            widths = (x[SCALAR].shape[-1], n_scalars)
            x[SCALAR] = MLP(widths, True, self.activation, name="readout")(x[SCALAR])
        return in_order(x, self.irreps_out)

    def _outputs(self) -> tuple[int, dict[Irrep, int]]:
        """The scalars of the output, and the channels of the last layer."""
        if self.lmax < 1 or self.iterations < 1:
            raise ValueError(
                "points move along features of degree 1, once for each of the iterations; got "
                f"lmax={self.lmax} and iterations={self.iterations}; use 1 or more"
            )
        n_scalars, last = natural_outputs(self.irreps_out, self.lmax)
        wide = {SCALAR: self.channels * (self.lmax + 1)} if n_scalars else {}
        return n_scalars, {**wide, **last}

    def _attention(
        self, widths: Mapping[Irrep, int], name: str, divide: int, heads: int
    ) -> SteerableAttention:
        return SteerableAttention(
            widths,
            divide,
            heads,
            self.attentive,
            self.relative,
            self.chiral,
            self.radial_width,
            self.activation,
            self.product,
            name=name,
        )
