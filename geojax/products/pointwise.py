"""Products of signals: values at points, multiplied there, and back to features.

Each argument of F(out, x, y) is cut into blocks of rows. A block has values at points, and

    F = sum over (i, j, k) of sign_ijk sum over points of out_i x_j y_k

is linear in each (see `form`). A kernel is a `Plan`: how each block gets to the points and back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.products.form import assemble
from geojax.products.product import Spec
from geojax.so3 import Path

__all__ = [
    "Block",
    "Coupling",
    "Field",
    "Plan",
    "Signals",
    "Table",
    "plan_at_once",
    "plan_by_parity",
]


@runtime_checkable
class Transform(Protocol):
    """A linear map from rows to points, and its transpose."""

    @property
    def points(self) -> int:
        """How many there are."""
        ...

    def up(self, rows: Array) -> Array:
        """`[..., row, channel]` to `[..., point, channel]`."""
        ...

    def down(self, points: Array) -> Array:
        """The transpose of `up`."""
        ...


class Table:
    """A transform by the columns of some degrees of a matrix `[point, m]`."""

    def __init__(self, matrix: np.ndarray, degrees: tuple[int, ...]):
        columns = [np.arange(l * l, (l + 1) ** 2) for l in degrees]
        self.matrix = matrix[:, np.concatenate(columns)]

    @property
    def points(self) -> int:
        return len(self.matrix)

    def up(self, rows: Array) -> Array:
        return _apply(self.matrix, rows)

    def down(self, points: Array) -> Array:
        return _apply(self.matrix.T, points)


def _apply(matrix: np.ndarray, a: Array) -> Array:
    """The matrix times axis -2."""
    table = jnp.asarray(matrix, a.dtype)
    if a.shape[-1] == 1:  # one matrix product of all rows, without a transpose
        return jnp.einsum("pm,...m->...p", table, a[..., 0], precision="highest")[..., None]
    return jnp.einsum("pm,...mc->...pc", table, a, precision="highest")


class Block(NamedTuple):
    """Some rows of an argument, by slices, and how they get to the points."""

    rows: tuple[slice, ...]
    transform: Transform


class Coupling(NamedTuple):
    """One term of F: the numbers of the blocks of out, x and y."""

    out: int
    x: int
    y: int
    sign: int = 1


class Plan(NamedTuple):
    """The blocks of each argument, and the terms."""

    out: tuple[Block, ...]
    x: tuple[Block, ...]
    y: tuple[Block, ...]
    couplings: tuple[Coupling, ...]


class Field(NamedTuple):
    """A product of one field of x with one of y; `odd`: it serves l1 + l2 + l3 odd."""

    x: int
    y: int
    sign: int
    odd: bool


def plan_by_parity(
    spec: Spec, fields: Sequence[Field], transform: Callable[[str, int, tuple[int, ...]], Transform]
) -> Plan:
    """The plan of signals at the points of half a sphere.

    Signals are cut into their even and odd degrees, f(-n) = f(n) and f(-n) = -f(n), so that every
    product is one or the other: what is even is integrated by half of the points. Paths that are
    kept apart need each degree for itself.

    Args:
        spec: of the product.
        fields: which field of x is multiplied by which of y.
        transform: of an argument ("out", "x", "y"), a field of it, and some of its degrees.
    """
    keep = spec.layout == "keep"
    groups = {"x": _groups(spec.lmax_x, keep), "y": _groups(spec.lmax_y, keep)}
    blocks = {
        name: tuple(
            Block(_slices(group), transform(name, field, group))
            for field in range(1 + max(getattr(f, name) for f in fields))
            for group in groups[name]
        )
        for name in groups
    }
    out, couplings = [], []
    for number, (rows, group, path) in enumerate(_targets(spec)):
        out.append(Block(rows, transform("out", 0, group)))
        for (i, of_x), (j, of_y) in product(*(enumerate(groups[name]) for name in groups)):
            if path is not None and path[:2] != (of_x[0], of_y[0]):
                continue
            odd = (of_x[0] + of_y[0] + group[0]) % 2 == 1
            couplings += [
                Coupling(number, i + f.x * len(groups["x"]), j + f.y * len(groups["y"]), f.sign)
                for f in fields
                if f.odd == odd
            ]
    return Plan(tuple(out), blocks["x"], blocks["y"], tuple(couplings))


def plan_at_once(spec: Spec, transform: Callable[[str, tuple[int, ...]], Transform]) -> Plan:
    """The plan of the product of two signals at the points of the whole sphere: paths summed.

    Twice as many points as `plan_by_parity`, and rows that need not be sorted by parity.

    Args:
        spec: of the product.
        transform: of an argument ("out", "x", "y") and its degrees.
    """
    block = lambda name, lmax: (
        Block((slice(0, (lmax + 1) ** 2),), transform(name, tuple(range(lmax + 1)))),
    )
    return Plan(
        block("out", spec.lmax),
        block("x", spec.lmax_x),
        block("y", spec.lmax_y),
        (Coupling(0, 0, 0),),
    )


def _targets(spec: Spec) -> list[tuple[tuple[slice, ...], tuple[int, ...], Path | None]]:
    """The blocks of the result: rows, degrees, and the path if paths are kept apart."""
    if spec.layout == "sum":
        return [(_slices(group), group, None) for group in _groups(spec.lmax, False)]
    paths = spec.paths()
    ends = list(accumulate((2 * path.l3 + 1 for path in paths), initial=0))
    rows = [(slice(start, stop),) for start, stop in pairwise(ends)]
    return [(own, (path.l3,), path) for own, path in zip(rows, paths, strict=True)]


def _groups(lmax: int, keep: bool) -> list[tuple[int, ...]]:
    """The degrees that go to the points together."""
    if keep:
        return [(l,) for l in range(lmax + 1)]
    return [group for first in (0, 1) if (group := tuple(range(first, lmax + 1, 2)))]


def _slices(group: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(l * l, (l + 1) ** 2) for l in group)


@dataclass(frozen=True)
class Signals:
    """F, all of it static.

    Attributes:
        plan: a cached function of the spec.
        spec: of the product.
        thin: y has a single channel, which couples to all of x's.
    """

    plan: Callable[[Spec], Plan]
    spec: Spec
    thin: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("out", "x", "y")

    def workspace(self, target: str) -> int:
        """The values at points of all blocks of the arguments and of the target."""
        del target
        plan = self.plan(self.spec)
        return sum(block.transform.points for block in (*plan.out, *plan.x, *plan.y))

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        plan = self.plan(self.spec)
        points = {
            name: [_up(block, a) for block in getattr(plan, name)] for name, a in given.items()
        }
        parts: dict[int, list[Array]] = {}
        for number, block in enumerate(getattr(plan, target)):
            products = []
            for term in plan.couplings:
                if getattr(term, target) == number:
                    first, second = (points[name][getattr(term, name)] for name in given)
                    products.append(first * second if term.sign > 0 else -first * second)
            if products:
                total = sum(products[1:], products[0])
                thin = self.thin and target == "y"
                _down(block, total.sum(-1, keepdims=True) if thin else total, parts)
        return assemble(parts, self.spec.rows(target))


def _up(block: Block, a: Array) -> Array:
    parts = [a[..., rows, :] for rows in block.rows]
    return block.transform.up(parts[0] if len(parts) == 1 else jnp.concatenate(parts, -2))


def _down(block: Block, points: Array, parts: dict[int, list[Array]]) -> None:
    """Enters the rows that the points give into `parts`, by where they start."""
    array, first = block.transform.down(points), 0
    for rows in block.rows:
        stop = first + rows.stop - rows.start
        parts.setdefault(rows.start, []).append(array[..., first:stop, :])
        first = stop
