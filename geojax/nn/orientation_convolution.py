"""Convolutions of functions of position and orientation: kernels of invariants, on a grid.

Features x_i(o) `[node, orientation, channel]` have a value at each position i and orientation o of
`orientation_grid`. With r the vector from the receiver i to the sender j, a neighbour or i itself,

    separable   sum_o' K2(o·o') sum_j K1(r·o', |r - (r·o') o'|) x_j(o') / O
    smooth      the same with K1(r·o', |r|), the same invariants in a form with derivatives
    complete    sum_o' sum_j K(r·o, r·o', o·o', |r|, r·(o×o')) x_j(o') / O

where O is the number of orientations and a kernel K acts on each channel by itself. A vector and
two orientations have four invariants under rotations, and a sign that tells mirror images apart.
"separable", as published, has three of them: it cannot use r·o, nor the sign. "complete" has all,
and costs O times as much.

K = W exp(...): monomials of the invariants, two layers (the basis, which all convolutions of a
network share), a matrix W of the convolution's own, and an envelope that vanishes at the cutoff.

References:
    Bekkers, Vadgama, Hesselink, van der Linden, Romero, "Fast, expressive SE(n) equivariant
    networks through weight-sharing in position-orientation space", ICLR 2024,
    https://arxiv.org/abs/2310.02970. "smooth" and "complete" are ours.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from itertools import product
from operator import mul
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Graph, from_senders, to_receivers
from geojax.nn.activation import activate
from geojax.nn.dense import Affine
from geojax.registry import Registry

__all__ = [
    "INVARIANTS",
    "Invariants",
    "KernelBases",
    "KernelBasis",
    "OrientationBases",
    "OrientationConvolution",
    "dense_convolution",
    "fiber_convolution",
    "monomials",
    "spatial_convolution",
]

Moment = Callable[[int], float]


# E[a^2k] of an invariant a, for r normal with variance one along each axis, and even orientations.
def _normal(k: int) -> float:
    return float(math.prod(range(1, 2 * k, 2)))


def _rayleigh(k: int) -> float:
    return float(2**k * math.factorial(k))


def _maxwell(k: int) -> float:
    return _normal(k + 1)


def _cosine(k: int) -> float:
    return 1 / (2 * k + 1)


def _triple(k: int) -> float:
    return _normal(k) * 4**k * math.factorial(k) ** 2 / math.factorial(2 * k + 1)


class Invariants(NamedTuple):
    """Invariants of a vector and one or two orientations.

    Attributes:
        of: of vectors and orientations, `[edge, o, d]` (the sender's orientation) or
            `[edge, o, o', d]` (the receiver's, the sender's).
        moments: E[a^2k] of each of the d.
    """

    of: Callable[[Float[Array, "edge 3"], Float[Array, "o 3"]], Float[Array, "edge *o d"]]
    moments: tuple[Moment, ...]


def _separable(r: Array, o: Array) -> Float[Array, "edge o 2"]:
    along = r @ o.T
    across = r[:, None, :] - along[..., None] * o[None]
    # What rounding leaves of an edge along o has no direction: it is zero, with zero derivatives.
    size = lambda x: jnp.max(jnp.abs(x), -1, keepdims=True)
    rounding = 8 * jnp.finfo(r.dtype).eps * size(r)[:, None]
    return jnp.stack([along, safe_norm(jnp.where(size(across) <= rounding, 0, across))], -1)


def _smooth(r: Array, o: Array) -> Float[Array, "edge o 2"]:
    along = r @ o.T
    return jnp.stack([along, jnp.broadcast_to(safe_norm(r)[:, None], along.shape)], -1)


def _complete(r: Array, o: Array) -> Float[Array, "edge o o 5"]:
    along, cosine = r @ o.T, o @ o.T
    triple = jnp.einsum("ex,opx->eop", r, jnp.cross(o[:, None], o[None]))
    parts = (along[:, :, None], along[:, None], cosine[None], safe_norm(r)[:, None, None], triple)
    return jnp.stack([jnp.broadcast_to(part, triple.shape) for part in parts], -1)


INVARIANTS: Registry[Invariants] = Registry("kind of invariants")
INVARIANTS.register("separable")(Invariants(_separable, (_normal, _rayleigh)))
INVARIANTS.register("smooth")(Invariants(_smooth, (_normal, _maxwell)))
INVARIANTS.register("complete")(
    Invariants(_complete, (_normal, _normal, _cosine, _maxwell, _triple))
)


def monomials(
    x: Float[Array, "*n d"], moments: tuple[Moment, ...], degree: int
) -> Float[Array, "*n column"]:
    """All products of powers of the d numbers, of degrees 1 to `degree`, with mean square one.

    Args:
        x: invariants.
        moments: E[x^2k] of each of the d, taken as independent.
        degree: the largest sum of powers.
    """
    parts = [x[..., i] for i in range(len(moments))]
    powers = [[part] for part in parts]  # powers[i][k-1] = x_i^k
    for _ in range(degree - 1):
        powers = [[*known, known[-1] * part] for known, part in zip(powers, parts, strict=True)]
    columns = []
    for exponents in _exponents(len(moments), degree):
        scale = math.prod(moment(k) for moment, k in zip(moments, exponents, strict=True)) ** -0.5
        factors = [known[k - 1] for known, k in zip(powers, exponents, strict=True) if k]
        columns.append(scale * reduce(mul, factors))
    return jnp.stack(columns, -1)


def _exponents(d: int, degree: int) -> Iterator[tuple[int, ...]]:
    return (p for p in product(range(degree + 1), repeat=d) if 1 <= sum(p) <= degree)


class KernelBasis(nn.Module):
    """gelu(A2 gelu(A1 monomials)), each layer with mean square one at the start."""

    moments: tuple[Moment, ...]
    degree: int
    widths: tuple[int, int]

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n basis"]:
        """Of invariants."""
        x = monomials(x, self.moments, self.degree)
        for i, width in enumerate(self.widths):
            gain = math.sqrt((x.shape[-1] + width) / (2 * x.shape[-1]))  # variance 1 / fan-in
            x = activate(Affine(width, gain=gain, name=f"affine_{i}")(x), "gelu")
        return x


class KernelBases(NamedTuple):
    """The bases of all kernels of a network; made once for all of its convolutions.

    Attributes:
        edges: of neighbours, times the envelope.
        own: of a node and itself, r = 0.
        fiber: of two orientations; None where `edges` has both.
    """

    edges: Float[Array, "edge *o basis"]
    own: Float[Array, "*o basis"]
    fiber: Float[Array, "o o basis"] | None


class OrientationBases(nn.Module):
    """The bases of all kernels, from vectors and a grid of orientations."""

    kind: str  # a name in INVARIANTS
    degree: int  # of the monomials
    widths: tuple[int, int]  # of the two layers

    @nn.compact
    def __call__(
        self,
        r: Float[Array, "edge 3"],
        envelope: Float[Array, "edge"],
        orientations: Float[Array, "o 3"],
    ) -> KernelBases:
        """Of vectors from receiver to sender, in units of a typical coordinate.

        Raises:
            KeyError: no invariants of this kind.
        """
        invariants = INVARIANTS[self.kind]
        basis = KernelBasis(invariants.moments, self.degree, self.widths, name="basis")
        edges = basis(invariants.of(r, orientations))
        edges = edges * envelope.reshape(-1, *[1] * (edges.ndim - 1))
        own = basis(invariants.of(jnp.zeros((1, 3), r.dtype), orientations))[0]
        if own.ndim == 3:
            return KernelBases(edges, own, None)
        fiber = KernelBasis((_cosine,), self.degree, self.widths, name="fiber_basis")
        return KernelBases(edges, own, fiber((orientations @ orientations.T)[..., None]))


def spatial_convolution(
    x: Float[Array, "node o channel"],
    kernel: Float[Array, "edge o channel"],
    own: Float[Array, "o channel"],
    graph: Graph,
) -> Float[Array, "node o channel"]:
    """sum over neighbours j of K(r, o) x_j(o), and K(0, o) x_i(o)."""
    return to_receivers(kernel * from_senders(x, graph), graph) + own[None] * x


def fiber_convolution(
    x: Float[Array, "node o channel"], kernel: Float[Array, "o o channel"]
) -> Float[Array, "node o channel"]:
    """mean over o' of K(o, o') x(o')."""
    return jnp.einsum("opc,npc->noc", kernel, x) / x.shape[1]


def dense_convolution(
    x: Float[Array, "node o channel"],
    kernel: Float[Array, "edge o o channel"],
    own: Float[Array, "o o channel"],
    graph: Graph,
) -> Float[Array, "node o channel"]:
    """mean over o' of the sum over neighbours j of K(r, o, o') x_j(o'), and K(0, o, o') x_i(o')."""
    messages = jnp.einsum("eopc,epc->eoc", kernel, from_senders(x, graph)) / x.shape[1]
    return to_receivers(messages, graph) + fiber_convolution(x, own)


class OrientationConvolution(nn.Module):
    """A convolution with kernels W b of the shared bases b, and a bias.

    Kernels start so that the sum over `neighbors` and the node itself keeps the variance of x.
    """

    neighbors: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "node o channel"], bases: KernelBases, graph: Graph
    ) -> Float[Array, "node o channel"]:
        """Of features at the orientations of the bases."""
        kernel = partial(self._kernel, width=x.shape[-1])
        weights = kernel("kernel", bases.edges, 1 + self.neighbors)
        edges, own = bases.edges @ weights, bases.own @ weights
        if bases.fiber is None:
            x = dense_convolution(x, edges, own, graph)
        else:
            x = spatial_convolution(x, edges, own, graph)
            x = fiber_convolution(x, bases.fiber @ kernel("fiber_kernel", bases.fiber, 1.0))
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)
        return x + bias[None, None, :]

    def _kernel(self, name: str, basis: Array, terms: float, width: int) -> Array:
        """Matrix from the basis to channels, for sums of so many independent terms."""
        start = nn.initializers.normal(1 / math.sqrt(basis.shape[-1] * terms))
        return self.param(name, start, (basis.shape[-1], width)).astype(basis.dtype)
