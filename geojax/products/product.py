"""The contract of all products of spherical features, and the table of those that keep it.

A product couples x and y path by path, channel by channel,

    out_{l3 m3} = w_path sqrt(2 l3 + 1) sum_{m1 m2} C^{l1 l2 l3}_{m1 m2 m3} x_{l1 m1} y_{l2 m2}

with C of unit Frobenius norm (`so3.clebsch_gordan`). So independent factors of unit variance give
every path unit variance ("component" normalisation). Sums over paths are plain sums: n paths into a
degree have variance n, and no 1/sqrt(n) is hidden here.

That is the "coupled" family. The "gaunt" family multiplies signals on the sphere (`so3.sphere`),
which fixes w_path: cheaper at high degrees, but less expressive. Its weights are one per degree of
x, of y and of the result, and what signals cannot couple is refused.

A kernel is one file: a function that takes checked operands and a `Spec`, entered into `PRODUCTS`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax
from jaxtyping import Array, Float

from geojax import so3
from geojax.native import compiler
from geojax.products.form import Bound
from geojax.registry import Registry

__all__ = [
    "PRODUCTS",
    "Direction",
    "Family",
    "Kernel",
    "Layout",
    "Product",
    "Spec",
    "choose",
    "kept_layout",
    "product",
    "split_kept",
    "weight_rows",
]

Layout = Literal["sum", "keep"]
Family = Literal["coupled", "gaunt"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Direction:
    """The harmonics of vectors up to degree lmax, not evaluated yet.

    A product that can use the direction itself (by turning it to the pole) never evaluates them.

    Attributes:
        unit: unit vectors, or zero on padding edges. Lengths are divided out, with all derivatives.
        lmax: largest degree.
    """

    unit: Float[Array, "*n xyz"]
    lmax: int = field(metadata={"static": True})

    def harmonics(self) -> Float[Array, "*n m 1"]:
        """The harmonics as features of one channel."""
        return so3.harmonics(self.unit, self.lmax)[..., None]


class Spec(NamedTuple):
    """What a kernel computes, all of it static."""

    lmax_x: int
    lmax_y: int
    lmax: int
    parity: so3.Parity
    layout: Layout

    def paths(self) -> tuple[so3.Path, ...]:
        """The paths in the order of the weights."""
        return so3.paths(self.lmax_x, self.lmax_y, self.lmax, parity=self.parity)

    def rows(self, name: str) -> int:
        """The number of rows of x, y, out or the weights w."""
        if name == "out" and self.layout == "keep":
            return sum(2 * path.l3 + 1 for path in self.paths())
        if name == "w":
            return len(self.paths())
        return ({"x": self.lmax_x, "y": self.lmax_y, "out": self.lmax}[name] + 1) ** 2


@runtime_checkable
class Kernel(Protocol):
    """One way to compute a product."""

    def __call__(
        self, y: Array | Direction, weights: Array | None, spec: Spec, channels: int
    ) -> Bound:
        """The product by y as a form, with the arguments x, out and others, which are given.

        There is at least one path. `y` has x's channels or one; it is a `Direction` if and only if
        the kernel was registered with `direction=True`. Of the family "gaunt" the weights are None.
        A layout of "keep" leaves the paths apart in the order of `spec.paths()`.
        """
        ...


class Product(NamedTuple):
    """An entry of `PRODUCTS`.

    Attributes:
        kernel: the function.
        family: "coupled" products weight every path freely and agree with `cg`; "gaunt" products
            are of two signals on the sphere, with the path weights `so3.gaunt_weight` (even paths)
            and `so3.bracket_weight` (odd ones).
        direction: y is a `Direction`, and nothing else.
        parities: of the paths that it can compute.
        lmax: the largest degree that it can compute; None is any.
        platform: the one where it has code of its own ("cpu", "cuda"); it is "cg" on all others.
    """

    kernel: Kernel
    family: Family
    direction: bool = False
    parities: tuple[so3.Parity, ...] = get_args(so3.Parity)
    lmax: int | None = None
    platform: str | None = None


PRODUCTS: Registry[Product] = Registry("product")

# Methods by the time of value and gradient, the fastest first: `[backend][channels][lmax]`. Written
# by experiments/products-speed.py; nothing in it is guessed.
FASTEST: dict[str, dict[str, dict[str, list[str]]]] = json.loads(
    (Path(__file__).parent / "fastest.json").read_text()
)


def product(
    name: str,
    *,
    family: Family = "coupled",
    direction: bool = False,
    parities: tuple[so3.Parity, ...] = get_args(so3.Parity),
    lmax: int | None = None,
    platform: str | None = None,
) -> Callable[[Kernel], Kernel]:
    """A decorator that enters a kernel into `PRODUCTS` under `name`; see `Product`."""

    def enter(kernel: Kernel) -> Kernel:
        PRODUCTS.register(name)(Product(kernel, family, direction, parities, lmax, platform))
        return kernel

    return enter


def kept_layout(
    lmax_x: int, lmax_y: int, lmax: int, *, parity: so3.Parity = "even"
) -> tuple[int, ...]:
    """The number of paths into each degree l = 0 ... lmax of a product with `paths="keep"`."""
    into = [path.l3 for path in so3.paths(lmax_x, lmax_y, lmax, parity=parity)]
    return tuple(into.count(l) for l in range(lmax + 1))


def split_kept(
    x: Float[Array, "*n m3 channel"], layout: tuple[int, ...]
) -> list[Float[Array, "*n _ _ channel"]]:
    """For each degree l the paths of a kept product: `[..., layout[l], 2l+1, channel]`.

    Raises:
        ValueError: the rows are not those of the layout.
    """
    sizes = [count * (2 * l + 1) for l, count in enumerate(layout)]
    if x.shape[-2] != sum(sizes):
        raise ValueError(
            f"a product kept apart as {layout} has {sum(sizes)} rows; got shape {x.shape}; take "
            "the layout from kept_layout with the degrees and parity of the product"
        )
    blocks, start = [], 0
    for l, (count, size) in enumerate(zip(layout, sizes, strict=True)):
        block = x[..., start : start + size, :]
        blocks.append(block.reshape(*x.shape[:-2], count, 2 * l + 1, x.shape[-1]))
        start += size
    return blocks


def choose(spec: Spec, channels: int, directions: bool) -> str:
    """The coupled product that was fastest on this backend, "cg" if none was measured there.

    Of the measured numbers of channels the one of nearest ratio counts, and the nearest degree.
    """
    backend = jax.default_backend()
    table = FASTEST.get(backend)
    if not table:
        return "cg"
    nearest = min(table, key=lambda count: abs(math.log(int(count) / channels)))
    by_degree = table[nearest]
    degree = min(by_degree, key=lambda l: abs(int(l) - max(spec[:3])))
    usable = (name for name in by_degree[degree] if _can(PRODUCTS[name], spec, backend, directions))
    return next(usable, "cg")


def _can(entry: Product, spec: Spec, backend: str, directions: bool) -> bool:
    """Whether a product can do this, by code that was measured."""
    return (
        (directions or not entry.direction)
        and spec.parity in entry.parities
        and (entry.lmax is None or max(spec[:3]) <= entry.lmax)
        and entry.platform in (None, backend)
        and (entry.platform != "cpu" or compiler() is not None)
    )


def weight_rows(name: str, spec: Spec) -> int:
    """How many weights per channel a product takes: one per path, or (gaunt) one per degree."""
    return len(spec.paths()) if PRODUCTS[name].family == "coupled" else sum(spec[:3]) + 3
