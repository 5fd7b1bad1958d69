"""MACE: messages are products of several neighbours at once, at the cost of one.

With h_i features up to degree L, Y harmonics up to lmax, b Bessel waves times an envelope:

    A_i = W2 [ sum_j (W1 h_j) ⊗ Y(r_ij) MLP(b(|r_ij|)) ] / average_neighbors
    m_i = W3 [ sum over v = 1 ... correlation of every equivariant polynomial of order v of A_i,
               channel by channel, with weights of the species of i ]
    h_i <- m_i + W_species(i) h_i

starting from an embedding of the species. The output is the sum of one readout per layer: a linear
one, and after the last layer a small network of its scalars.

References:
    Batatia, Kovács, Simm, Ortner, Csányi, "MACE: Higher order equivariant message passing neural
    networks for fast and accurate force fields", NeurIPS 2022, https://arxiv.org/abs/2206.07697.
"""

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors
from geojax.networks.network import NETWORKS
from geojax.nn import (
    MLP,
    Blocks,
    LinearBlocks,
    RadialBasis,
    SpeciesLinear,
    SymmetricContraction,
    as_blocks,
    convolve_blocks,
    counts,
    in_order,
    irrep,
    neighbor_count,
    one_hot_species,
    plan,
    weight_count,
)
from geojax.products import Contraction
from geojax.so3 import harmonics

__all__ = ["MACE"]

SCALAR = irrep(0)


class Layer(nn.Module):
    """One round of messages; puts out features up to degree `lmax_out`."""

    channels: int
    lmax: int
    lmax_out: int
    correlation: int
    residual: bool
    radial: tuple[int, ...]
    average_neighbors: float
    product: str
    contraction: Contraction

    @nn.compact
    def __call__(
        self,
        h: Blocks,
        y: Float[Array, "edge m 1"],
        waves: Float[Array, "edge rbf"],
        species: Float[Array, "node species"],
        graph: Graph,
    ) -> dict[Irrep, Array]:
        atomic = {irrep(l): self.channels for l in range(self.lmax + 1)}
        widths = {i: self.channels for i in h}
        parts = plan(widths, self.lmax, atomic)
        weights = MLP((*self.radial, weight_count(parts)), name="radial")(waves)
        sent = LinearBlocks(widths, name="linear_before")(h)
        sent = {i: block / self.average_neighbors for i, block in sent.items()}
        sums = convolve_blocks(sent, y, weights, graph, parts, method=self.product)
        sums = LinearBlocks(atomic, name="linear_after")(sums)
        if not self.residual:
            sums = SpeciesLinear(atomic, name="linear_species")(sums, species)

        a = jnp.concatenate([sums[i] for i in atomic], -2)
        contract = SymmetricContraction(
            self.lmax_out, self.correlation, self.contraction, name="contraction"
        )
        powers = as_blocks(contract(a, species))
        message = LinearBlocks(dict.fromkeys(powers, self.channels), name="linear_powers")(powers)
        if self.residual:
            own = SpeciesLinear(dict.fromkeys(powers, self.channels), name="self_connection")
            kept = own(h, species)
            message = {i: block + kept[i] if i in kept else block for i, block in message.items()}
        return message


@NETWORKS.register("mace")
class MACE(nn.Module):
    """E(3)-equivariant network with many-body messages; see the module for its equations.

    With `first_residual=False` a node without neighbours puts out exactly zero: isolated atoms have
    exactly their E0. The released code has True by default, where they get an energy by species.

    Sizes that were published: 2 layers, lmax 3, correlation 3, with 256 channels (rMD17, 3BPA), or
    128 channels and degrees `lmax_hidden` 0, 1 and 2 (the small, medium and large models of the
    Materials Project, cutoff 6 Å).

    The last layer computes only the degrees of the output.
    """

    cutoff: float = 5.0  # [Å]
    channels: int = 128
    lmax: int = 3  # of the harmonics and of A
    lmax_hidden: int = 1  # L, of the features that nodes send
    layers: int = 2
    correlation: int = 3  # order of the polynomials: 3 makes four-body messages
    first_residual: bool = False  # see above
    product: str = "auto"  # a name in PRODUCTS
    contraction: Contraction = "cg"  # or powers of signals, "gaunt"
    n_basis: int = 8
    envelope: int = 5  # power of the polynomial
    radial: tuple[int, ...] = (64, 64, 64)  # hidden widths of the radial networks
    readout: int = 16  # hidden width of the last readout
    irreps_out: str = "0e"
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # from the data

    group = "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: fields that contradict each other, an output that these features cannot
                reach, or `elements` or `average_neighbors` not known yet.
        """
        wanted = self._wanted()
        last = max(i.l for i in wanted)
        vectors = edge_vectors(graph)
        y = harmonics(vectors, self.lmax)[..., None]
        basis = RadialBasis(
            self.cutoff, self.n_basis, self.envelope, normalization="orthonormal", name="basis"
        )
        waves = basis(safe_norm(vectors))
        species = one_hot_species(graph, self.elements)
        embedding = LinearBlocks({SCALAR: self.channels}, name="embedding")
        h = embedding({SCALAR: species[:, None, :]})
        found: dict[Irrep, list[Array]] = {i: [] for i in wanted}
        for i in range(self.layers):
            is_last = i == self.layers - 1
            h = Layer(
                self.channels,
                self.lmax,
                last if is_last else self.lmax_hidden,
                self.correlation,
                i > 0 or self.first_residual,
                self.radial,
                neighbor_count(self.average_neighbors),
                self.product,
                self.contraction,
                name=f"layer_{i}",
            )(h, y, waves, species, graph)
            for target, block in self._readout(h, wanted, i, is_last).items():
                found[target].append(block)
        return in_order({i: sum(b[1:], b[0]) for i, b in found.items()}, self.irreps_out)

    def _readout(
        self, h: Blocks, wanted: dict[Irrep, int], number: int, is_last: bool
    ) -> dict[Irrep, Array]:
        """What a layer adds to the output."""
        linear = {i: width for i, width in wanted.items() if not (is_last and i == SCALAR)}
        out = LinearBlocks(linear, name=f"readout_{number}")(h)
        if is_last and SCALAR in wanted:
            network = MLP((self.readout, wanted[SCALAR]), name="readout")
            out[SCALAR] = network(h[SCALAR])
        return out

    def _wanted(self) -> dict[Irrep, int]:
        """The channels of each irrep of the output."""
        sizes = self.channels, self.layers, self.correlation
        if min(sizes) < 1 or not 0 <= self.lmax_hidden <= self.lmax:
            raise ValueError(
                "channels, layers and correlation are 1 or more, and 0 <= lmax_hidden <= lmax; got "
                f"channels={self.channels}, layers={self.layers}, correlation={self.correlation}, "
                f"lmax_hidden={self.lmax_hidden}, lmax={self.lmax}"
            )
        wanted = counts(self.irreps_out)
        inside = [irrep(l) for l in range(self.lmax + 1)]
        if not wanted or not set(wanted) <= set(inside):
            raise ValueError(
                f"an output is among the irreps inside, {', '.join(map(str, inside))}; got "
                f"irreps_out={self.irreps_out!r}; raise lmax (MACE has no pseudo-tensors)"
            )
        return wanted
