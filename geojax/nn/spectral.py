"""Positional encodings of nodes by the Laplacian of their graph, stable and without a basis (SPE).

With L = V diag(λ) Vᵀ the Laplacian of a graph, φ_1 ... φ_m functions of eigenvalues and ρ a network
that does not depend on the order of nodes,

    encoding = ρ(V diag(φ_1(λ)) Vᵀ, ..., V diag(φ_m(λ)) Vᵀ).

Each product stays as it is when eigenvectors change sign or are turned within an eigenspace, and
when φ is continuous it hardly moves while eigenvalues meet, where single eigenvectors jump.

    L = 1 - D^-1/2 A D^-1/2,   A_ij = A_ji = the mean weight of the edges i -> j and j -> i

with eigenvalues 0 ... 2; of a node without edges L is zero. All is dense, n² m numbers and n³ steps
for a graph of n nodes, and graphs are rows of members with masks.

No derivative goes through eigenvalues, eigenvectors or the weights of edges: that of an eigenvector
is infinite where eigenvalues meet. So energies from such encodings have no conservative forces.

References:
    Huang, Lu, Robinson, Yang, Zhang, Jegelka, Li, "On the stability of expressive positional
    encodings for graphs", ICLR 2024, https://arxiv.org/abs/2310.02579, and the authors' code.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_power
from geojax.graphs import Graph, graph_of_edges, local_index, members, of_members
from geojax.nn.dense import Perceptron

__all__ = ["Spectrum", "SpectralEncoding", "adjacency", "filtered", "laplacian", "spectrum"]

PADDING = 4.0  # on the diagonal of places without a node: an eigenvalue above all others
SPECTRAL = ("each", "set")


class Spectrum(NamedTuple):
    """Eigenvalues, ascending, those of padding last, and eigenvectors.

    Attributes:
        values: `[graph, eigenvalue]`, zero where there is none.
        vectors: `[graph, member, eigenvalue]`, in columns.
        mask: `[graph, eigenvalue]`, which there are: as many as nodes.
    """

    values: Array
    vectors: Array
    mask: Array


def adjacency(
    graph: Graph, weights: Float[Array, "edge"] | None = None
) -> Float[Array, "graph member member"]:
    """A: weights of edges, symmetric; zero where no node is. Edges of a pair add up.

    Args:
        weights: one by default; negative ones have no Laplacian.
    """
    dtype = graph.nodes["positions"].dtype
    weights = jnp.ones(graph.senders.shape, dtype) if weights is None else weights
    _, real = members(graph)
    index, place = graph_of_edges(graph), local_index(graph)
    counts = real[index, 0] & graph.edges.get("mask", True)
    counts &= graph.senders != graph.receivers  # images of a node do not tell it from others
    rows = (index, place[graph.receivers], place[graph.senders])
    zero = jnp.zeros((*real.shape, real.shape[1]), dtype)
    found = zero.at[rows].add(jnp.where(counts, weights, 0).astype(dtype), mode="drop")
    return (found + jnp.swapaxes(found, 1, 2)) / 2


def laplacian(a: Float[Array, "graph member member"]) -> Float[Array, "graph member member"]:
    """1 - D^-1/2 A D^-1/2, zero for nodes without edges."""
    degree = jnp.sum(a, -1)
    root = safe_power(degree, -0.5)
    own = jnp.eye(a.shape[-1], dtype=a.dtype)[None] * (degree > 0)[:, None, :]
    return own - root[:, :, None] * a * root[:, None, :]


def spectrum(
    matrix: Float[Array, "graph member member"], mask: Bool[Array, "graph member"]
) -> Spectrum:
    """Of symmetric matrices with eigenvalues below 4, such as Laplacians; constants for autodiff.

    Args:
        matrix: zero in rows and columns of places without a node.
        mask: the places with a node, before all others.
    """
    empty = jnp.where(mask, 0, PADDING).astype(matrix.dtype)
    whole = matrix + jnp.eye(matrix.shape[-1], dtype=matrix.dtype)[None] * empty[:, None, :]
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(whole))
    return Spectrum(jnp.where(mask, values, 0), jnp.where(mask[:, None], vectors, 0), mask)


def filtered(
    found: Spectrum, filters: Float[Array, "graph eigenvalue m"]
) -> Float[Array, "graph member member m"]:
    """V diag(φ) Vᵀ for the values φ of every function at every eigenvalue."""
    v = found.vectors
    filters = jnp.where(found.mask[..., None], filters, 0)
    return jnp.einsum("gik,gkm,gjk->gijm", v, filters, v, precision="highest")


class SpectralEncoding(nn.Module):
    """Encodings of nodes `[node, channels]` from the edges of their graph; see the module.

    φ is a perceptron of each eigenvalue ("each"), or of it and the mean over all of another one
    ("set"). ρ sees row j of all matrices as features of the nodes, sends messages

        h_i <- perceptron((1 + ε) h_i + sum_i' A_ii' h_i')

    and sums over j. There are no batch norms in it, as the published code has.
    """

    channels: int
    filters: int = 16  # functions φ
    hidden: int = 16  # channels within φ and ρ
    layers: int = 2  # of φ, and rounds of ρ; at least one
    over: str = "each"  # or "set"

    @nn.compact
    def __call__(
        self, graph: Graph, weights: Float[Array, "edge"] | None = None
    ) -> Float[Array, "node channels"]:
        """Zero for padding.

        Args:
            weights: of the edges, such as an envelope of their lengths; one by default.

        Raises:
            ValueError: `over` is none of the two; there are no layers.
        """
        if self.over not in SPECTRAL:
            raise ValueError(f"φ is over {' or '.join(SPECTRAL)}; got {self.over!r}")
        if self.layers < 1:
            raise ValueError(f"φ and ρ have one layer or more; got {self.layers}")
        weights = None if weights is None else jax.lax.stop_gradient(weights)
        a = adjacency(graph, weights)
        found = spectrum(laplacian(a), members(graph)[1])
        rows = filtered(found, self._filters(found))
        for i in range(self.layers):
            last = self.channels if i == self.layers - 1 else self.hidden
            own = self.param(f"own_{i}", nn.initializers.zeros, ()).astype(rows.dtype)
            heard = jnp.einsum("gab,gbjm->gajm", a, rows, precision="highest")
            rows = Perceptron([self.hidden, last], name=f"round_{i}")((1 + own) * rows + heard)
        there = found.mask[:, None, :, None]
        return of_members(jnp.sum(jnp.where(there, rows, 0), 2), graph)

    def _filters(self, found: Spectrum) -> Array:
        """φ_l(λ_k)."""
        x = found.values[..., None]
        if self.over == "set":
            mean = Perceptron([self.hidden, self.hidden], name="set")(x)
            mean = jnp.sum(jnp.where(found.mask[..., None], mean, 0), 1, keepdims=True)
            count = jnp.sum(found.mask, 1).astype(x.dtype)[:, None, None]
            mean = safe_divide(mean, jnp.broadcast_to(count, mean.shape))
            x = jnp.concatenate([x, jnp.broadcast_to(mean, (*x.shape[:2], self.hidden))], -1)
        widths = [self.hidden] * (self.layers - 1)
        return Perceptron([*widths, self.filters], name="filters")(x)
