"""SEGNN: messages and updates are small steerable networks, conditioned on geometric attributes.

A layer is a matrix after the tensor product with an attribute, W (x ⊗ a) + b with a bias on scalars
alone, and a gate g: SiLU on scalars, and a sigmoid of one scalar times each channel of l > 0. With
Y harmonics of a direction (of norm one on the sphere), c_ij other scalars of the edge (products of
charges), u an envelope:

    a_ij = Y(r_ij),  a_i = mean over j of a_ij + sum of Y(v_i), whose scalar is one
    m_ij = u(|r_ij|) g(W2 (g(W1 ((x_i, x_j, |r_ij|, c_ij) ⊗ a_ij)) ⊗ a_ij))
    x_i <- x_i + W4 (g(W3 ((x_i, sum_j m_ij) ⊗ a_i)) ⊗ a_i)

The embedding is one layer, the output two, each with a_i.

References:
    Brandstetter, Hesselink, van der Pol, Bekkers, Welling, "Geometric and physical quantities
    improve E(3) equivariant message passing", ICLR 2022, https://arxiv.org/abs/2110.02905.
    The authors' code subtracts from each position the mean of its own three coordinates, which is
    not equivariant; here `centered` subtracts the mean over nodes, as in the paper. The envelope is
    ours, and with it the mean becomes a sum over the average number of neighbours. Their
    normalisations over batches or graphs, none of which the n-body network has, are left out.
"""

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    centered,
    edge_vectors,
    from_receivers,
    from_senders,
    to_receivers,
)
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    activate,
    counts,
    in_order,
    irrep,
    node_scalars,
    node_vectors,
    polynomial_envelope,
    sum_divisor,
)
from geojax.products import tensor_product

__all__ = ["SEGNN"]


def attributes(vectors: Float[Array, "*n xyz"], lmax: int) -> Float[Array, "*n m"]:
    """Harmonics of the directions, of norm one on the sphere."""
    return so3.harmonics(vectors, lmax) / math.sqrt(4 * math.pi)


def coupled(
    x: Float[Array, "row _ channel"], a: Float[Array, "row m"], lmax: int, method: str
) -> dict[int, Float[Array, "row _ _"]]:
    """x ⊗ a, for each degree up to lmax that it has `[row, 2l+1, paths times channels]`.

    Three rows of x are degree 1 without degree 0.
    """
    alone = x.shape[-2] == 3
    x = jnp.pad(x, ((0, 0), (1, 0), (0, 0))) if alone else x
    kept = tensor_product(x, a[..., None], lmax=lmax, method=method, paths="keep")
    found: list[list[Array]] = [[] for _ in range(lmax + 1)]
    start = 0
    for path in so3.paths(so3.degree(x), math.isqrt(a.shape[-1]) - 1, lmax):
        stop = start + 2 * path.l3 + 1
        if not (alone and path.l1 == 0):
            found[path.l3].append(kept[:, start:stop])
        start = stop
    return {l: jnp.concatenate(blocks, -1) for l, blocks in enumerate(found) if blocks}


class Steerable(nn.Module):
    """W (x ⊗ a) + b, with `widths[l]` channels of degree l; a degree without paths is zero."""

    widths: tuple[int, ...]
    product: str

    @nn.compact
    def __call__(
        self, a: Float[Array, "row m"], *parts: Float[Array, "row _ _"]
    ) -> list[Float[Array, "row _ _"]]:
        """Of the parts side by side, each with channels of its own; an array for each degree."""
        lmax, out = len(self.widths) - 1, []
        found = [coupled(part, a, lmax, self.product) for part in parts]
        for l, width in enumerate(self.widths):
            blocks = [blocks[l] for blocks in found if l in blocks]
            if blocks and width:
                out.append(Affine(width, bias=l == 0, name=f"degree_{l}")(*blocks))
            else:
                out.append(jnp.zeros((a.shape[0], 2 * l + 1, width), a.dtype))
        return out


class Gated(nn.Module):
    """A steerable layer and a gate: features of `channels` up to degree lmax."""

    channels: int
    lmax: int
    product: str

    @nn.compact
    def __call__(
        self, a: Float[Array, "row m1"], *parts: Float[Array, "row _ _"]
    ) -> Float[Array, "row m channel"]:
        """Of the parts side by side."""
        width = self.channels
        widths = ((1 + self.lmax) * width, *[width] * self.lmax)
        x = Steerable(widths, self.product, name="linear")(a, *parts)
        rows = [activate(x[0][..., :width], "silu")]
        gates = activate(x[0][..., width:], "sigmoid")
        for l in range(1, self.lmax + 1):
            rows.append(x[l] * gates[..., (l - 1) * width : l * width])
        return jnp.concatenate(rows, -2)


class Features(nn.Module):
    """A steerable layer without a gate: features of `channels` up to degree lmax."""

    channels: int
    lmax: int
    product: str

    @nn.compact
    def __call__(
        self, a: Float[Array, "row m1"], *parts: Float[Array, "row _ _"]
    ) -> Float[Array, "row m channel"]:
        """Of the parts side by side."""
        widths = (self.channels,) * (self.lmax + 1)
        x = Steerable(widths, self.product, name="linear")(a, *parts)
        return jnp.concatenate(x, -2)


class Layer(nn.Module):
    """One round of messages."""

    channels: int
    lmax: int
    product: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "node m channel"],
        of_edges: Float[Array, "edge m1"],
        of_nodes: Float[Array, "node m1"],
        scalars: Float[Array, "edge 1 d"],
        factor: Float[Array, "edge 1 1"],
        graph: Graph,
    ) -> Float[Array, "node m channel"]:
        """Of features, attributes, and the scalars and the envelope of edges."""
        gated = partial(Gated, self.channels, self.lmax, self.product)
        ends = (from_receivers(x, graph), from_senders(x, graph))
        message = gated(name="message_0")(of_edges, *ends, scalars)
        message = gated(name="message_1")(of_edges, message) * factor
        update = gated(name="update_0")(of_nodes, x, to_receivers(message, graph))
        last = Features(self.channels, self.lmax, self.product, name="update_1")
        return x + last(of_nodes, update)


@NETWORKS.register("segnn")
class SEGNN(nn.Module):
    """E(3)-equivariant network of steerable features; see the module for its equations.

    The published n-body network is the default with velocities, charges and `centered`: 147 424
    parameters. "64 features" in the paper are those of an invariant network with as many weights:
    32 channels of degree 0 and 1.

    Inputs of a node: the one-hot species (where there is more than one, or nothing else), the
    arrays `scalars`, and the arrays `vectors`, whose lengths are scalars and whose directions are
    in a_i too. An atom without neighbours has an energy of its own.
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 32  # of every degree
    lmax: int = 1
    lmax_attributes: int = 1  # largest degree of the attributes
    layers: int = 4
    product: str = "auto"  # a name in PRODUCTS
    envelope: int = 6  # power of the polynomial
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    charge: str | None = None  # node input [node]; its pair product is a scalar of the edge
    centered: bool = False  # positions from the mean of the graph are an input vector: not local
    irreps_out: str = "0e"  # of natural parity
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # under a finite cutoff; from the data

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: `irreps_out` cannot be reached, `elements` or (with a finite cutoff)
                `average_neighbors` are not known yet.
        """
        self._check()
        vectors = edge_vectors(graph)
        r = safe_norm(vectors)
        factor = polynomial_envelope(r, self.cutoff, self.envelope)
        of_edges = attributes(vectors, self.lmax_attributes)
        of_nodes = self._node_attributes(of_edges, factor, graph)
        scalars = self._edge_scalars(r, graph)
        shape = (self.channels, self.lmax, self.product)
        x = Features(*shape, name="embedding")(of_nodes, *self._inputs(graph))
        for i in range(self.layers):
            layer = Layer(*shape, name=f"layer_{i}")
            x = layer(x, of_edges, of_nodes, scalars, factor[:, None, None], graph)
        x = Gated(*shape, name="readout_0")(of_nodes, x)
        widths = counts(self.irreps_out)
        by_degree = {i.l: width for i, width in widths.items()}
        padded = tuple(by_degree.get(l, 0) for l in range(max(by_degree) + 1))
        out = Steerable(padded, self.product, name="readout_1")(of_nodes, x)
        return in_order({irrep(l): block for l, block in enumerate(out)}, self.irreps_out)

    def _check(self) -> None:
        top = self.lmax + self.lmax_attributes
        wanted = {item.ir for item in Irreps(self.irreps_out)}
        if not wanted <= {irrep(l) for l in range(top + 1)}:
            raise ValueError(
                f"SEGNN puts out irreps of natural parity up to degree lmax + lmax_attributes = "
                f"{top}; got irreps_out={self.irreps_out!r}; raise a degree, or take nequip for "
                "pseudo-tensors"
            )

    def _node_attributes(
        self, of_edges: Float[Array, "edge m1"], factor: Float[Array, "edge"], graph: Graph
    ) -> Float[Array, "node m1"]:
        total = to_receivers(of_edges * factor[:, None], graph)
        a = total / sum_divisor(graph, self.cutoff, self.average_neighbors)
        given = node_vectors(graph, self.vectors)
        for i in range(len(self.vectors)):
            a = a + attributes(given[..., i], self.lmax_attributes)
        return jnp.concatenate([jnp.ones_like(a[:, :1]), a[:, 1:]], -1)

    def _edge_scalars(self, r: Float[Array, "edge"], graph: Graph) -> Float[Array, "edge 1 d"]:
        parts = [r[:, None]]
        if self.charge:
            charge = node_scalars(graph, (), (self.charge,))
            parts.append(from_receivers(charge, graph) * from_senders(charge, graph))
        return jnp.concatenate(parts, -1)[:, None, :]

    def _inputs(self, graph: Graph) -> list[Float[Array, "node _ _"]]:
        """Scalars as degree 0, vectors as degree 1."""
        parts = [node_scalars(graph, self.elements, self.scalars, self.vectors)[:, None, :]]
        vectors = node_vectors(graph, self.vectors)
        if self.centered:
            vectors = jnp.concatenate([vectors, centered(graph)[..., None]], -1)
        return parts if vectors.shape[-1] == 0 else [*parts, vectors]
