"""Products as forms F(out, x, y, ...), linear in each argument, and all their derivatives.

The product is dF/dout. Its cotangents are dF/dx, dF/dy, ...; and since F is linear in each of its
arguments, the derivatives of those are the same few maps again, at every order and in both modes. A
kernel says how to evaluate each of them well; nothing is left to autodiff, whose transposes of
fast programs are often slow ones.
"""

from collections.abc import Hashable, Mapping
from functools import cache, partial
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from geojax.multilinear import Multilinear
from geojax.products.product import Spec

__all__ = ["Form", "assemble", "bilinear", "derivative", "is_thin", "rows_of"]


@runtime_checkable
class Form(Hashable, Protocol):
    """A multilinear form of named arrays, all of it static and hashable."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names in the order in which operands are passed."""
        ...

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        """dF/dtarget, from the other arguments."""
        ...


@cache
def derivative(form: Form, target: str) -> Multilinear:
    """dF/dtarget, a map of the other arguments in their order."""
    names = tuple(name for name in form.arguments if name != target)
    return Multilinear(
        lambda *operands: form.evaluate(target, dict(zip(names, operands, strict=True))),
        tuple(partial(_transposed, form, target, source) for source in names),
    )


def _transposed(form: Form, target: str, source: str, cotangent: Array, *operands: Array) -> Array:
    """The cotangent of `source` from that of `target` and the other arguments of F."""
    others = (name for name in form.arguments if name not in (target, source))
    given = dict(zip(others, operands, strict=True)) | {target: cotangent}
    ordered = (given[name] for name in form.arguments if name in given)
    return derivative(form, source)(*ordered)


def bilinear(form: Form, x: Array, y: Array, weights: Array | None) -> Array:
    """The product of a form with the arguments (w,) out, x, y."""
    operands = (x, y) if weights is None else (weights, x, y)
    return derivative(form, "out")(*operands)


def is_thin(x: Array, y: Array) -> bool:
    """Whether y has a single channel, which couples to all of x's."""
    return y.shape[-1] == 1 != x.shape[-1]


def rows_of(spec: Spec, name: str) -> int:
    """The number of rows of x, y, out or the weights w."""
    if name == "out" and spec.layout == "keep":
        return sum(2 * path.l3 + 1 for path in spec.paths())
    if name == "w":
        return len(spec.paths())
    return ({"x": spec.lmax_x, "y": spec.lmax_y, "out": spec.lmax}[name] + 1) ** 2


def assemble(parts: Mapping[int, list[Array]], rows: int) -> Array:
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
