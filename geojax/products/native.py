"""The Clebsch-Gordan product as C++ for the CPU at hand, written for the asked degrees and paths.

One pass over the edges does all of a convolution: read a sender, multiply, add at the receiver, in
registers. XLA's loops move every intermediate through memory and take 4 to 10 times longer. Where
there is no compiler, on other devices, in exported programs and in other precisions than float32
and float64, the product is that of `cg`.

The generated lines say what happens to one vector of channels; `native.h` does the rest.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from geojax.native import register
from geojax.products.cg import Block, Coefficients, blocks
from geojax.products.form import Bound, bind
from geojax.products.product import Direction, Spec, product

__all__ = ["Native", "cg_native"]

VECTOR = 64  # bytes
# Largest number of terms that are written out; the compiler takes 1 s for lmax 2 (83 terms), 11 s
# for lmax 4 (1158) and 40 s for lmax 5.
TERMS = 1200
TYPES = {"float32": "float", "float64": "double"}
NAMES = {"w": "W_", "out": "OUT", "x": "X", "y": "Y"}


@product("cg-native", platform="cpu")
def cg_native(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product `cg`, in machine code where this CPU's programs stay in this process."""
    assert not isinstance(y, Direction), "registered without direction=True"
    return bind(Native, y, weights, spec, channels)


@dataclass(frozen=True)
class Native(Coefficients):
    """The form of `cg` with machine code for its derivatives."""

    def native(
        self, at_nodes: tuple[str, ...], target: str, platform: str, result: Any, *operands: Any
    ) -> Callable[..., Array] | None:
        """dF/dtarget by machine code, for operands of these shapes; None if there is none."""
        dtype = operands[0].dtype.name
        terms = sum(np.count_nonzero(block.values) for block in blocks(self))
        if dtype not in TYPES or terms > TERMS or platform != "cpu":
            return None
        channels = max(a.shape[-1] for a in operands[: len(self.arguments) - 1])
        narrow = channels < VECTOR // operands[0].dtype.itemsize
        source = _source(self, dtype, narrow, at_nodes)
        handlers = tuple(f"d_{name}" for name in self.arguments)
        name = register(source, handlers).get(f"d_{target}")
        return None if name is None else jax.ffi.ffi_call(name, result)


@cache
def _source(form: Coefficients, dtype: str, narrow: bool, at_nodes: tuple[str, ...]) -> str:
    lanes = Lanes(form, form.thin and not narrow)
    rows = {name: form.spec.rows(name) for name in ("out", "x", "y")}
    rows["w"] = form.spec.rows("w") if form.weighted else 0
    lines = [
        f"using T = {TYPES[dtype]};",
        f"constexpr long W = {VECTOR // np.dtype(dtype).itemsize};",
        *(f"constexpr long ROWS_{name.upper()} = {count};" for name, count in rows.items()),
        f"constexpr long MATRIX = {len(lanes.pairs) if lanes.thin else 0};",
        f"constexpr bool THIN = {str(form.thin).lower()}, NARROW = {str(narrow).lower()};",
        PRELUDE,
        *lanes.matrix(),
        *lanes.out(),
        *lanes.x(),
        *lanes.w(),
        *lanes.y(),
        (Path(__file__).parent / "native.h").read_text(),
    ]
    for target in form.arguments:
        given = ", ".join(NAMES[name] for name in form.arguments if name != target)
        indexed = ", ".join(NAMES[name] for name in at_nodes)
        add = str(target in at_nodes).lower()
        lists = f"{{{given}}}, {{{indexed}}}"
        lines.append(f"HANDLER(d_{target}, {NAMES[target]}, {add}, {lists})")
    return "\n".join(lines) + "\n"


PRELUDE = """\
typedef T V __attribute__((vector_size(W * sizeof(T))));
struct Lanes { T *w, *out, *x, *y; const T *m; };
static inline V ld(const T *p) { V v; __builtin_memcpy(&v, p, sizeof v); return v; }
static inline void put(T *p, V v) { __builtin_memcpy(p, &v, sizeof v); }
template <bool ADD> static inline void st(T *p, V v) { put(p, ADD ? ld(p) + v : v); }
"""


class Pair(NamedTuple):
    """A row of out and one of x that a path couples: the coefficients of the rows of y."""

    block: int
    out: int
    x: int
    terms: tuple[tuple[int, float], ...]


class Lanes:
    """Writes the functions of one vector of channels.

    A matrix entry M = sum over y of t y belongs to each pair of coupled rows. If y has one channel,
    the entries are numbers that are computed once per edge; else they are vectors.
    """

    def __init__(self, form: Coefficients, thin: bool):
        self.form, self.thin = form, thin
        self.blocks = blocks(form)
        self.pairs = [pair for i, block in enumerate(self.blocks) for pair in _pairs(i, block)]

    def matrix(self) -> Iterator[str]:
        """The entries of an edge."""
        if self.thin:
            yield "static __attribute__((noinline)) void matrix(const T *y, T *m) {"
            for number, pair in enumerate(self.pairs):
                terms = [f"T({value!r}) * y[{row}]" for row, value in pair.terms]
                yield f"  m[{number}] = {' + '.join(terms)};"
            yield "}"
        else:
            yield "static inline void matrix(const T *, T *) {}"

    def out(self) -> Iterator[str]:
        sums: dict[int, list[str]] = {}
        for block, pairs in self._by_block():
            for out, own in _grouped(pairs, "out").items():
                inner = " + ".join(f"{self._entry(n, p)} * x{p.x}" for n, p in own)
                sums.setdefault(out, []).append(self._weighted(block, f"({inner})"))
        yield from self._head("out", "x", "y", "w")
        for row in range(self.form.spec.rows("out")):
            yield f"  st<ADD>(a.out + {row} * s, {' + '.join(sums.get(row, ['V{}']))});"
        yield "}"

    def x(self) -> Iterator[str]:
        yield from self._head("x", "y", "w")
        rows = range(self.form.spec.rows("x"))
        yield f"  V {', '.join(f'x{row} = {{}}' for row in rows)};"
        for block, pairs in self._by_block():
            yield from self._cotangents(block, pairs)
            for number, pair in pairs:
                yield f"  x{pair.x} += {self._entry(number, pair)} * g{block}_{pair.out};"
        yield from (f"  st<ADD>(a.x + {row} * s, x{row});" for row in rows)
        yield "}"

    def w(self) -> Iterator[str]:
        yield from self._head("w", "x", "y")
        for block, pairs in self._by_block() if self.form.weighted else ():
            terms = []
            for out, own in _grouped(pairs, "out").items():
                inner = " + ".join(f"{self._entry(n, p)} * x{p.x}" for n, p in own)
                terms.append(f"ld(a.out + {out} * s) * ({inner})")
            yield f"  st<ADD>(a.w + {block} * s, {' + '.join(terms)});"
        yield "}"

    def y(self) -> Iterator[str]:
        yield from self._head("y", "x", "w")
        rows = range(self.form.spec.rows("y"))
        start = "sum[{}]" if self.thin else "V{{}}"
        yield f"  V {', '.join(f'y{row} = {start.format(row)}' for row in rows)};"
        for block, pairs in self._by_block():
            yield from self._cotangents(block, pairs)
            for _, pair in pairs:
                yield f"  {{ const V q = g{block}_{pair.out} * x{pair.x};"
                yield "".join(f" y{row} += T({value!r}) * q;" for row, value in pair.terms) + " }"
        for row in rows:
            yield f"  sum[{row}] = y{row};" if self.thin else f"  st<ADD>(a.y + {row} * s, y{row});"
        yield "}"

    def _head(self, target: str, *read: str) -> Iterator[str]:
        """The start of a function, and the rows that it holds in variables."""
        sum_ = ", V *sum" if target == "y" else ""
        yield "template <bool ADD> static __attribute__((noinline))"
        yield f"void {target}_lanes(const Lanes &a, const long s{sum_}) {{"
        for name in read:
            if (name == "y" and self.thin) or (name == "w" and not self.form.weighted):
                continue
            for row in range(self.form.spec.rows(name)):
                yield f"  const V {name}{row} = ld(a.{name} + {row} * s);"
        if self.thin and target != "y":
            yield "  const T *m = a.m;"

    def _cotangents(self, block: int, pairs: Iterable[tuple[int, Pair]]) -> Iterator[str]:
        """The rows of out of one path, times its weight."""
        for out in dict.fromkeys(pair.out for _, pair in pairs):
            row = self._weighted(block, f"ld(a.out + {out} * s)")
            yield f"  const V g{block}_{out} = {row};"

    def _entry(self, number: int, pair: Pair) -> str:
        if self.thin:
            return f"m[{number}]"
        return f"({' + '.join(f'T({value!r}) * y{row}' for row, value in pair.terms)})"

    def _weighted(self, block: int, text: str) -> str:
        return f"w{block} * {text}" if self.form.weighted else text

    def _by_block(self) -> Iterator[tuple[int, list[tuple[int, Pair]]]]:
        numbered = list(enumerate(self.pairs))
        for block in range(len(self.blocks)):
            yield block, [(n, p) for n, p in numbered if p.block == block]


def _grouped(pairs: Iterable[tuple[int, Pair]], name: str) -> dict[int, list[tuple[int, Pair]]]:
    groups: dict[int, list[tuple[int, Pair]]] = {}
    for number, pair in pairs:
        groups.setdefault(getattr(pair, name), []).append((number, pair))
    return groups


def _pairs(number: int, block: Block) -> Iterator[Pair]:
    for k, i in np.argwhere(np.any(block.values, -1)).tolist():
        rows = [(block.y.start + j, float(v)) for j, v in enumerate(block.values[k, i]) if v]
        yield Pair(number, block.out.start + k, block.x.start + i, tuple(rows))
