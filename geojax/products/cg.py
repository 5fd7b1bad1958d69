"""The Clebsch-Gordan product, and its derivatives as products of the same kind.

With t the coupling coefficients and w the weight of each path, everything is one form,

    F(w, out, x, y) = sum over (path, a, b, c) of t w_path out_a x_b y_c

linear in four arrays (see `form`). Leaving its derivatives to autodiff costs about five times more
at lmax 2, and eight at 3.

Small products are unrolled: one row of the result at a time as a sum over the non-zero t with
channels last, which the compiler turns into one loop of multiply-adds per row. The number of terms
grows like lmax^5 and compile time with it, so large ones go path by path through matrix products.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.products.form import Bound, assemble, bind
from geojax.products.product import Direction, Spec, product
from geojax.so3 import Path, clebsch_gordan

__all__ = ["Block", "Coefficients", "blocks", "cg", "rows_of_target"]

# Largest number of terms that are unrolled. On two CPU cores (4096 edges, 32 channels, paths kept)
# the unrolled form is faster up to lmax 4 at least, but there (1158 terms) the product and its
# three cotangents compile for 62 s, against 16 s path by path.
UNROLL = 600


def one(path: Path) -> float:
    """The weight of every path in the Clebsch-Gordan product."""
    del path
    return 1.0


@dataclass(frozen=True)
class Coefficients:
    """F, all of it static.

    Attributes:
        spec: of the product.
        weighted: there is an argument w.
        thin: y has a single channel, which couples to all of x's.
        weight: the weight of each path, a function.
        pole: y is no argument but the harmonics of the polar axis, which have m = 0 only.
    """

    spec: Spec
    weighted: bool
    thin: bool = False
    weight: Callable[[Path], float] = one
    pole: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("w",) * self.weighted + ("out", "x") + ("y",) * (not self.pole)

    @property
    def is_unrolled(self) -> bool:
        """Whether every term is written out."""
        return self.pole or len(_terms(self)) <= UNROLL

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        evaluate = _unrolled if self.is_unrolled else _by_path
        return evaluate(self, target, given)


@product("cg")
def cg(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product by its definition: exact, any degrees, parities, weights and layouts."""
    assert not isinstance(y, Direction), "registered without direction=True"
    return bind(Coefficients, y, weights, spec, channels)


class Term(NamedTuple):
    """One non-zero coefficient of F and the rows that it couples."""

    w: int
    out: int
    x: int
    y: int
    value: float


class Block(NamedTuple):
    """The coefficients of one path, `[out, x, y]`, and where it sits in each argument."""

    w: slice
    out: slice
    x: slice
    y: slice
    values: np.ndarray


@cache
def blocks(form: Coefficients) -> tuple[Block, ...]:
    """The coefficients of each path, in the order of the weights."""
    found, start = [], 0
    spec = form.spec
    rows = lambda l: slice(l * l, (l + 1) ** 2)
    for i, path in enumerate(spec.paths()):
        l1, l2, l3 = path
        scale = math.sqrt(2 * l3 + 1) * form.weight(path)
        values = scale * clebsch_gordan(l1, l2, l3).transpose(2, 0, 1)
        if form.pole:
            values = math.sqrt(2 * l2 + 1) * values[:, :, l2 : l2 + 1]
        out = slice(start, start + 2 * l3 + 1) if spec.layout == "keep" else rows(l3)
        found.append(Block(slice(i, i + 1), out, rows(l1), rows(l2), values))
        start += 2 * l3 + 1
    return tuple(found)


@cache
def _terms(form: Coefficients) -> tuple[Term, ...]:
    return tuple(
        Term(b.w.start, b.out.start + k, b.x.start + i, b.y.start + j, float(b.values[k, i, j]))
        for b in blocks(form)
        for k, i, j in np.argwhere(b.values).tolist()
    )


def _unrolled(form: Coefficients, target: str, given: Mapping[str, Array]) -> Array:
    rows_of = lambda a: [a[..., row, :] for row in range(a.shape[-2])]
    rows = rows_of_target(form, target, {name: rows_of(a) for name, a in given.items()})
    zero = jnp.zeros_like(max(given.values(), key=lambda a: a.shape[-1])[..., 0, :])
    out = jnp.stack([zero if row is None else row for row in rows], -2)
    return out.sum(-1, keepdims=True) if form.thin and target == "y" else out


def rows_of_target(
    form: Coefficients, target: str, given: Mapping[str, Sequence[Array]]
) -> list[Array | None]:
    """Each row of the target as a nested sum over rows of the other arguments; None is zero.

    Of a thin y these are still to be summed over channels.
    """
    terms, names = _group(_terms(form), target), tuple(given)
    return [
        _nested(terms[row], names, given) if row in terms else None
        for row in range(form.spec.rows(target))
    ]


def _nested(terms: list[Term], names: tuple[str, ...], given: Mapping[str, Sequence[Array]]) -> Any:
    """sum_i a_i (sum_j b_j (sum_k t_ijk c_k)): factors as late as they can be."""
    if not names:
        (term,) = terms
        return term.value
    first, *rest = names
    parts = [
        _nested(group, tuple(rest), given) * given[first][row]
        for row, group in _group(terms, first).items()
    ]
    return sum(parts[1:], parts[0])


def _group(terms: Iterable[Term], name: str) -> dict[int, list[Term]]:
    key = lambda term: getattr(term, name)
    return {row: list(group) for row, group in groupby(sorted(terms, key=key), key)}


def _by_path(form: Coefficients, target: str, given: Mapping[str, Array]) -> Array:
    """Path by path: matrix products of the coefficients with one factor, and that with the next."""
    parts: dict[int, list[Array]] = {}
    for block in blocks(form):
        here = {name: a[..., getattr(block, name), :] for name, a in given.items()}
        part = _one_path(form, target, here, block.values)
        parts.setdefault(getattr(block, target).start, []).append(part)
    return assemble(parts, form.spec.rows(target))


def _one_path(
    form: Coefficients, target: str, given: dict[str, Array], values: np.ndarray
) -> Array:
    """The part of dF/dtarget that one path gives, on the rows of that path."""
    weight = given.pop("w", None)
    if target == "w":
        product = _one_path(form, "out", {"x": given["x"], "y": given["y"]}, values)
        return (product * given["out"]).sum(-2, keepdims=True)
    if weight is not None:
        wide = "out" if "out" in given else "x"
        given[wide] = given[wide] * weight
    axes = {"out": "k", "x": "i", "y": "j"}
    t = jnp.asarray(values, next(iter(given.values())).dtype)
    einsum = partial(jnp.einsum, precision="highest")
    if not form.thin:
        (a, first), (b, second) = ((axes[name], array) for name, array in given.items())
        half = einsum(f"kij,...{b}c->...{a}{axes[target]}c", t, second)
        return (half * first[..., :, None, :]).sum(-3)
    if target == "y":
        pairs = einsum("...kc,...ic->...ki", given["out"], given["x"])
        return einsum("kij,...ki->...j", t, pairs)[..., None]
    matrix = einsum("kij,...j->...ki", t, given["y"][..., 0])
    (a, wide), *_ = ((axes[name], array) for name, array in given.items() if name != "y")
    return einsum(f"...ki,...{a}c->...{axes[target]}c", matrix, wide)
