"""Attention over pairs and triples of points by their geometric products, dense and with masks.

The product p of a tuple of vectors is a multivector of Cl(3). With a × b the dual of a ∧ b,

    rank 1    r_i                                                                       1o
    rank 2    r_i·r_j                                                                   0e
              r_i × r_j                                                                 1e
    rank 3    (r_i·r_j) r_k - (r_i·r_k) r_j + (r_j·r_k) r_i                             1o
              (r_i × r_j)·r_k, the signed volume                                        0o

and a layer of attention is, over all tuples (i, j, ...) that begin with point i, i again among j,

    v_ij.. = J(V(q(p)), M(h_i, h_j, ..))    w_ij.. = softmax_j.. S(v_ij..)
    y_i    = sum_j.. w_ij.. v_ij..          t_i    = sum_j.. w_ij.. sum_p R_p(v_ij..) <p>

with perceptrons V (a norm inside), S and R, the invariants q of the products, and their parts <p>
of the symmetry of the output t. M and J are means or learned linear maps.

Which products there are is the `mode`: "single" the whole tuple's; "partial" also those of its
beginnings, r_i, r_i r_j, ..; "full" those of all its runs, so also r_j and r_j r_k. So outputs are

    mode       rank 2             rank 3
    single     0e 1e              0e 1o 0o
    partial    0e 1o 1e           0e 1o 1e 0o
    full       0e 1o 1e           0e 1o 1e 0o

where 0e can always be read from y. Polar vectors 1o (forces, displacements) of pairs need "partial"
or "full": a single product of two vectors has but the pseudovector.

Lengths are sqrt(1 + |p|²) - 1, in place of the published |p|, whose derivative jumps where three
atoms are in line. The signed volume as an input makes scalars that change in a mirror, and leaves
SE(3); without `chiral` its length is taken, which keeps E(3).

References:
    Spellings, "Geometric algebra attention networks for small point clouds", 2021,
    https://arxiv.org/abs/2110.02393.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Bool, Float

from geojax.nn.dense import Affine, Perceptron
from geojax.nn.linear import Blocks
from geojax.nn.message import irrep
from geojax.nn.norm import LayerNorm
from geojax.nn.set_attention import masked_softmax
from geojax.registry import did_you_mean

__all__ = [
    "TUPLE_MODES",
    "TupleAttention",
    "TupleOutput",
    "TupleProduct",
    "smooth_length",
    "tuple_invariants",
    "tuple_irreps",
    "tuple_products",
]

SCALAR, VECTOR = irrep(0), irrep(1)
PSEUDOSCALAR, PSEUDOVECTOR = irrep(0, pseudo=True), irrep(1, pseudo=True)
PARTS = {1: (VECTOR,), 2: (SCALAR, PSEUDOVECTOR), 3: (VECTOR, PSEUDOSCALAR)}  # of a product
TUPLE_MODES = ("single", "partial", "full")
MERGES = ("concat", "mean")


class TupleProduct(NamedTuple):
    """The geometric product of a run of the vectors of a tuple.

    Attributes:
        start: the first place of the run.
        stop: the place after its last.
        parts: by their irreps, `[..., point, .., 1 or 3]` with one axis for each place of the
            tuple, of length one at the places that are not in the run.
    """

    start: int
    stop: int
    parts: Mapping[Irrep, Array]


def runs(rank: int, mode: str) -> list[tuple[int, int]]:
    """Start and stop of the runs of a tuple whose products there are.

    Raises:
        ValueError: another rank than 2 and 3, or another mode.
    """
    if rank not in (2, 3):
        raise ValueError(f"tuples are pairs (rank 2) or triples (rank 3); got rank {rank}")
    if mode not in TUPLE_MODES:
        raise ValueError(
            f"products are of {', '.join(TUPLE_MODES)}; got {mode!r}; "
            f"{did_you_mean(mode, TUPLE_MODES)}"
        )
    found = {
        "single": [(0, rank)],
        "partial": [(0, stop) for stop in range(1, rank + 1)],
        "full": list(combinations(range(rank + 1), 2)),
    }
    return found[mode]


def tuple_irreps(rank: int, mode: str) -> frozenset[Irrep]:
    """The parts that products of tuples have.

    Raises:
        ValueError: another rank than 2 and 3, or another mode.
    """
    return frozenset(item for a, b in runs(rank, mode) for item in PARTS[b - a])


def tuple_products(r: Float[Array, "*n point 3"], rank: int, mode: str) -> tuple[TupleProduct, ...]:
    """The products of all tuples of points; see the module.

    Raises:
        ValueError: another rank than 2 and 3, or another mode.
    """
    at = lambda place: jnp.expand_dims(r, [r.ndim - 2 + k for k in range(rank) if k != place])
    return tuple(
        TupleProduct(start, stop, _product([at(k) for k in range(start, stop)]))
        for start, stop in runs(rank, mode)
    )


def _product(vectors: list[Array]) -> dict[Irrep, Array]:
    """The parts of the geometric product of one to three vectors."""
    a, *rest = vectors
    if not rest:
        return {VECTOR: a}
    b = rest[0]
    if len(rest) == 1:
        return {SCALAR: _dot(a, b), PSEUDOVECTOR: _cross(a, b)}
    c = rest[1]
    vector = _dot(a, b) * c - _dot(a, c) * b + _dot(b, c) * a
    return {VECTOR: vector, PSEUDOSCALAR: _dot(_cross(a, b), c)}


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, -1, keepdims=True)


def _cross(a: Array, b: Array) -> Array:
    a, b = jnp.broadcast_arrays(a, b)
    return jnp.cross(a, b)


def smooth_length(x: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
    """sqrt(1 + |x|²) - 1: |x|²/2 where x is short, |x| - 1 where it is long."""
    square = _dot(x, x)
    return square / (1 + jnp.sqrt(1 + square))


def tuple_invariants(products: tuple[TupleProduct, ...], chiral: bool = True) -> list[Array]:
    """q, the numbers of every product that do not turn: two, and one of a single vector.

    Args:
        products: of `tuple_products`.
        chiral: signed volumes, not their lengths.
    """
    signed = {SCALAR, PSEUDOSCALAR} if chiral else {SCALAR}
    return [
        x if item in signed else smooth_length(x)
        for product in products
        for item, x in product.parts.items()
    ]


class Tuples(nn.Module):
    """v and w of all tuples; see the module."""

    hidden: int
    rank: int
    mode: str
    merge: str
    join: str
    chiral: bool

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "*n point channel"],
        products: tuple[TupleProduct, ...],
        mask: Bool[Array, "*n point"],
    ) -> tuple[Array, Array]:
        for name in (self.merge, self.join):
            if name not in MERGES:
                raise ValueError(f"what tuples know is merged by {', '.join(MERGES)}; got {name!r}")
        rank, width, first = self.rank, h.shape[-1], h.ndim - 2
        axes = [first + k for k in range(rank)]
        at = lambda x, place: jnp.expand_dims(x, [axes[k] for k in range(rank) if k != place])
        q = tuple_invariants(products, self.chiral)
        known = LayerNorm(name="norm")(Affine(self.hidden, name="invariants_0")(*q))
        known = Affine(width, name="invariants_1")(nn.silu(known))
        parts = [at(h, place) for place in range(rank)]
        if self.merge == "concat":
            merged = Affine(width, name="merge")(*parts)
        else:
            merged = sum(parts[1:], parts[0]) / rank
        if self.join == "concat":
            v = Affine(width, name="join")(known, merged)
        else:
            v = (known + merged) / 2
        scores = Perceptron((self.hidden, 1), name="score")(v)[..., 0]
        real = jnp.expand_dims(mask, axes[1:])
        for place in range(1, rank):
            real = real & at(mask, place)
        flat = (*h.shape[:-1], -1)
        w = masked_softmax(scores.reshape(flat), jnp.broadcast_to(real, scores.shape).reshape(flat))
        return v, w.reshape(scores.shape)


class TupleAttention(nn.Module):
    """y_i, what point i hears of the tuples that begin with it; see the module.

    Time and memory grow as the number of points to the power of `rank`.
    """

    hidden: int  # channels inside the perceptrons
    rank: int = 2  # points of a tuple
    mode: str = "partial"  # which products
    merge: str = "concat"  # M, or "mean"
    join: str = "concat"  # J, or "mean"
    chiral: bool = True  # signed volumes as inputs

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "*n point channel"],
        r: Float[Array, "*n point 3"],
        mask: Bool[Array, "*n point"],
    ) -> Float[Array, "*n point channel"]:
        """Zero for points that the mask excludes.

        Args:
            h: what points know.
            r: where they are.
            mask: which points there are.

        Raises:
            ValueError: another rank or mode, or an unknown way to merge or join.
        """
        v, w = _tuples(self, h, tuple_products(r, self.rank, self.mode), mask)
        y = jnp.sum(w[..., None] * v, tuple(h.ndim - 1 + k for k in range(self.rank - 1)))
        return jnp.where(mask[..., None], y, 0)


class TupleOutput(nn.Module):
    """t_i, vectors and other parts of products; see the module.

    R has one number for each product and channel. The published factors of products, which are
    the same for all tuples, are among what it can be.
    """

    widths: Mapping[Irrep, int]  # channels of each irrep
    hidden: int
    rank: int = 2
    mode: str = "partial"
    merge: str = "concat"
    join: str = "concat"
    chiral: bool = True

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "*n point channel"],
        r: Float[Array, "*n point 3"],
        mask: Bool[Array, "*n point"],
    ) -> Blocks:
        """`[..., point, 2 l + 1, channel]` of each irrep; see `TupleAttention`.

        Raises:
            ValueError: another rank or mode, no product has a part of such an irrep, or an unknown
                way to merge or join.
        """
        there = tuple_irreps(self.rank, self.mode)
        if missing := [str(i) for i in self.widths if i not in there]:
            raise ValueError(
                f"products of mode {self.mode!r} and rank {self.rank} have the parts "
                f"{', '.join(sorted(map(str, there)))}; got outputs {', '.join(missing)}; "
                "a vector 1o of pairs needs mode 'partial', 0o needs rank 3"
            )
        products = tuple_products(r, self.rank, self.mode)
        v, w = _tuples(self, h, products, mask)
        terms = [(p, i) for p in products for i in p.parts if i in self.widths]
        count = [self.widths[i] for _, i in terms]
        factors = w[..., None] * Perceptron((self.hidden, sum(count)), name="factor")(v)
        first, column, out = h.ndim - 2, 0, {}
        for (product, item), width in zip(terms, count, strict=True):
            factor, part = factors[..., column : column + width], product.parts[item]
            column += width
            outside = [k for k in range(1, self.rank) if not product.start <= k < product.stop]
            factor = jnp.sum(factor, [first + k for k in outside], keepdims=True)
            inside = tuple(first + k for k in range(1, self.rank))
            term = jnp.sum(part[..., :, None] * factor[..., None, :], inside)
            out[item] = out[item] + term if item in out else term
        return {i: jnp.where(mask[..., None, None], x, 0) for i, x in out.items()}


def _tuples(
    module: TupleAttention | TupleOutput,
    h: Array,
    products: tuple[TupleProduct, ...],
    mask: Array,
) -> tuple[Array, Array]:
    fields = ("hidden", "rank", "mode", "merge", "join", "chiral")
    return Tuples(**{f: getattr(module, f) for f in fields}, name="tuples")(h, products, mask)
