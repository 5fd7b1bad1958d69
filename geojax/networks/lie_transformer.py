"""LieTransformer: self-attention among points that are lifted to a group of motions.

Each point x_i becomes the motions u = (x_i, R) with the rotations R of a finite group H, and
features f live on these: scalars repeated, and Rᵀ v of vectors v. One layer is

    w_uv = n[(q(f_u)·k(f_v) / sqrt(d)) ∘ phi(log(u⁻¹ v))]       f_u <- W_O sum_v w_uv W_V f_v

over all v at neighbours and at the point itself, with several heads (see `nn.lie_attention`), in
residual blocks with a layer norm before and a network of two layers after it. The combination ∘ is
a sum, a product or a network, and n divides by the number of v, or is a softmax. With H = {1},
log(u⁻¹ v) is x_j - x_i.

References:
    Hutchinson, Le Lan, Zaidi, Dupont, Teh, Kim, "LieTransformer: equivariant self-attention for Lie
    groups", ICML 2021, https://arxiv.org/abs/2012.10885, with the details of the authors' code.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors, graph_of_nodes, pool
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    LayerNorm,
    LieAttention,
    Lift,
    Pairs,
    Perceptron,
    in_order,
    irrep,
    lift_of,
    logarithms,
    natural_outputs,
    node_scalars,
    node_vectors,
    polynomial_envelope,
    rotation_group,
    sum_divisor,
)
from geojax.registry import Registry

__all__ = ["LieTransformer"]

LMAX = 2  # of outputs


READOUTS: Registry[Callable] = Registry("readout")


@READOUTS.register("node")
def of_nodes(h: Float[Array, "node channel"], graph: Graph) -> Float[Array, "node channel"]:
    """Each node's own."""
    del graph
    return h


@READOUTS.register("graph")
def of_graphs(h: Float[Array, "node channel"], graph: Graph) -> Float[Array, "node channel"]:
    """The mean over the nodes of a graph, at each of them."""
    return pool(h, graph, "mean")[graph_of_nodes(graph)]


@NETWORKS.register("lie-transformer")
class LieTransformer(nn.Module):
    """Self-attention on lifted points; see the module for its equations.

    Symmetry: translations and permutations are respected exactly. So are the rotations of the
    group H that points are lifted by (`symmetries`), and all others approximately. The errors are
    those of forces, for rotations of an ethanol molecule and parameters as they start, as a share
    of the largest force (2 layers of 32 channels, mean over 8 rotations; training changes them):

        lifts=1     nothing but translations: the published T(3)    118 %
        lifts=4     half-turns about the axes                        15 %
        lifts=12    tetrahedral group                                 2 %
        lifts=24    octahedral group                                0.4 %
        lifts=60    icosahedral group

    The published SE(3) lifts each point by a few random rotations, other ones at each call, and is
    equivariant in the mean over them. A network here is a function, the same at each call: of the
    sets of fixed rotations, whole groups are the ones that keep some symmetry exactly, and all
    their logarithms are constants, so that derivatives have no singularities.

    Published sizes: layers=5, channels=160 on T(3) for springs in a plane; 6 layers with 8 heads
    for QM9, with the mean over nodes (`readout="graph"`), on T(3) with rotated copies of the data,
    or on SE(3) with 4 lifts.

    Differences: every neighbour within the cutoff is attended to, where the published network
    draws 25 of them at random; scores times an envelope where the cutoff is finite, and divided
    by the mean number of neighbours, since that of each node jumps; scalars are read out node by
    node by default; vectors as inputs and outputs.
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 160
    layers: int = 5
    heads: int = 8
    lifts: int = 12  # rotations of every point: 1, 4, 12, 24, 60
    kernel_width: int = 16  # of the networks of logarithms
    combination: str = "sum"  # of content and location; or "product", "mlp"
    normalization: str = "count"  # or "softmax"
    readout: str = "node"  # "graph": of the mean over nodes; every node gets the result
    envelope: int = 6  # power of the polynomial
    irreps_out: str = "0e"  # natural, up to degree 2
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # under a finite cutoff; from the data

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "T(3)" if self.lifts == 1 else "approximately SE(3)"

    @property
    def symmetries(self) -> Float[np.ndarray, "symmetry 3 3"]:
        """Rotations that it keeps exactly, the identity first."""
        return rotation_group(self.lifts)

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name, or an unknown combination, normalization
                or readout.
            ValueError: `irreps_out` holds other irreps than 0e, 1o, 2e, no group has so many
                rotations, the heads do not share the channels evenly, or `elements` or
                `average_neighbors` not known yet.
        """
        n_scalars, tensors = natural_outputs(self.irreps_out, LMAX)
        lift = lift_of(self.lifts)
        pairs = self._pairs(graph, lift)
        f = Affine(self.channels, name="embedding")(*self._lifted(graph, lift))
        for i in range(self.layers):
            attention = LieAttention(
                self.heads,
                self.kernel_width,
                self.combination,
                self.normalization,
                name=f"attention_{i}",
            )
            f = f + attention(LayerNorm(name=f"norm_{i}_0")(f), pairs, graph)
            h = LayerNorm(name=f"norm_{i}_1")(f)
            h = nn.silu(Affine(self.channels, name=f"affine_{i}_0")(h))
            f = f + nn.silu(Affine(self.channels, name=f"affine_{i}_1")(h))
        blocks = self._tensors(tensors, f, lift) if tensors else {}
        if n_scalars:
            mean = READOUTS[self.readout](f.mean(1), graph)
            blocks[irrep(0)] = self._head(mean, n_scalars, "scalars")[:, None]
        return in_order(blocks, self.irreps_out)

    def _head(self, h: Float[Array, "*n channel"], width: int, name: str) -> Array:
        return Perceptron((self.channels, self.channels, width), name=name)(nn.silu(h))

    def _tensors(
        self, tensors: dict[Irrep, int], f: Float[Array, "node k channel"], lift: Lift
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        """The mean over rotations R of what they make of tensors t_R: R t_R, where l = 1."""
        columns = self._head(f, sum(i.dim * n for i, n in tensors.items()), "tensors")
        turns = so3.wigner_d(jnp.asarray(lift.rotations, f.dtype), LMAX)
        blocks, start = {}, 0
        for item, n in tensors.items():
            part = columns[..., start : start + item.dim * n]
            part = part.reshape(*f.shape[:2], item.dim, n)
            blocks[item] = jnp.einsum("kab,nkbc->nac", turns[item.l], part) / self.lifts
            start += item.dim * n
        return blocks

    def _lifted(self, graph: Graph, lift: Lift) -> list:
        """Scalars, the same for all rotations R, and Rᵀ v of vectors."""
        scalars = node_scalars(graph, self.elements, self.scalars)
        repeated = lambda h: jnp.broadcast_to(h[:, None], (h.shape[0], self.lifts, h.shape[1]))
        parts: list = [(scalars, repeated)]
        if self.vectors:
            v = node_vectors(graph, self.vectors)
            turned = jnp.einsum("kyx,nyd->nkxd", jnp.asarray(lift.rotations, v.dtype), v)
            parts.append(turned.reshape(*turned.shape[:2], -1))
        return parts

    def _pairs(self, graph: Graph, lift: Lift) -> Pairs:
        to_sender = -edge_vectors(graph)
        factor = polynomial_envelope(safe_norm(to_sender), self.cutoff, self.envelope)
        count = 1 + sum_divisor(graph, self.cutoff, self.average_neighbors)
        return Pairs(
            logarithms(to_sender, lift),
            logarithms(jnp.zeros((1, 3), to_sender.dtype), lift),
            factor.reshape(-1, 1, 1, 1),
            count.reshape(-1, 1, 1, 1),
        )
