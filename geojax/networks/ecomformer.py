"""eComFormer: scalars that once become vectors and tensors and back, to see angles in a crystal.

Between the first and the second round of messages between atoms (`nn.comformer`), with s_i scalars,
Y harmonics, and weights W that an MLP makes of the features of each edge,

    f_i^l = mean_j (W_l s_j) Y_l(r_ij),    f_i^0 += s_i
    t_i = mean_j sum_l W'_l f_j^l · Y_l(r_ij)
    x_i <- softplus(W softplus(norm(t_i))) + W'' x_i

every product with the weights that `o3.FullyConnectedTensorProduct` of e3nn gives its paths.

References:
    Yan, Fu, Qian, Qian, Ji, "Complete and efficient graph transformers for crystal material
    property prediction", ICLR 2024, https://arxiv.org/abs/2403.11857; and the authors' code.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.graphs import Graph, graph_of_nodes, volumes
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    ChannelAffine,
    CrystalHead,
    Expansion,
    GateAttention,
    LinearBlocks,
    Links,
    counts,
    edge_links,
    image_links,
    in_order,
    inverse_length,
    irrep,
    is_smooth,
    node_scalars,
    shortest_vectors,
    sum_divisor,
)

__all__ = ["EComFormer"]

SCALAR = irrep(0)


class EdgeMatrix(nn.Module):
    """A matrix [rows, columns] for each row of links, by an MLP of its features."""

    rows: int
    columns: int

    @nn.compact
    def __call__(self, e: Float[Array, "*n channel"]) -> Float[Array, "*n rows columns"]:
        """Divided by sqrt(rows), the number of terms of each sum."""
        hidden = jax.nn.softplus(Affine(e.shape[-1], name="hidden")(e))
        weights = Affine(self.rows * self.columns, name="weights")(hidden)
        return weights.reshape(*e.shape[:-1], self.rows, self.columns) / math.sqrt(self.rows)


class Raise(nn.Module):
    """f_i^l = mean_j (W_l s_j) Y_l(r_ij): from scalars to `widths[l]` channels of degree l."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(
        self,
        s: Float[Array, "node channel"],
        features: Sequence[Float[Array, "... _"]],
        links: Sequence[Links],
        neighbors: Float[Array, "#node 1"],
    ) -> list[Float[Array, "node _ _"]]:
        """`[node, 2l+1, widths[l]]` for each degree l."""
        matrix = EdgeMatrix(s.shape[-1], sum(self.widths), name="matrix")
        total = 0.0
        for kind, e in zip(links, features, strict=True):
            c = jnp.einsum("...u,...uv->...v", kind.senders(s), kind.spread(matrix(e)))
            sent, first = [], 0
            for y, width in zip(_harmonics(kind, len(self.widths) - 1), self.widths, strict=True):
                block = y[..., :, None] * c[..., None, first : first + width]
                sent.append(block.reshape(*c.shape[:-1], -1))
                first += width
            total = total + _sum(jnp.concatenate(sent, -1), kind)
        total, found, first = total / neighbors, [], 0
        for l, width in enumerate(self.widths):
            block = total[:, first : first + (2 * l + 1) * width]
            found.append(block.reshape(block.shape[0], 2 * l + 1, width))
            first += (2 * l + 1) * width
        return found


class Lower(nn.Module):
    """t_i = mean_j sum_l W_l f_j^l · Y_l(r_ij) / sqrt(2l+1): from all degrees to scalars."""

    width: int

    @nn.compact
    def __call__(
        self,
        f: Sequence[Float[Array, "node _ _"]],
        features: Sequence[Float[Array, "... _"]],
        links: Sequence[Links],
        neighbors: Float[Array, "#node 1"],
    ) -> Float[Array, "node width"]:
        """Of features of degree l = 0, 1, ..."""
        matrix = EdgeMatrix(sum(block.shape[-1] for block in f), self.width, name="matrix")
        total = 0.0
        for kind, e in zip(links, features, strict=True):
            along = [
                jnp.sum(kind.senders(block) * y[..., :, None], -2) / math.sqrt(y.shape[-1])
                for block, y in zip(f, _harmonics(kind, len(f) - 1), strict=True)
            ]
            c = jnp.concatenate(along, -1)
            sent = jnp.einsum("...u,...uv->...v", c, kind.spread(matrix(e)))
            total = total + _sum(sent, kind)
        return total / neighbors


def _harmonics(links: Links, lmax: int) -> list[Float[Array, "*message _"]]:
    """Y_l of the direction of each message, by degree."""
    y = links.spread(so3.harmonics(links.vectors, lmax))
    return [y[..., m] for m in so3.slices(lmax)]


def _sum(messages: Array, links: Links) -> Array:
    return links.collect(messages if links.weight is None else messages * links.weight)


class EquivariantBlock(nn.Module):
    """Up to degree `lmax` and back to scalars."""

    lmax: int
    scalar_channels: int
    tensor_channels: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "node channel"],
        features: Sequence[Float[Array, "... channel"]],
        links: Sequence[Links],
        neighbors: Float[Array, "#node 1"],
    ) -> Float[Array, "node channel"]:
        """The new features of the atoms."""
        width = x.shape[-1]
        s = Affine(self.scalar_channels, name="before")(x)
        widths = (self.scalar_channels, *[self.tensor_channels] * self.lmax)
        f = Raise(widths, name="raise")(s, features, links, neighbors)
        f[0] = f[0] + s[:, None]
        t = Lower(self.scalar_channels, name="lower")(f, features, links, neighbors)
        t = jax.nn.softplus(ChannelAffine(name="norm")(t))
        return jax.nn.softplus(Affine(width, name="after")(t)) + Affine(width, name="skip")(x)


@NETWORKS.register("ecomformer")
class EComFormer(nn.Module):
    """Network for crystals by distances and directions.

    Its group is E(3), not SE(3) as published: all products are of natural parity, so mirror images
    are alike (`icomformer` tells them apart).

    Published: the released code has 5 583 809 parameters, as here with 92 elements. The paper's
    model of 12.4 M is not released; `scalar_channels=128` makes 12.5 M. Elements are one-hot in
    place of the table of 92 features, and see `IComFormer` for the published graph. Without
    `lattice_edges` the cell has no other part than to repeat the atoms: then a supercell is the
    same as its crystal, and slabs and molecules are welcome.

    Where the cutoff is smooth, means over neighbours are sums divided by `average_neighbors`.

    Outputs that are no scalars are ours: one more f^l = mean_j (W_l s_j) Y_l(r_ij) of the last
    features, and a linear map, at each node; their mean is the tensor of a crystal. Scalars are of
    the whole crystal, or with `readout="node"` of each node too.
    """

    cutoff: float = 5.0  # [Å]
    nearest: int | None = None  # only so many nearest senders (not smooth)
    channels: int = 256
    lmax: int = 2
    layers: int = 3  # rounds of messages between atoms
    scalar_channels: int = 64  # inside the equivariant block, degree 0
    tensor_channels: int = 8  # higher degrees
    n_basis: int = 256
    envelope: int = 6  # power of the polynomial
    lattice_edges: bool = True  # from each atom to itself along the lattice vectors
    readout: str = "graph"  # or "node"; of scalars
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # invariant node inputs [node] or [node, d]
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # from the data

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: the output has pseudo-tensors, or `elements` or `average_neighbors` are not
                known yet.
        """
        links = [edge_links(graph, self.cutoff, self.nearest, self.envelope)]
        if self.lattice_edges:
            cell = graph.globals["cell"].astype(graph.nodes["positions"].dtype)
            links.append(image_links(graph, shortest_vectors(cell)))
        neighbors = self._neighbors(graph)
        length = Expansion(-4.0, 0.0, self.n_basis, self.channels, name="length")
        features = [length(inverse_length(kind.vectors)) for kind in links]
        x = node_scalars(graph, self.elements, self.scalars)
        x = Affine(self.channels, name="embedding")(x)
        for i in range(self.layers):
            x = GateAttention(name=f"layer_{i}")(x, features, links)
            if i == 0:
                x = EquivariantBlock(
                    self.lmax, self.scalar_channels, self.tensor_channels, name="equivariant"
                )(x, features, links, neighbors)
        return self._outputs(x, features, links, neighbors, graph)

    def _neighbors(self, graph: Graph) -> Float[Array, "#node 1"]:
        """By how many messages the sums are divided."""
        smooth = is_smooth(self.cutoff, self.nearest)
        count = sum_divisor(graph, self.cutoff if smooth else math.inf, self.average_neighbors)
        if self.lattice_edges:
            crystal = (volumes(graph) > 0).astype(count.dtype)
            count = count + 6 * crystal[graph_of_nodes(graph)][:, None]
        return count

    def _outputs(
        self,
        x: Float[Array, "node channel"],
        features: Sequence[Array],
        links: Sequence[Links],
        neighbors: Array,
        graph: Graph,
    ) -> IrrepsArray:
        widths = counts(self.irreps_out)
        if wrong := [str(i) for i in widths if i.p != (-1) ** i.l]:
            raise ValueError(
                "eComFormer's features have natural parity, as 0e, 1o and 2e; got irreps_out="
                f"{self.irreps_out!r} with {', '.join(wrong)}; ask for natural parity"
            )
        blocks: dict[Irrep, Array] = {}
        if SCALAR in widths:
            found = CrystalHead(widths[SCALAR], self.readout, name="head")(x, graph)
            blocks[SCALAR] = found[:, None]
        degrees = {i.l: i for i in widths if i != SCALAR}
        if degrees:
            wanted = [self.tensor_channels if l in degrees else 0 for l in range(max(degrees) + 1)]
            s = Affine(self.scalar_channels, name="before_tensors")(x)
            f = Raise(tuple(wanted), name="tensors")(s, features, links, neighbors)
            tensors = {i: f[l] for l, i in degrees.items()}
            blocks |= LinearBlocks({i: widths[i] for i in tensors}, name="output")(tensors)
        return in_order(blocks, self.irreps_out)
