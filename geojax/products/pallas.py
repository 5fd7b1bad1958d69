"""The Clebsch-Gordan product as one GPU kernel: gather, product and sum in registers.

A program of the kernel owns one node (or, for cotangents of edge arrays, one edge) and a block of
channels, one per thread. It walks through the node's edges and adds up in registers; nothing is
written per edge and nothing scatters, so that results are the same bit by bit in every run.

The kernel is used on cuda for float32 and multiples of 32 channels; everything else is `cg`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from geojax.products.cg import Coefficients, rows_of_target
from geojax.products.form import Bound, bind
from geojax.products.product import Direction, Spec, product

__all__ = ["Pallas", "cg_pallas"]

LANES = 32  # channels of a program, one warp
# Largest number of rows that a program adds up: registers of a warp.
ROWS = 128


@product("cg-pallas", platform="cuda")
def cg_pallas(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product `cg`, by a kernel of its own on GPUs."""
    assert not isinstance(y, Direction), "registered without direction=True"
    return bind(Pallas, y, weights, spec, channels)


@dataclass(frozen=True)
class Pallas(Coefficients):
    """The form of `cg` with a GPU kernel for its derivatives."""

    def native(
        self, at_nodes: tuple[str, ...], target: str, platform: str, result: Any, *operands: Any
    ) -> Callable[..., Array] | None:
        """dF/dtarget by the kernel, for operands of these shapes; None if they do not fit."""
        floats = len(self.arguments) - 1
        channels = max(a.shape[-1] for a in operands[:floats])
        fits = (
            platform == "cuda"
            and channels % LANES == 0
            and all(a.dtype == jnp.float32 and a.size for a in operands[:floats])
            and self.spec.rows(target) <= ROWS
            and self.is_unrolled
        )
        return partial(run, self, at_nodes, target, result.shape) if fits else None


def run(
    form: Coefficients,
    at_nodes: tuple[str, ...],
    target: str,
    shape: tuple[int, ...],
    *operands: Array,
    interpret: bool = False,
) -> Array:
    """dF/dtarget of this shape, as `edges.derivative` defines it; `interpret` for any device."""
    from jax.experimental import pallas  # here: it takes half a second, which only GPUs need
    from jax.experimental.pallas import triton

    names = tuple(name for name in form.arguments if name != target)
    channels = max(a.shape[-1] for a in operands[: len(names)])
    index = dict(zip(at_nodes, operands[len(names) :], strict=True))
    if target in index:
        # edges come in the order of receivers; for senders they are sorted first
        at = index[target]
        order = jnp.arange(len(at)) if target == "out" else jnp.argsort(at, stable=True)
        ends = jnp.searchsorted(at[order], jnp.arange(shape[0] + 1))
        operands += (order.astype(jnp.int32), ends.astype(jnp.int32))
    return pallas.pallas_call(
        partial(_kernel, form, target, names, at_nodes, channels),
        out_shape=jax.ShapeDtypeStruct(shape, jnp.float32),
        grid=(shape[0], 1 if shape[-1] == 1 else channels // LANES),
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=1),
    )(*operands)


def _kernel(
    form: Coefficients,
    target: str,
    names: tuple[str, ...],
    at_nodes: tuple[str, ...],
    channels: int,
    *refs: Any,
) -> None:
    """One owner and one block of channels; `refs` are the operands of `run`, and the result."""
    from jax.experimental import pallas

    owner, block = pallas.program_id(0), pallas.program_id(1)
    given = dict(zip(names, refs, strict=False))
    index = dict(zip(at_nodes, refs[len(names) :], strict=False))
    result = refs[-1]

    def rows(edge: Any, lanes: Any) -> list[Array]:
        """The rows of one edge's term."""
        here = {
            name: _read(ref, index[name][edge] if name in index else edge, lanes)
            for name, ref in given.items()
        }
        zero = jnp.zeros(LANES, jnp.float32)
        return [zero if row is None else row for row in rows_of_target(form, target, here)]

    if form.thin and target == "y":
        blocks = [rows(owner, pallas.ds(c, LANES)) for c in range(0, channels, LANES)]
        for number, parts in enumerate(zip(*blocks, strict=True)):
            result[owner, number, 0] = jnp.sum(sum(parts[1:], parts[0]))
        return
    lanes = pallas.ds(block * LANES, LANES)
    if target in index:
        order, ends = refs[-3], refs[-2]
        add = lambda k, sums: tuple(a + b for a, b in zip(sums, rows(order[k], lanes), strict=True))
        start = tuple(jnp.zeros(LANES, jnp.float32) for _ in range(result.shape[1]))
        found = jax.lax.fori_loop(ends[owner], ends[owner + 1], add, start)
    else:
        found = rows(owner, lanes)
    for number, row in enumerate(found):
        result[owner, number, lanes] = row


def _read(ref: Any, place: Any, lanes: Any) -> list[Array]:
    """The rows at one node or edge: numbers if there is one channel, else LANES channels."""
    count, width = ref.shape[1:]
    if width == 1:
        return [ref[place, row, 0] for row in range(count)]
    return [ref[place, row, lanes] for row in range(count)]
