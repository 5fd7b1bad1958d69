"""Forms F(out, w, x) that are linear in out and w and polynomial in x, and all their derivatives.

Products of x with itself need no copies of x, as a multilinear map would (see `multilinear`), if
the derivative along directions is a map of its own,

    F(out, w, x; d1 ... dk) = the k-th derivative of F at x along d1, ..., dk.

It is linear in each direction and symmetric in them. Its derivative in x along d is the same with
one direction more; the cotangent of a direction, of out or of w is what stands beside it. So these
few maps are closed under differentiation, in both modes, and under vmap.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from geojax.products.edges import in_chunks
from geojax.products.form import Form

__all__ = ["ARGUMENTS", "Polynomial", "apply", "by_autodiff"]

ARGUMENTS = ("w", "out", "x")

# Bytes that one chunk reads and writes, a core's cache, and those of all nodes that are cut into
# chunks. Derivatives in x of 1200 nodes with 64 channels (lmax 3 to 1, cubed) take 10 ms, not 30.
CHUNK = 1 << 19
LARGE = 1 << 23


@runtime_checkable
class Polynomial(Form, Protocol):
    """A form with the arguments `ARGUMENTS`; forms of different kinds are never equal."""

    @property
    def degree(self) -> int:
        """The highest power of x."""
        ...

    def rows(self, target: str) -> int:
        """The rows of "out", "w" or "d" (a direction)."""
        ...

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        """The derivative in a target that is "out", "w" or "d", a direction besides those given.

        Given are the others of "out" and "w", then "x", "d0", "d1", ..., `[node, row, channel]`.
        """
        ...


def apply(form: Polynomial, w: Array, x: Array) -> Array:
    """dF/dout, `[node, row, channel]` from weights and features of that kind."""
    return _derivative(form, "out", w, x)


def by_autodiff(
    value: Callable[[Array, Array], Array], weights: int, target: str, given: Mapping[str, Array]
) -> Array:
    """`Polynomial.evaluate` of a form of which only dF/dout is known, a function of w and x.

    Args:
        value: that function.
        weights: rows of w.
        target: see `Polynomial.evaluate`.
        given: too.
    """
    x = given["x"]

    def along(w: Array, x: Array) -> Array:
        f = partial(value, w)
        for d in (a for name, a in given.items() if name.startswith("d")):
            f = partial(_along, f, d)
        return f(x)

    if target == "out":
        return along(given["w"], x)
    if target == "d":
        return jax.vjp(partial(along, given["w"]), x)[1](given["out"])[0]
    zeros = jnp.zeros((x.shape[0], weights, x.shape[-1]), x.dtype)
    return jax.vjp(lambda w: along(w, x), zeros)[1](given["out"])[0]


def _along(f: Callable[[Array], Array], d: Array, x: Array) -> Array:
    return jax.jvp(f, (x,), (d,))[1]


_polynomial = Primitive("polynomial")


def _derivative(form: Polynomial, target: str, *operands: Array) -> Array:
    """F's derivative in the target; operands are in the order of `_names`."""
    return _polynomial.bind(*operands, form=form, target=target)


def _names(target: str, count: int) -> tuple[str, ...]:
    """What `count` operands are: w, out, x and directions, without the target."""
    first = [name for name in ARGUMENTS if name != target]
    return (*first, *(f"d{i}" for i in range(count - len(first))))


def _evaluate(form: Polynomial, target: str, *operands: Array) -> Array:
    """At once, or on a CPU in chunks of nodes that stay in its cache."""

    given = dict(zip(_names(target, len(operands)), operands, strict=True))
    at_once = partial(form.evaluate, target)
    nodes, channels = operands[0].shape[0], operands[0].shape[-1]
    rows = sum(a.shape[1] for a in operands) + form.rows(target)
    bytes_per_node = rows * channels * operands[0].dtype.itemsize
    if isinstance(nodes, int) and nodes * bytes_per_node <= LARGE:
        return at_once(given)
    size = max(1, CHUNK // bytes_per_node)
    chunked = lambda given: in_chunks(at_once, given, {}, size)
    return jax.lax.platform_dependent(given, cpu=chunked, default=at_once)


@cache
def _compiled(form: Polynomial, target: str) -> Callable[..., Array]:
    return jax.jit(partial(_evaluate, form, target))


@_polynomial.def_impl
def _impl(*operands: Array, form: Polynomial, target: str) -> Array:
    return _compiled(form, target)(*operands)


@_polynomial.def_abstract_eval
def _abstract(*operands, form: Polynomial, target: str):
    x = operands[_names(target, len(operands)).index("x")]
    return ShapedArray((x.shape[0], form.rows(target), x.shape[-1]), x.dtype)


def _jvp(primals, tangents, *, form: Polynomial, target: str):
    names = _names(target, len(primals))
    taken = sum(name.startswith("d") for name in (*names, target))
    parts = []
    for i, (name, tangent) in enumerate(zip(names, tangents, strict=True)):
        if type(tangent) is ad.Zero:
            continue
        if name != "x":
            parts.append(_derivative(form, target, *primals[:i], tangent, *primals[i + 1 :]))
        elif taken < form.degree:
            parts.append(_derivative(form, target, *primals, tangent))
    value = _derivative(form, target, *primals)
    return value, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(value)


def _transpose(cotangent, *operands, form: Polynomial, target: str):
    names = _names(target, len(operands))
    (i,) = [i for i, operand in enumerate(operands) if ad.is_undefined_primal(operand)]
    result: list[Any] = [None] * len(operands)
    if type(cotangent) is ad.Zero:
        result[i] = ad.Zero(operands[i].aval)
        return result
    given = dict(zip(names, operands, strict=True))
    del given[names[i]]
    directions = [given.pop(name) for name in names[:i] + names[i + 1 :] if name.startswith("d")]
    if target == "d":
        directions.append(cotangent)
    else:
        given[target] = cotangent
    ordered = (given[name] for name in ARGUMENTS if name in given)
    source = "d" if names[i].startswith("d") else names[i]
    result[i] = _derivative(form, source, *ordered, *directions)
    return result


def _batch(operands, axes, *, form: Polynomial, target: str):
    """A batch is more nodes."""
    (size,) = {a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None}
    full = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(operands, axes, strict=True)
    ]
    flat = (a.reshape(-1, *a.shape[2:]) for a in full)
    out = _derivative(form, target, *flat)
    return out.reshape(size, full[0].shape[1], *out.shape[1:]), 0


ad.primitive_jvps[_polynomial] = _jvp
ad.primitive_transposes[_polynomial] = _transpose
batching.primitive_batchers[_polynomial] = _batch
mlir.register_lowering(
    _polynomial,
    mlir.lower_fun(
        lambda *operands, form, target: _evaluate(form, target, *operands), multiple_results=False
    ),
)
