"""PaiNN: nodes have scalars and vectors; messages scale vectors and add the edge's direction.

With s_i scalars and v_i vectors, r̂ the direction, W linear in Bessel waves b(r) and zero at the
cutoff, phi and a networks of scalars, and U, V matrices on channels:

    s_i += sum_j phi_s(s_j) W_s                           v_i += sum_j v_j phi_v(s_j) W_v
                                                                       + r̂_ij phi_r(s_j) W_r
    s_i += a_s(s_i, |V v_i|) + a_sv(s_i, |V v_i|) (U v_i · V v_i)
    v_i += a_v(s_i, |V v_i|) U v_i

Scalars are put out by a network of s; where there are vectors too, by two gated equivariant blocks,

    s' = g_s(s, |V v|),  v' = g_v(s, |V v|) U v

References:
    Schütt, Unke, Gastegger, "Equivariant message passing for the prediction of tensorial properties
    and molecular spectra", ICML 2021, https://arxiv.org/abs/2102.03150. As in the authors' code,
    |x| is sqrt(x² + 1e-8), so that it is smooth where x = 0. The published envelope is the cosine
    (`envelope=0`), which is only C¹; our default is the polynomial closest to it.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.graphs import Graph, edge_vectors, from_senders, to_receivers
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    Perceptron,
    bessel,
    counts,
    envelope,
    in_order,
    node_scalars,
    node_vectors,
)

__all__ = ["PaiNN"]

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)
EPSILON = 1e-8


def smooth_norm(v: Float[Array, "node xyz channel"]) -> Float[Array, "node channel"]:
    """sqrt(|v|² + 1e-8) of the vector of each channel."""
    return jnp.sqrt(jnp.sum(v * v, 1) + EPSILON)


class Message(nn.Module):
    """What nodes get from their neighbours."""

    @nn.compact
    def __call__(
        self,
        s: Float[Array, "node channel"],
        v: Float[Array, "node xyz channel"],
        filters: Float[Array, "edge 3 channel"],
        directions: Float[Array, "edge xyz"],
        graph: Graph,
    ) -> tuple[Float[Array, "node channel"], Float[Array, "node xyz channel"]]:
        """Changes of scalars and vectors; filters are W_s, W_v, W_r."""
        width = s.shape[-1]
        phi = Perceptron((width, 3 * width), name="phi")(s).reshape(-1, 3, width)
        sent = jnp.concatenate([phi[:, ::2], v * phi[:, 1:2]], 1)
        sent = from_senders(sent, graph)
        scalars = filters[:, :1] * sent[:, :1]
        vectors = filters[:, 1:2] * sent[:, 2:]
        vectors = vectors + (filters[:, 2:] * sent[:, 1:2]) * directions[..., None]
        total = to_receivers(jnp.concatenate([scalars, vectors], 1), graph)
        return total[:, 0], total[:, 1:]


class Update(nn.Module):
    """What the scalars and vectors of a node do to each other."""

    @nn.compact
    def __call__(
        self, s: Float[Array, "node channel"], v: Float[Array, "node xyz channel"]
    ) -> tuple[Float[Array, "node channel"], Float[Array, "node xyz channel"]]:
        """Changes of scalars and vectors."""
        width = s.shape[-1]
        u, w = jnp.split(Affine(2 * width, bias=False, name="mix")(v), 2, -1)
        invariants = jnp.concatenate([s, smooth_norm(w)], -1)
        a = Perceptron((width, 3 * width), name="gates")(invariants).reshape(-1, 3, width)
        return a[:, 0] + a[:, 1] * jnp.sum(u * w, 1), a[:, 2:] * u


class GatedBlock(nn.Module):
    """A gated equivariant block: scalars and vectors of other widths."""

    scalars: int
    vectors: int
    hidden: int

    @nn.compact
    def __call__(
        self, s: Float[Array, "node channel"], v: Float[Array, "node xyz channel"]
    ) -> tuple[Float[Array, "node scalars"], Float[Array, "node xyz vectors"]]:
        """Linear in the vectors but for the gates."""
        u, w = jnp.split(Affine(2 * self.vectors, bias=False, name="mix")(v), 2, -1)
        invariants = jnp.concatenate([s, smooth_norm(w)], -1)
        widths = (self.hidden, self.scalars + self.vectors)
        x = Perceptron(widths, name="gates")(invariants)
        return x[:, : self.scalars], x[:, None, self.scalars :] * u


@NETWORKS.register("painn")
class PaiNN(nn.Module):
    """E(3)-equivariant network of scalars and vectors; see the module for its equations.

    The published size is the default: 589 057 parameters with 100 elements, "600k" in the paper.

    Inputs of a node: the one-hot species (where there is more than one, or nothing else), the
    arrays `scalars`, and the arrays `vectors`, whose lengths are scalars too. An atom without
    neighbours has an energy of its own, which depends on its inputs alone.
    """

    cutoff: float = 5.0  # [Å]
    channels: int = 128
    layers: int = 3
    n_basis: int = 20
    envelope: int = 3  # power of the polynomial; 0 is the published cosine, only C¹
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    irreps_out: str = "0e"  # of 0e and 1o
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: `irreps_out` holds other irreps than 0e and 1o, the cutoff is not finite, or
                `elements` are not known yet.
        """
        self._check()
        vectors = edge_vectors(graph)
        directions = unit(vectors)
        filters = self._filters(safe_norm(vectors))
        s, v = self._inputs(graph)
        for i in range(self.layers):
            message = Message(name=f"message_{i}")
            change, turn = message(s, v, filters[:, i], directions, graph)
            s, v = s + change, v + turn
            change, turn = Update(name=f"update_{i}")(s, v)
            s, v = s + change, v + turn
        return self._readout(s, v)

    def _check(self) -> None:
        wanted = {item.ir for item in Irreps(self.irreps_out)}
        if not wanted <= {SCALAR, VECTOR}:
            raise ValueError(
                f"PaiNN puts out scalars 0e and vectors 1o; got irreps_out={self.irreps_out!r}; "
                "take a network with more irreps, such as nequip"
            )

    def _inputs(self, graph: Graph) -> tuple[Array, Float[Array, "node xyz channel"]]:
        """The first scalars and vectors."""
        inputs = node_scalars(graph, self.elements, self.scalars, self.vectors)
        # As the embedding of species is published: each is drawn from N(0, 1).
        shape = (inputs.shape[-1], self.channels)
        species = self.param("species", nn.initializers.normal(1.0), shape)
        s = inputs @ species.astype(inputs.dtype)
        if not self.vectors:
            return s, jnp.zeros((s.shape[0], 3, self.channels), s.dtype)
        vectors = node_vectors(graph, self.vectors)
        return s, Affine(self.channels, bias=False, name="vectors")(vectors)

    def _filters(self, r: Float[Array, "edge"]) -> Float[Array, "edge layer 3 channel"]:
        """W_s, W_v, W_r of every layer, from the published waves sin(n pi r / cutoff) / r."""
        width = 3 * self.layers * self.channels
        waves = bessel(r, self.cutoff, self.n_basis) * (math.pi / self.cutoff)
        filters = Affine(width, name="filters")(waves)
        filters = filters * envelope(r, self.cutoff, self.envelope)[:, None]
        return filters.reshape(-1, self.layers, 3, self.channels)

    def _readout(self, s: Float[Array, "node channel"], v: Array) -> IrrepsArray:
        widths, half = counts(self.irreps_out), self.channels // 2
        if VECTOR not in widths:
            s = Perceptron((half, widths[SCALAR]), name="readout")(s)
            return in_order({SCALAR: s[:, None, :]}, self.irreps_out)
        s, v = GatedBlock(half, half, self.channels, name="readout_0")(s, v)
        last = GatedBlock(widths.get(SCALAR, 0), widths[VECTOR], half, name="readout_1")
        s, v = last(nn.silu(s), v)
        return in_order({SCALAR: s[:, None, :], VECTOR: v}, self.irreps_out)
