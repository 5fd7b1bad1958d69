"""TensorNet: every channel of a node is a 3x3 matrix, and messages multiply matrices.

With X = I + A + S (a multiple of one, a skew and a symmetric traceless matrix), r̂ the direction,
Z of both species, and g, f functions of the distance that vanish at the cutoff:

    X_i = s(|X'|²) W X',  X' = sum_j Z_ij (g_I + g_A [r̂]x + g_S (r̂ r̂ᵀ - 1/3))
    X <- X / (|X|² + 1),  Y = W X,  M_i = sum_j f Y_j,  B = (1 + q/10) (Y M + M Y)
    X <- X + D + (1 + q/10) D²,  D = W B / (|B|² + 1)

where s, f and every W have one value for each of I, A, S, every W is another matrix on channels,
and sums go over neighbours and the node itself, whose r̂ is zero. The output is a function of
|I|², |A|², |S|². Inversion makes X its transpose, which Y M + M Y respects: so I, A, S are 0e, 1o
(the vector of A is polar, as r̂ is), 2e. With 2 Y M instead, only rotations are respected.

A matrix is kept as spherical features `[node, 9, channel]`, its coordinates in an orthonormal basis
B_m. Then |X|² is a sum of squares, f Y_j is a product with degree zero, a matrix product is a
tensor product with fixed weights of paths, and Y M + M Y is twice its even paths.

References:
    Simeon, De Fabritiis, "TensorNet: Cartesian tensor representations for efficient learning of
    molecular potentials", NeurIPS 2023, https://arxiv.org/abs/2306.06482, with the details of the
    authors' code. The published envelope is the cosine (`envelope=0`), which is only C¹; our
    default is the polynomial closest to it. Outputs 1o and 2e are ours.
"""

from functools import cache
from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders
from geojax.networks.network import NETWORKS
from geojax.nn import (
    Affine,
    LayerNorm,
    LinearBlocks,
    Perceptron,
    as_blocks,
    convolve,
    counts,
    envelope,
    exp_normal,
    in_order,
    node_scalars,
)
from geojax.products import tensor_product

__all__ = ["TensorNet"]

SCALAR, VECTOR, TENSOR = Irrep(0, 1), Irrep(1, -1), Irrep(2, 1)
_unit_normal = nn.initializers.normal(1.0)


@cache
def basis() -> Float[np.ndarray, "9 3 3"]:
    """The orthonormal matrices B_m, degree after degree: X = sum_m x_m B_m."""
    tensors = [so3.clebsch_gordan(1, 1, l) * sqrt(2 * l + 1) for l in range(3)]
    return np.concatenate([np.moveaxis(tensor, -1, 0) for tensor in tensors])


@cache
def edge_factors() -> Float[np.ndarray, "3"]:
    """k_l, so that k_l Y_l(v) are the coordinates of 1, [v]x and v vᵀ - 1/3."""
    v = np.array([0.0, 1.0, 0.0])
    skew = np.array([[0.0, 0, 1], [0, 0, 0], [-1, 0, 0]])
    y = so3.harmonics_table(v[None], 2)[0]
    parts = (np.eye(3), skew, np.outer(v, v) - np.eye(3) / 3)
    found = [np.einsum("mab,ab->m", basis(), part) @ y for part in parts]
    return np.array(found) / (2 * np.arange(3) + 1)


@cache
def path_weights(parity: so3.Parity) -> Float[np.ndarray, "path"]:
    """The weights with which a tensor product of coordinates is a product of matrices."""
    b, rows = basis(), so3.slices(2)
    product = np.einsum("iab,jbc,kac->ijk", b, b, b)
    block = lambda path: product[rows[path.l1], rows[path.l2], rows[path.l3]]
    weight = lambda path: np.vdot(block(path), so3.clebsch_gordan(*path)) / sqrt(2 * path.l3 + 1)
    return np.array([weight(path) for path in so3.paths(2, 2, 2, parity=parity)])


def multiply(
    x: Float[Array, "node 9 channel"], y: Float[Array, "node 9 channel"], parity: so3.Parity
) -> Float[Array, "node 9 channel"]:
    """The coordinates of X Y; its even paths alone are those of (X Y + Y X) / 2."""
    weights = jnp.asarray(path_weights(parity), x.dtype)[:, None]
    weights = jnp.broadcast_to(weights, (weights.shape[0], x.shape[-1]))
    return tensor_product(x, y, weights, lmax=2, parity=parity)


def squares(x: Float[Array, "node 9 channel"]) -> Float[Array, "node 3 channel"]:
    """|I|², |A|², |S|² of each channel."""
    return jnp.stack([jnp.sum(x[:, rows] ** 2, 1) for rows in so3.slices(2)], 1)


def bounded(x: Float[Array, "node 9 channel"]) -> Float[Array, "node 9 channel"]:
    """X / (|X|² + 1)."""
    return x / (jnp.sum(x * x, 1, keepdims=True) + 1)


class Mix(nn.Module):
    """Mixes the channels of I, A and S, each with a matrix of its own."""

    @nn.compact
    def __call__(self, x: Float[Array, "node 9 channel"]) -> Float[Array, "node 9 channel"]:
        """W x."""
        width = x.shape[-1]
        mixed = [
            Affine(width, bias=False, name=name)(x[:, rows])
            for name, rows in zip("IAS", so3.slices(2), strict=True)
        ]
        return jnp.concatenate(mixed, 1)


class Embedding(nn.Module):
    """The first matrices of nodes, from the species and directions of their neighbours."""

    channels: int

    @nn.compact
    def __call__(
        self,
        nodes: Float[Array, "node d"],
        waves: Float[Array, "edge rbf"],
        at_zero: Float[Array, "1 rbf"],
        factor: Float[Array, "edge"],
        y: Float[Array, "edge 9 1"],
        graph: Graph,
    ) -> Float[Array, "node 9 channel"]:
        """Of nodes, waves of distances (and of zero) and the envelope of each edge."""
        width = self.channels
        z = nodes @ self.param("species", _unit_normal, (nodes.shape[-1], width)).astype(y.dtype)
        pair, radial = Affine(width, name="pair"), Affine(3 * width, name="radial")
        pairs = pair((z, lambda h: from_receivers(h, graph)), (z, lambda h: from_senders(h, graph)))
        weights = radial(waves).reshape(-1, 3, width) * (pairs * factor[:, None])[:, None, :]
        ones = jnp.ones((z.shape[0], 1, width), y.dtype)
        x = convolve(ones, y, weights, graph, lmax=2)
        own = (pair(z, z) * radial(at_zero)[:, :width])[:, None, :]
        x = jnp.concatenate([x[:, :1] + own, x[:, 1:]], 1)
        x = x * so3.expand_by_degree(jnp.asarray(edge_factors(), y.dtype)[None, :, None])
        total = LayerNorm(name="norm")(squares(x).sum(1))
        scales = Perceptron((2 * width, 3 * width), end=True, name="scales")(total)
        return Mix(name="mix")(x) * so3.expand_by_degree(scales.reshape(-1, 3, width))


class Interaction(nn.Module):
    """One round of messages."""

    chiral: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "node 9 channel"],
        waves: Float[Array, "edge rbf"],
        at_zero: Float[Array, "1 rbf"],
        factor: Float[Array, "edge"],
        charge: Float[Array, "node 1 1"] | None,
        graph: Graph,
    ) -> Float[Array, "node 9 channel"]:
        """Of matrices, waves of distances (and of zero), envelope and the charge of the graph."""
        width = x.shape[-1]
        radial = Perceptron((width, 2 * width, 3 * width), end=True, name="radial")
        weights = radial(waves).reshape(-1, 3, width) * factor[:, None, None]
        of_zero = radial(at_zero).reshape(1, 3, width)
        x = bounded(x)
        y = Mix(name="mix_before")(x)
        ones = jnp.ones((waves.shape[0], 1, 1), x.dtype)
        m = convolve(y, ones, weights, graph, lmax=2) + y * so3.expand_by_degree(of_zero)
        b = 2 * multiply(y, m, "all" if self.chiral else "even")
        more = None if charge is None else 1 + 0.1 * charge
        if more is not None and not self.chiral:
            b = b * more
        d = Mix(name="mix_after")(bounded(b))
        square = multiply(d, d, "even")
        return x + d + (square if more is None else square * more)


@NETWORKS.register("tensornet")
class TensorNet(nn.Module):
    """Network of 3x3 matrices; see the module for its equations.

    Published sizes (energies, 128 elements) are

        layers=1                                  535 681 parameters
        layers=2                                  769 921 (rMD17, with cutoff=4.5)
        layers=2, n_basis=64, cutoff=10.0         790 401 (SPICE)
        layers=3, channels=256, cutoff=5.0      3 925 249 (QM9)

    An atom without neighbours has an energy of its own, which depends on its element alone.
    """

    cutoff: float = 4.5  # [Å]
    channels: int = 128
    layers: int = 2
    n_basis: int = 32
    envelope: int = 3  # power of the polynomial; 0 is the published cosine, only C¹
    chiral: bool = False  # 2 Y M in place of Y M + M Y: SE(3) only
    charge: str | None = None  # node input [node]: the charge of the whole molecule [e]
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    irreps_out: str = "0e"  # of 0e, 1o, 2e
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.chiral else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: `irreps_out` holds other irreps than 0e, 1o, 2e, the cutoff is not finite,
                or `elements` are not known yet.
        """
        self._check()
        vectors = edge_vectors(graph)
        r = safe_norm(vectors)
        factor, waves = self._waves(r)
        _, at_zero = self._waves(jnp.zeros((1,), r.dtype))
        y = so3.harmonics(vectors, 2)[..., None]
        nodes = node_scalars(graph, self.elements, self.scalars)
        charge = node_scalars(graph, (), (self.charge,))[..., None] if self.charge else None
        x = Embedding(self.channels, name="embedding")(nodes, waves, at_zero, factor, y, graph)
        for i in range(self.layers):
            layer = Interaction(self.chiral, name=f"layer_{i}")
            x = layer(x, waves, at_zero, factor, charge, graph)
        return self._readout(x)

    def _check(self) -> None:
        wanted = {item.ir for item in Irreps(self.irreps_out)}
        if not wanted <= {SCALAR, VECTOR, TENSOR}:
            raise ValueError(
                "TensorNet puts out what a 3x3 matrix holds, 0e, 1o and 2e; got "
                f"irreps_out={self.irreps_out!r}; take a network with more irreps, such as nequip"
            )

    def _waves(self, r: Float[Array, "*n"]) -> tuple[Array, Float[Array, "*n rbf"]]:
        """The envelope, and the basis times the envelope."""
        factor = envelope(r, self.cutoff, self.envelope)
        return factor, exp_normal(r, self.cutoff, self.n_basis) * factor[..., None]

    def _readout(self, x: Float[Array, "node 9 channel"]) -> IrrepsArray:
        """A network of |I|², |A|², |S|² for scalars, a linear map of A and S for the others."""
        widths = counts(self.irreps_out)
        tensors = {i: n for i, n in widths.items() if i != SCALAR}
        out = LinearBlocks(tensors, name="tensors")(as_blocks(x))
        if SCALAR in widths:
            norms = squares(x).reshape(x.shape[0], -1)
            norms = LayerNorm(name="norm")(norms)
            h = Perceptron((self.channels,), end=True, name="invariants")(norms)
            head = Perceptron((self.channels // 2, widths[SCALAR]), name="head")
            out[SCALAR] = head(h)[:, None, :]
        return in_order(out, self.irreps_out)
