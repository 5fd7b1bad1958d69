"""Multilinear maps that say how they are transposed, differentiable to any order in either mode.

Autodiff of a fast forward program is often a slow backward program: the transpose of a gather is a
scatter, that of an unrolled product is a heap of small sums. The cotangent of a multilinear map is
again multilinear, and usually we know a good program for it. jax's own hooks each lack one piece:
`custom_vjp` has no forward mode, `linear_call` no vmap. `Multilinear` has all of them, because
its derivative rule is that of every multilinear map, `dT(x, y) = T(dx, y) + T(x, dy)`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

__all__ = ["Multilinear"]


class Multilinear:
    """`call(*operands)`, linear in each floating-point operand; integer operands are constants.

    Args:
        call: the map, from arrays to one array.
        transposes: for each operand i a function `(cotangent, *operands without i)` that returns
            the cotangent of operand i; None for constants. To be differentiated again in a good
            form, it should call a `Multilinear` itself.
        native: from a platform ("cpu", "cuda"), the abstract result and operands, a function that
            computes the same there by code of its own; or None. It is never asked for programs
            that are exported, spread over devices or mapped over another axis.
    """

    def __init__(
        self,
        call: Callable[..., Array],
        transposes: tuple[Callable[..., Array] | None, ...],
        native: Callable[..., Callable[..., Array] | None] | None = None,
    ):
        self.call = call
        self.transposes = transposes
        self.native = native

    def __call__(self, *operands: Array) -> Array:
        return _multilinear.bind(*operands, rule=self)


_multilinear = Primitive("multilinear")


@_multilinear.def_impl
def _impl(*operands: Array, rule: Multilinear) -> Array:
    return _jitted(rule)(*operands)


@cache
def _jitted(rule: Multilinear) -> Callable[..., Array]:
    return jax.jit(lambda *operands: rule(*operands))


@_multilinear.def_abstract_eval
def _abstract(*operands, rule: Multilinear):
    out = jax.eval_shape(rule.call, *operands)
    return ShapedArray(out.shape, out.dtype)


def _jvp(primals, tangents, *, rule: Multilinear):
    parts = [
        rule(*primals[:i], tangent, *primals[i + 1 :])
        for i, tangent in enumerate(tangents)
        if type(tangent) is not ad.Zero and tangent.dtype != jax.dtypes.float0
    ]
    return rule(*primals), sum(parts[1:], parts[0])


def _transpose(cotangent, *operands, rule: Multilinear):
    (i,) = [i for i, operand in enumerate(operands) if ad.is_undefined_primal(operand)]
    result: list[Any] = [None] * len(operands)
    if type(cotangent) is ad.Zero:
        result[i] = ad.Zero(operands[i].aval)
    else:
        transpose = rule.transposes[i]
        assert transpose is not None, f"operand {i} of {rule.call} is a constant"
        result[i] = transpose(cotangent, *operands[:i], *operands[i + 1 :])
    return result


def _batch(operands, axes, *, rule: Multilinear):
    return _batched(rule, tuple(axes))(*operands), 0


@cache
def _batched(rule: Multilinear, axes: tuple[int | None, ...]) -> Multilinear:
    """The map over a new leading axis: of the result, and `axes` of the operands."""

    def over_batch(i: int, transpose: Callable[..., Array]) -> Callable[..., Array]:
        others = (*axes[:i], *axes[i + 1 :])
        mapped = jax.vmap(transpose, in_axes=(0, *others), out_axes=axes[i] or 0)
        if axes[i] is None:
            return lambda *operands: mapped(*operands).sum(0)
        return mapped

    transposes = tuple(
        None if transpose is None else over_batch(i, transpose)
        for i, transpose in enumerate(rule.transposes)
    )
    return Multilinear(jax.vmap(rule.call, in_axes=axes), transposes)


def _lower(platform: str):
    def lower(context, *operands, rule: Multilinear):
        where = context.module_context
        alone = getattr(where.axis_context, "num_devices", None) in (None, 1)
        call = None
        if rule.native is not None and alone and not where.lowering_parameters.for_export:
            call = rule.native(platform, context.avals_out[0], *context.avals_in)
        return mlir.lower_fun(call or rule.call, multiple_results=False)(context, *operands)

    return lower


ad.primitive_jvps[_multilinear] = _jvp
ad.primitive_transposes[_multilinear] = _transpose
batching.primitive_batchers[_multilinear] = _batch
mlir.register_lowering(_multilinear, _lower("other"))
for _platform in ("cpu", "cuda"):
    mlir.register_lowering(_multilinear, _lower(_platform), platform=_platform)
