"""The Clebsch-Gordan product, and its derivatives as products of the same kind.

With t the coupling coefficients and w the weight of each path, everything is one form,

    F(g, x, y, w) = sum over (out, a, b, path) of t g_out x_a y_b w_path

linear in four arrays. The product is dF/dg; its cotangents are dF/dx, dF/dy, dF/dw; and since F is
linear in each, their derivatives are the same four maps again, at every order and in both modes.
Leaving that to autodiff costs about five times more at lmax 2, and eight at 3.

Small products are unrolled: one row of the result at a time as a sum over the non-zero t with
channels last, which the compiler turns into one loop of multiply-adds per row. The number of terms
grows like lmax^5 and compile time with it, so large ones go path by path through matrix products.
"""

from collections.abc import Iterable
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.multilinear import Multilinear
from geojax.products.product import Direction, Spec, product
from geojax.so3 import clebsch_gordan

__all__ = ["cg"]

# Largest number of terms that are unrolled. On two CPU cores (4096 edges, 32 channels, paths kept)
# the unrolled form is faster up to lmax 4 at least, but there (1158 terms) the product and its
# three cotangents compile for 62 s, against 16 s path by path.
UNROLL = 600
# Largest number of rows that a CPU stacks; more are written into place one by one, because the
# copy that a stack makes costs more than clearing the result: 46 against 88 ms for 99 rows.
STACK = 64


class Form(NamedTuple):
    """F, all of it static. `one`: y has a single channel, which couples to all of x's."""

    spec: Spec
    weighted: bool
    one: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("w", "out", "x", "y") if self.weighted else ("out", "x", "y")


@product("cg")
def cg(x: Array, y: Array | Direction, weights: Array | None, spec: Spec) -> Array:
    """The product by its definition: exact, any degrees, parities, weights and layouts."""
    assert not isinstance(y, Direction), "registered without direction=True"
    form = Form(spec, weights is not None, y.shape[-1] == 1 != x.shape[-1])
    operands = (x, y) if weights is None else (weights, x, y)
    return _derivative(form, "out")(*operands)


@cache
def _derivative(form: Form, target: str) -> Multilinear:
    """dF/dtarget, a map of the other arguments in their order."""
    names = tuple(name for name in form.arguments if name != target)
    evaluate = _unrolled if len(_terms(form.spec)) <= UNROLL else _by_path
    return Multilinear(
        partial(evaluate, form, target, names),
        tuple(partial(_transposed, form, target, source) for source in names),
    )


def _transposed(form: Form, target: str, source: str, cotangent: Array, *operands: Array) -> Array:
    """The cotangent of `source` from that of `target` and the other arguments of F."""
    others = (name for name in form.arguments if name not in (target, source))
    given = dict(zip(others, operands, strict=True)) | {target: cotangent}
    ordered = (given[name] for name in form.arguments if name in given)
    return _derivative(form, source)(*ordered)


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
def _blocks(spec: Spec) -> tuple[Block, ...]:
    blocks, start = [], 0
    rows = lambda l: slice(l * l, (l + 1) ** 2)
    for i, (l1, l2, l3) in enumerate(spec.paths()):
        values = np.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3).transpose(2, 0, 1)
        out = slice(start, start + 2 * l3 + 1) if spec.layout == "keep" else rows(l3)
        blocks.append(Block(slice(i, i + 1), out, rows(l1), rows(l2), values))
        start += 2 * l3 + 1
    return tuple(blocks)


@cache
def _terms(spec: Spec) -> tuple[Term, ...]:
    return tuple(
        Term(b.w.start, b.out.start + k, b.x.start + i, b.y.start + j, float(b.values[k, i, j]))
        for b in _blocks(spec)
        for k, i, j in np.argwhere(b.values).tolist()
    )


def _rows(spec: Spec, name: str) -> int:
    """The number of rows of an argument of F."""
    if name == "out" and spec.layout == "keep":
        return sum(2 * path.l3 + 1 for path in spec.paths())
    return {
        "w": len(spec.paths()),
        "out": (spec.lmax + 1) ** 2,
        "x": (spec.lmax_x + 1) ** 2,
        "y": (spec.lmax_y + 1) ** 2,
    }[name]


def _unrolled(form: Form, target: str, names: tuple[str, ...], *operands: Array) -> Array:
    """Row by row of the target, each a nested sum over the rows of the other arguments."""
    given = dict(zip(names, operands, strict=True))
    terms = _group(_terms(form.spec), target)
    zero = jnp.zeros_like(max(operands, key=lambda a: a.shape[-1])[..., 0, :])
    rows = [
        _nested(terms[row], names, given) if row in terms else zero
        for row in range(_rows(form.spec, target))
    ]
    out = _stack(rows)
    return out.sum(-1, keepdims=True) if form.one and target == "y" else out


def _stack(rows: list[Array]) -> Array:
    """The rows on axis -2."""
    stack = lambda *rows: jnp.stack(rows, -2)
    if len(rows) <= STACK:
        return stack(*rows)
    return jax.lax.platform_dependent(*rows, cpu=_write, default=stack)


def _write(*rows: Array) -> Array:
    out = jnp.zeros((*rows[0].shape[:-1], len(rows), rows[0].shape[-1]), rows[0].dtype)
    for i, row in enumerate(rows):
        out = jax.lax.dynamic_update_slice_in_dim(out, row[..., None, :], i, -2)
    return out


def _nested(terms: list[Term], names: tuple[str, ...], given: dict[str, Array]) -> Any:
    """sum_i a_i (sum_j b_j (sum_k t_ijk c_k)): factors as late as they can be."""
    if not names:
        (term,) = terms
        return term.value
    first, *rest = names
    parts = [
        _nested(group, tuple(rest), given) * given[first][..., row, :]
        for row, group in _group(terms, first).items()
    ]
    return sum(parts[1:], parts[0])


def _group(terms: Iterable[Term], name: str) -> dict[int, list[Term]]:
    key = lambda term: getattr(term, name)
    return {row: list(group) for row, group in groupby(sorted(terms, key=key), key)}


def _by_path(form: Form, target: str, names: tuple[str, ...], *operands: Array) -> Array:
    """Path by path: matrix products of the coefficients with one factor, and that with the next."""
    given = dict(zip(names, operands, strict=True))
    parts: dict[int, list[Array]] = {}
    for block in _blocks(form.spec):
        here = {name: a[..., getattr(block, name), :] for name, a in given.items()}
        part = _one_path(form, target, here, block.values)
        parts.setdefault(getattr(block, target).start, []).append(part)
    return _assemble(parts, _rows(form.spec, target))


def _one_path(form: Form, target: str, given: dict[str, Array], values: np.ndarray) -> Array:
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
    if not form.one:
        (a, first), (b, second) = ((axes[name], array) for name, array in given.items())
        half = einsum(f"kij,...{b}c->...{a}{axes[target]}c", t, second)
        return (half * first[..., :, None, :]).sum(-3)
    if target == "y":
        pairs = einsum("...kc,...ic->...ki", given["out"], given["x"])
        return einsum("kij,...ki->...j", t, pairs)[..., None]
    matrix = einsum("kij,...j->...ki", t, given["y"][..., 0])
    (a, wide), *_ = ((axes[name], array) for name, array in given.items() if name != "y")
    return einsum(f"...ki,...{a}c->...{axes[target]}c", matrix, wide)


def _assemble(parts: dict[int, list[Array]], rows: int) -> Array:
    """The blocks of rows, summed where they start at the same row, with zeros between them."""
    first = parts[min(parts)][0]
    empty = lambda n: jnp.zeros((*first.shape[:-2], n, first.shape[-1]), first.dtype)
    blocks, end = [], 0
    for start in sorted(parts):
        if start > end:
            blocks.append(empty(start - end))
        blocks.append(sum(parts[start][1:], parts[start][0]))
        end = start + blocks[-1].shape[-2]
    if end < rows:
        blocks.append(empty(rows - end))
    return jnp.concatenate(blocks, -2)
