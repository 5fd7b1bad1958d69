"""iComFormer: distances, and angles with the lattice, tell crystals and their mirror images apart.

Edges start from their length, e_ij = expand(-0.75 / |r_ij|), and attend once to the three shortest
vectors e_1, e_2, e_3 of the lattice, in right-handed order, with l_a = expand(-0.75 / |e_a|) and
c_a = expand(cos angle(e_a, r_ij)):

    e_ij <- softplus(e_ij + norm(sum_a W_o m_a))
    m_a = MLP_v(W_v e_ij, W_va l_a, W_c c_a)
          sigmoid(norm(W_q e_ij ⊙ MLP_k(W_k e_ij, W_ka l_a, W_c c_a) / sqrt(channels)))

between the first and the second round of messages between atoms (`nn.comformer`).

References:
    Yan, Fu, Qian, Qian, Ji, "Complete and efficient graph transformers for crystal material
    property prediction", ICLR 2024, https://arxiv.org/abs/2403.11857; and the authors' code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import unit
from geojax.graphs import Graph, volumes
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    ChannelAffine,
    CrystalHead,
    Expansion,
    GateAttention,
    GatedMessage,
    Links,
    edge_links,
    image_links,
    inverse_length,
    node_scalars,
    shortest_vectors,
)

__all__ = ["IComFormer"]


class LatticeAttention(nn.Module):
    """Each row of links attends to the three lattice vectors."""

    @nn.compact
    def __call__(
        self,
        e: Float[Array, "*row channel"],
        lengths: Float[Array, "... 3 channel"],
        angles: Float[Array, "*row 3 channel"],
        crystal: Float[Array, "... 1 1"],
    ) -> Float[Array, "*row channel"]:
        """The new features of the rows.

        Args:
            e: features of the rows.
            lengths: features of the lengths of e1, e2, e3.
            angles: features of their angles with the link.
            crystal: 1, or 0 where there is no lattice: then the sum over its vectors is empty.
        """
        width = e.shape[-1]
        wide = lambda x: x[..., None, :]
        query, key, value = (Affine(width, name=n)(e) for n in ("query", "key", "value"))
        each = lambda name: jnp.stack(
            [Affine(width, name=f"{name}_{a + 1}")(lengths[..., a, :]) for a in range(3)], -2
        )
        angles = Affine(width, bias=False, name="angle")(angles)
        sent = GatedMessage(name="message")(
            wide(query), ((key, wide), each("key"), angles), ((value, wide), each("value"), angles)
        )
        total = jnp.sum(Affine(width, name="out")(sent) * crystal, -2)
        return jax.nn.softplus(e + ChannelAffine(name="norm")(total))


@NETWORKS.register("icomformer")
class IComFormer(nn.Module):
    """SE(3)-invariant network for crystals.

    Published, with one-hot elements in place of their table of 92 features of the elements (the
    same linear layer; the table comes with no package that geojax uses):

        4 layers   4 966 497 parameters, of which 74 080 are never read (an embedding of 3 x 32 and
                   a linear layer from 288 to 256); without them 4 892 417, as here with 92 elements
        3 layers   the same without one round of messages, 855 296 parameters less

    The published graph is `nearest=25` with a cutoff that is long enough to reach as many (12 Å).
    It differs in three ways. Atoms just as far as the 25th are all in it; here 25 are, and which of
    the last shell is decided by rounding: in crystals of high symmetry the prediction then depends
    on their orientation. A pair is joined both ways if either has the other among its nearest; here
    each atom hears its own nearest. And edges from an atom to its own images count twice. Without
    `nearest`, all atoms within the cutoff are heard, and everything is smooth.

    The lattice vectors are those of the cell: a primitive cell and a supercell of one crystal are
    different inputs, and different cells of one lattice are the same (but see `nn.lattice` for
    vectors of one length). A structure without a cell has no lattice: the terms of its vectors
    vanish, what is left are distances, and mirror images are alike. All three vectors of a cell
    count, so it is no network for slabs. Predictions jump where a strain makes another vector the
    shortest.

    The output is of the whole crystal, the same for all its nodes: take its mean as a target. With
    `readout="node"` it is of each node, for energies.
    """

    cutoff: float = 5.0  # [Å]
    nearest: int | None = None  # only so many nearest senders (not smooth)
    channels: int = 256
    layers: int = 4  # rounds of messages between atoms
    n_basis: int = 256
    envelope: int = 6  # power of the polynomial
    lattice_edges: bool = True  # from each atom to itself along the lattice vectors
    readout: str = "graph"  # or "node"
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # invariant node inputs [node] or [node, d]
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: the output is not made of scalars, or the elements are not known yet.
        """
        if any(item.ir != Irrep(0, 1) for item in Irreps(self.irreps_out)):
            raise ValueError(
                "iComFormer has invariant features and puts out scalars, as in '0e' or '14x0e'; "
                f"got irreps_out={self.irreps_out!r}; ecomformer puts out vectors and tensors"
            )
        dtype = graph.nodes["positions"].dtype
        lattice = shortest_vectors(graph.globals["cell"].astype(dtype))
        links = [edge_links(graph, self.cutoff, self.nearest, self.envelope)]
        if self.lattice_edges:
            links.append(image_links(graph, lattice))
        length = Expansion(-4.0, 0.0, self.n_basis, self.channels, name="length")
        features = [length(inverse_length(kind.vectors)) for kind in links]
        x = node_scalars(graph, self.elements, self.scalars)
        x = Affine(self.channels, name="embedding")(x)
        for i in range(self.layers):
            x = GateAttention(name=f"layer_{i}")(x, features, links)
            if i == 0:
                features = self._seen_from_lattice(features, links, lattice, length, graph)
        return IrrepsArray(
            self.irreps_out,
            CrystalHead(Irreps(self.irreps_out).dim, self.readout, name="head")(x, graph),
        )

    def _seen_from_lattice(
        self,
        features: list[Array],
        links: list[Links],
        lattice: Float[Array, "graph 3 3"],
        length: Expansion,
        graph: Graph,
    ) -> list[Array]:
        """The features of links after they have attended to the lattice."""
        angle = Expansion(-1.0, 1.0, self.n_basis, self.channels, name="angle")
        attention = LatticeAttention(name="lattice")
        lengths, axes = length(inverse_length(lattice)), unit(lattice)
        crystal = (volumes(graph) > 0).astype(lattice.dtype)[:, None, None]
        found = []
        for kind, e in zip(links, features, strict=True):
            cosine = jnp.sum(kind.of_graphs(axes) * unit(kind.vectors)[..., None, :], -1)
            at_rows = (kind.of_graphs(lengths), angle(cosine), kind.of_graphs(crystal))
            found.append(attention(e, *at_rows))
        return found
