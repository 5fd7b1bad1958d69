"""CGENN: messages between multivectors, by polynomials that every versor commutes with.

Nodes hold multivectors h_i of Cl(3): a scalar, a vector, a bivector and a trivector per channel.
With phi blocks (two) of linear map, gate, weighted geometric product and normalisation, a_ij
multivectors of edges (products of charges) and u the polynomial envelope:

    m_ij = phi_e(h_i - h_j, a_ij) u(|r_ij|)
    h_i <- h_i + phi_h(h_i, mean_j m_ij)

References:
    Ruhe, Brandstetter, Forré, "Clifford group equivariant neural networks", NeurIPS 2023,
    https://arxiv.org/abs/2305.11141, with the n-body network of the authors' code.
"""

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.clifford import cl, embed
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
    MultivectorLinear,
    MultivectorMLP,
    counts,
    in_order,
    multivector_blocks,
    node_scalars,
    node_vectors,
    polynomial_envelope,
    sum_divisor,
)

__all__ = ["CGENN"]

SPACE = cl(3)


class Layer(nn.Module):
    """One round of messages."""

    channels: int
    blocks: int
    modulo: int | None
    affine: bool

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "node 8 channel"],
        edges: Float[Array, "edge 8 _"],
        envelope: Float[Array, "edge"],
        neighbors: Float[Array, "#node 1 1"],
        graph: Graph,
    ) -> Float[Array, "node 8 channel"]:
        mlp = partial(MultivectorMLP, SPACE, self.channels, self.blocks, self.modulo, self.affine)
        difference = lambda x: from_receivers(x, graph) - from_senders(x, graph)
        m = mlp(name="message")((h, difference), edges) * envelope[:, None, None]
        return h + mlp(name="update")(h, to_receivers(m, graph) / neighbors)


@NETWORKS.register("cgenn")
class CGENN(nn.Module):
    """E(3)-equivariant network on multivectors; the defaults are its n-body configuration.

    Inputs of a node: the scalars that `node_scalars` reads, the vectors `vectors`, and, where the
    cutoff is infinite, the position relative to the mean of its graph. A mean of all positions
    would make an energy depend on atoms at any distance; with a finite cutoff the vector r_ij is an
    input of the edge instead, messages vanish smoothly at the cutoff (an addition to the paper) and
    their sum is divided by `average_neighbors`.

    The last linear map puts out whole multivectors, as published; the output takes the grades that
    `irreps_out` names: 0e, 1o, 1e (bivectors) and 0o (trivectors).
    """

    cutoff: float = math.inf  # [Å]
    channels: int = 28
    layers: int = 3
    blocks: int = 2  # of each phi
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    charge: str | None = None  # node input [node]; its pair product is an edge scalar
    envelope: int = 3  # power of the polynomial
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # from the data; for a finite cutoff

    modulo: ClassVar[int | None] = None  # own weights for every grade
    affine: ClassVar[bool] = True  # biases, and terms of first order in the products

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: an output that is no grade of a multivector.
        """
        width = self._width()
        vectors = edge_vectors(graph)
        envelope = polynomial_envelope(safe_norm(vectors), self.cutoff, self.envelope)
        edges = self._edges(graph, vectors)
        neighbors = sum_divisor(graph, self.cutoff, self.average_neighbors)[..., None]
        linear = partial(MultivectorLinear, SPACE, bias=self.affine, modulo=self.modulo)
        h = linear(channels=self.channels, shared=self.affine, name="embedding")(self._nodes(graph))
        for i in range(self.layers):
            layer = Layer(self.channels, self.blocks, self.modulo, self.affine, name=f"layer_{i}")
            h = layer(h, edges, envelope, neighbors, graph)
        h = linear(channels=width, name="projection")(h)
        return in_order(multivector_blocks(h), self.irreps_out)

    def _width(self) -> int:
        """The channels of the last multivectors."""
        widths = counts(self.irreps_out)
        if extra := [str(i) for i in widths if i.l > 1]:
            raise ValueError(
                "multivectors of three dimensions put out 0e, 1o, 1e and 0o; got irreps_out="
                f"{self.irreps_out!r} with {', '.join(extra)}; ask another network for tensors"
            )
        return max(widths.values())

    def _nodes(self, graph: Graph) -> Float[Array, "node 8 _"]:
        scalars = node_scalars(graph, self.elements, self.scalars)
        vectors = node_vectors(graph, self.vectors)
        if math.isinf(self.cutoff):
            vectors = jnp.concatenate([centered(graph)[..., None], vectors], -1)
        grades = [embed(scalars[:, None, :], SPACE, 0), embed(vectors, SPACE, 1)]
        return jnp.concatenate(grades, -1)

    def _edges(self, graph: Graph, vectors: Array) -> Float[Array, "edge 8 _"]:
        parts = [embed(jnp.zeros((*vectors.shape, 0), vectors.dtype), SPACE, 1)]
        if not math.isinf(self.cutoff):
            parts.append(embed(vectors[..., None], SPACE, 1))
        if self.charge:
            charge = node_scalars(graph, (), (self.charge,))[:, None, :]
            product = from_receivers(charge, graph) * from_senders(charge, graph)
            parts.append(embed(product, SPACE, 0))
        return jnp.concatenate(parts, -1)
