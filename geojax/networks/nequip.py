"""NequIP: messages are tensor products of neighbours' features with the direction to them.

With x_i features of degrees l <= lmax, Y harmonics, b Bessel waves times an envelope:

    m_i = sum_j (W1 x_j) ⊗ Y(r_ij) MLP(b(|r_ij|)) / sqrt(average_neighbors)
    x_i <- gate(W2 m_i + W_species(i) x_i)

starting from an embedding of the species; the first layer has no self-connection. The output is two
linear layers on the result. There is no bias anywhere and every nonlinearity is zero at zero, so a
node without neighbours puts out exactly zero.

References:
    Batzner, Musaelian, Sun, Geiger, Mailoa, Kornbluth, Molinari, Smidt, Kozinsky, "E(3)-equivariant
    graph neural networks for data-efficient and accurate interatomic potentials", Nature
    Communications 13, 2453 (2022), https://doi.org/10.1038/s41467-022-29939-5.
"""

from collections.abc import Mapping
from math import sqrt

import flax.linen as nn
from e3nn_jax import Irrep, Irreps, IrrepsArray
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
    convolve_blocks,
    counts,
    gate,
    gate_widths,
    in_order,
    irrep,
    neighbor_count,
    one_hot_species,
    plan,
    weight_count,
)
from geojax.so3 import harmonics

__all__ = ["NequIP"]

SCALAR = irrep(0)


class Layer(nn.Module):
    """One round of messages; of `widths`, what can be reached is put out."""

    widths: Mapping[Irrep, int]
    lmax: int
    chiral: bool
    self_connection: bool
    radial: tuple[int, ...]
    average_neighbors: float
    product: str

    @nn.compact
    def __call__(
        self,
        x: Blocks,
        y: Float[Array, "edge m 1"],
        waves: Float[Array, "edge rbf"],
        species: Float[Array, "node species"],
        graph: Graph,
    ) -> dict[Irrep, Array]:
        channels = {i: block.shape[-1] for i, block in x.items()}
        parts = plan(channels, self.lmax, gate_widths(self.widths), chiral=self.chiral)
        weights = MLP((*self.radial, weight_count(parts)), name="radial")(waves)
        sent = LinearBlocks(channels, name="linear_before")(x)
        sent = {i: block / sqrt(self.average_neighbors) for i, block in sent.items()}
        sums = convolve_blocks(sent, y, weights, graph, parts, method=self.product)

        widths = {i: width for i, width in self.widths.items() if i in sums}
        update = LinearBlocks(gate_widths(widths), name="linear_after")(sums)
        if self.self_connection:
            own = SpeciesLinear(gate_widths(widths), name="self_connection")(x, species)
            update = {i: block + own[i] if i in own else block for i, block in update.items()}
        return gate(update, widths)


@NETWORKS.register("nequip")
class NequIP(nn.Module):
    """E(3)-equivariant network by tensor products; see the module for its equations.

    Symmetry: with `parity`, features of both parities (natural and pseudo-tensors) and every path
    between them. Without it natural parity (-1)**l only: still equivariant under all of E(3), and
    fewer paths. The published `parity: false` is something else: it forgets parities, so that odd
    paths (cross products) join the even ones in one array and mirror images get different
    energies; that is `parity=False, chiral=True` here, equivariant under SE(3).

    Published sizes (all with `parity=False, chiral=True`) are

        S   layers=2, lmax=1, channels=(128, 64)
        M   layers=4, lmax=2, channels=(128, 64, 32)
        L   layers=6, lmax=3, channels=(128, 64, 32, 32)
        XL  layers=6, lmax=4, channels=(320, 96, 64, 32, 32)

    The last layer computes only the irreps of the output.
    """

    cutoff: float = 5.0  # [Å]
    channels: int | tuple[int, ...] = 32  # of every degree, or of each
    lmax: int = 1
    layers: int = 4
    parity: bool = True  # pseudo-tensors too
    chiral: bool = False  # without parity: odd paths too, SE(3) only
    product: str = "auto"  # a name in PRODUCTS
    n_basis: int = 8
    trainable_basis: bool = False  # the frequencies of the waves, as published
    envelope: int = 6  # power of the polynomial
    radial_layers: int = 2  # hidden, of the radial networks
    radial_width: int = 64
    irreps_out: str = "0e"
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # from the data

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.chiral else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: fields that contradict each other, an output that these features cannot
                reach, or `elements` or `average_neighbors` not known yet.
        """
        hidden, last = self._widths()
        vectors = edge_vectors(graph)
        y = harmonics(vectors, self.lmax)[..., None]
        basis = RadialBasis(self.cutoff, self.n_basis, self.envelope, self.trainable_basis)
        waves = basis(safe_norm(vectors))
        species = one_hot_species(graph, self.elements)
        x = {SCALAR: species[:, None, :]}
        x = LinearBlocks({SCALAR: hidden[SCALAR]}, name="embedding")(x)
        for i in range(self.layers):
            x = Layer(
                hidden if i < self.layers - 1 else last,
                self.lmax,
                self.chiral,
                i > 0,
                (self.radial_width,) * self.radial_layers,
                neighbor_count(self.average_neighbors),
                self.product,
                name=f"layer_{i}",
            )(x, y, waves, species, graph)
        return self._readout(x)

    def _widths(self) -> tuple[dict[Irrep, int], dict[Irrep, int]]:
        """The channels of each irrep inside, and after the last layer."""
        count = self.lmax + 1
        channels = (self.channels,) * count if isinstance(self.channels, int) else self.channels
        if len(channels) != count or min(channels) < 1:
            raise ValueError(
                f"channels are one number, or one for each of the {count} degrees of "
                f"lmax={self.lmax}; got {self.channels}"
            )
        if self.parity and self.chiral:
            raise ValueError(
                "a chiral network keeps no parities; got parity=True and chiral=True; set one of "
                "them to False"
            )
        kinds = (False, True) if self.parity else (False,)
        hidden = {irrep(l, pseudo): n for pseudo in kinds for l, n in enumerate(channels)}
        wanted = {item.ir for item in Irreps(self.irreps_out)}
        if not wanted <= set(hidden):
            raise ValueError(
                f"an output is among the irreps inside, {', '.join(map(str, hidden))}; got "
                f"irreps_out={self.irreps_out!r}; raise lmax, or set parity=True for pseudo-tensors"
            )
        return hidden, {i: n for i, n in hidden.items() if i in wanted}

    def _readout(self, x: Blocks) -> IrrepsArray:
        """Two linear layers of each irrep, in the order of `irreps_out`."""
        widths = counts(self.irreps_out)
        missing = [str(i) for i in widths if i not in x]
        if missing:
            raise ValueError(
                f"after {self.layers} layers no path leads to {', '.join(missing)}; irreps_out is "
                f"{self.irreps_out!r}; use more layers"
            )
        half = {i: max(1, block.shape[-1] // 2) for i, block in x.items()}
        x = LinearBlocks(half, name="readout_0")(x)
        x = LinearBlocks(widths, name="readout_1")(x)
        return in_order(x, self.irreps_out)
