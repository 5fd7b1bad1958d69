"""Products as forms F(out, x, y, ...), linear in each argument, and all their derivatives.

The product is dF/dout. Its cotangents are dF/dx, dF/dy, ...; and since F is linear in each of its
arguments, the derivatives of those are the same few maps again, at every order and in both modes. A
kernel says how to evaluate each of them well; nothing is left to autodiff, whose transposes of
fast programs are often slow ones.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["Bound", "Form", "Spacious", "assemble", "bind"]


@runtime_checkable
class Form(Hashable, Protocol):
    """A multilinear form of named arrays `[..., row, channel]`, all of it static and hashable.

    Programs are cached by it, so forms of two classes must differ: frozen dataclasses, which do,
    where NamedTuples of equal fields do not.
    """

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names in the order in which operands are passed."""
        ...

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        """dF/dtarget, from the other arguments.

        A form may also have `native(at_nodes, target, platform, result, *operands)`, which gives a
        function with code of its own for `edges.derivative` on a platform, or None.
        """
        ...


@runtime_checkable
class Spacious(Protocol):
    """A form that needs more room than its arguments, which counts where chunks are cut."""

    def workspace(self, target: str) -> int:
        """Rows of intermediates of dF/dtarget."""
        ...


class Bound(NamedTuple):
    """A product whose first factor is open: a form, and all its arguments but x and out."""

    form: Form
    operands: dict[str, Array]


def bind(
    kind: Callable[[Any, bool, bool], Form],
    y: Array,
    weights: Array | None,
    spec: Hashable,
    channels: int,
) -> Bound:
    """The form `kind(spec, weighted, thin)` with features y and weights, if there are any.

    It is thin if y has one channel, which couples to all of x's `channels`.
    """
    operands = {"y": y} if weights is None else {"y": y, "w": weights}
    return Bound(kind(spec, weights is not None, y.shape[-1] != channels), operands)


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
