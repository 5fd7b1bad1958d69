"""Allegro: strictly local. Features belong to edges and see only the neighbours of one atom.

Each edge i-j (towards its receiver i) has invariants x and tensors V; u is the envelope, Y the
harmonics, || means side by side:

    x_0 = MLP(z_i || z_j || b(r)) u(r)                       V_0 = (W x_0) Y(r̂)
    e_i = sum_j (W x_ij) Y(r̂_ij) / sqrt(average_neighbors)   the surroundings of i
    V  <- W [ V_ij ⊗ e_i ]                                   channel by channel, then mixed
    x  <- MLP(all earlier x || scalars of V) u(r)

The output is sum_j MLP(x_ij) / sqrt(average_neighbors), of tensors a linear map of the last V. It
depends on the atoms within one cutoff, however many layers there are.

References:
    Musaelian, Batzner, Johansson, Sun, Owen, Kornbluth, Kozinsky, "Learning local equivariant
    representations for large-scale atomistic dynamics", Nature Communications 14, 579 (2023),
    https://doi.org/10.1038/s41467-023-36329-y.
"""

from collections.abc import Mapping
from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders, to_receivers
from geojax.networks.network import NETWORKS
from geojax.nn import (
    MLP,
    Dense,
    LinearBlocks,
    bessel,
    counts,
    in_order,
    irrep,
    neighbor_count,
    one_hot_species,
    polynomial_envelope,
)
from geojax.products import kept_layout, split_kept, tensor_product

__all__ = ["Allegro"]

SCALAR = irrep(0)
# Tensors of natural parity (False) and pseudo-tensors (True): `[edge, m, channel]`.
Tensors = Mapping[bool, Float[Array, "edge _ channel"]]


class Surroundings(nn.Module):
    """W x times Y, for each degree and channel a weight of its own."""

    channels: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "edge latent"], y: Float[Array, "edge m 1"]
    ) -> Float[Array, "edge m channel"]:
        lmax = so3.degree(y)
        weights = Dense((lmax + 1) * self.channels, name="linear")(x)
        weights = weights.reshape(x.shape[0], lmax + 1, self.channels)
        return so3.expand_by_degree(weights) * y


class Coupling(nn.Module):
    """All paths from V and the surroundings to `wanted`, mixed over paths and channels."""

    channels: int
    wanted: tuple[Irrep, ...]
    chiral: bool
    product: str

    @nn.compact
    def __call__(
        self, tensors: Tensors, surroundings: Float[Array, "edge m channel"]
    ) -> dict[Irrep, Array]:
        blocks: dict[Irrep, list[Array]] = {}
        for pseudo, v in tensors.items():
            for odd in (False, True):
                result = False if self.chiral else pseudo != odd
                goals = [i for i in self.wanted if i == irrep(i.l, result)]
                for i, block in self._paths(v, surroundings, goals, odd).items():
                    blocks.setdefault(i, []).append(block)
        joined = {i: jnp.concatenate(found, -1) for i, found in blocks.items()}
        return LinearBlocks(dict.fromkeys(joined, self.channels), name="linear")(joined)

    def _paths(
        self, v: Array, surroundings: Array, goals: list[Irrep], odd: bool
    ) -> dict[Irrep, Array]:
        """The even or odd paths to each goal that has some, side by side as channels."""
        parity: so3.Parity = "odd" if odd else "even"
        top = max((i.l for i in goals), default=0)
        layout = kept_layout(so3.degree(v), so3.degree(surroundings), top, parity=parity)
        goals = [i for i in goals if layout[i.l]]
        if not goals:
            return {}
        options = {"lmax": top, "method": self.product, "paths": "keep", "parity": parity}
        blocks = split_kept(tensor_product(v, surroundings, **options), layout)
        side_by_side = lambda b: jnp.moveaxis(b, -3, -2).reshape(b.shape[0], b.shape[-2], -1)
        return {i: side_by_side(blocks[i.l]) for i in goals}


@NETWORKS.register("allegro")
class Allegro(nn.Module):
    """Strictly local network by tensor products on edges; see the module for its equations.

    Symmetry: with `parity` tensors of both parities; without it natural parity (-1)**l only, still
    E(3) and cheaper; with `chiral=True` besides, odd paths join the even ones: SE(3), the published
    `parity: false`.

    Published for rMD17: 3 layers, lmax 3, 128 channels, cutoff 7 Å, `two_body=(128, 256, 512,
    1024)`, `latent=(1024, 1024, 1024)`, `readout=(128,)`.

    A node without neighbours puts out exactly zero.
    """

    cutoff: float = 5.0  # [Å]
    channels: int = 32  # of the tensors
    lmax: int = 2
    layers: int = 2
    parity: bool = True  # pseudo-tensors too
    chiral: bool = False  # without parity: odd paths too, SE(3) only
    product: str = "auto"  # a name in PRODUCTS, of the coupled family
    n_basis: int = 8
    envelope: int = 6  # power of the polynomial
    two_body: tuple[int, ...] = (64, 128, 128)  # widths; the last one is that of x
    latent: tuple[int, ...] = (128, 128)  # widths of the perceptron of x in each layer
    readout: tuple[int, ...] = (64,)  # hidden widths of the last perceptron
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
        inside, wanted = self._irreps()
        scale = 1 / sqrt(neighbor_count(self.average_neighbors))
        vectors = edge_vectors(graph)
        r = safe_norm(vectors)
        y = so3.harmonics(vectors, self.lmax)[..., None]
        species = one_hot_species(graph, self.elements)
        pair = from_receivers(species, graph), from_senders(species, graph)
        # Padding has no species: what many padding edges add up to would overflow in products.
        envelope = polynomial_envelope(r, self.cutoff, self.envelope) * pair[1].sum(-1)
        envelope = envelope[:, None]
        waves = bessel(r, self.cutoff, self.n_basis) * envelope
        x = MLP(self.two_body, name="two_body")(jnp.concatenate([*pair, waves], -1)) * envelope
        found = [x]
        tensors: Tensors = {False: Surroundings(self.channels, name="tensors")(x, y)}
        blocks: dict[Irrep, Array] = {}
        for i in range(self.layers):
            last = i == self.layers - 1
            around = Surroundings(self.channels, name=f"surroundings_{i}")(x, y)
            around = from_receivers(to_receivers(around, graph) * scale, graph)
            targets = (SCALAR, *(t for t in inside if t != SCALAR and (not last or t in wanted)))
            couple = Coupling(
                self.channels, targets, self.chiral, self.product, name=f"coupling_{i}"
            )
            blocks = couple(tensors, around)
            scalars = blocks[SCALAR][:, 0, :]
            x = MLP(self.latent, name=f"latent_{i}")(jnp.concatenate([*found, scalars], -1))
            x = x * envelope
            found.append(x)
            if not last:
                tensors = _tensors(blocks)
        return self._output(x, blocks, wanted, scale, graph)

    def _output(
        self,
        x: Float[Array, "edge latent"],
        blocks: Mapping[Irrep, Array],
        wanted: dict[Irrep, int],
        scale: float,
        graph: Graph,
    ) -> IrrepsArray:
        if missing := [str(i) for i in wanted if i not in blocks]:
            raise ValueError(
                f"after {self.layers} layers no path leads to {', '.join(missing)}; irreps_out is "
                f"{self.irreps_out!r}; use more layers"
            )
        tensors = {i: width for i, width in wanted.items() if i != SCALAR}
        out = LinearBlocks(tensors, name="readout_tensors")(blocks)
        if SCALAR in wanted:
            scalars = MLP((*self.readout, wanted[SCALAR]), name="readout")(x)
            out[SCALAR] = scalars[:, None, :]
        summed = {i: to_receivers(block, graph) * scale for i, block in out.items()}
        return in_order(summed, self.irreps_out)

    def _irreps(self) -> tuple[tuple[Irrep, ...], dict[Irrep, int]]:
        """The irreps of tensors inside, and the channels of each in the output."""
        if self.parity and self.chiral:
            raise ValueError(
                "a chiral network keeps no parities; got parity=True and chiral=True; set one of "
                "them to False"
            )
        if min(self.channels, self.layers, len(self.two_body), len(self.latent)) < 1:
            raise ValueError(
                "there are one or more channels, layers and widths; got "
                f"channels={self.channels}, layers={self.layers}, two_body={self.two_body}, "
                f"latent={self.latent}"
            )
        kinds = (False, True) if self.parity else (False,)
        inside = tuple(irrep(l, pseudo) for pseudo in kinds for l in range(self.lmax + 1))
        wanted = counts(self.irreps_out)
        if not wanted or not set(wanted) <= set(inside):
            raise ValueError(
                f"an output is among the irreps inside, {', '.join(map(str, inside))}; got "
                f"irreps_out={self.irreps_out!r}; raise lmax, or set parity=True for pseudo-tensors"
            )
        return inside, wanted


def _tensors(blocks: Mapping[Irrep, Array]) -> Tensors:
    """The blocks of each parity as one array, with zeros for degrees that no path leads to."""
    found = {}
    for pseudo in (False, True):
        own = {i.l: block for i, block in blocks.items() if i == irrep(i.l, pseudo)}
        if own:
            like = next(iter(own.values()))
            zeros = lambda l, a=like: jnp.zeros((a.shape[0], 2 * l + 1, a.shape[-1]), a.dtype)
            rows = [own.get(l, zeros(l)) for l in range(max(own) + 1)]
            found[pseudo] = jnp.concatenate(rows, -2)
    return found
