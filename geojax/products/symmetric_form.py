"""Powers of features as forms: by couplings, each path with its weight, or as powers of a signal.

Of x_i x_j x_k only i <= j <= k are evaluated, and only those with a coefficient: for degrees up to
3, cubed to a scalar, 77 of 4096. They are unrolled as nested sums,

    out_m = sum_p w_p (sum_i x_i (sum_j x_j (sum_k U_ijk x_k)))

which the compiler turns into one loop over nodes and channels for every row, without intermediates.
Compile time grows with their number (the cube of degrees up to 3 to degrees up to 1, 2 and 3 has
552, 1459 and 2521; the value and both its gradients to degree 2 take 18 s), yet matrix products
over the monomials of each content compile no faster and run 20 times longer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.products.polynomial import ARGUMENTS, by_autodiff
from geojax.products.symmetric_basis import monomials
from geojax.so3 import expand_by_degree, sphere
from geojax.so3.harmonics import harmonics_table

__all__ = ["Couplings", "SignalPowers", "WeightBlock"]

# A factor of a term: the argument and its row.
Factor = tuple[str, int]


class WeightBlock(NamedTuple):
    """The weights of one degree of the result and one order of x: `weights[..., rows, :]`."""

    l: int
    order: int
    rows: slice


@dataclass(frozen=True)
class Powers:
    """What both forms have in common.

    Attributes:
        lmax_x: largest degree of x.
        lmax: largest degree of the result.
        degree: the highest power of x.
    """

    lmax_x: int
    lmax: int
    degree: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ARGUMENTS

    def rows(self, target: str) -> int:
        if target == "w":
            return self.blocks()[-1].rows.stop
        return ((self.lmax if target == "out" else self.lmax_x) + 1) ** 2

    def blocks(self) -> tuple[WeightBlock, ...]:
        """The weights by degree of the result, then by order."""
        raise NotImplementedError


@dataclass(frozen=True)
class Couplings(Powers):
    """Every equivariant map from x, x^2, ... x^degree, with a weight for each."""

    def blocks(self) -> tuple[WeightBlock, ...]:
        return _blocks(self)

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        directions = sum(name.startswith("d") for name in given)
        terms = _terms(self, target, directions)
        rows = {name: [a[..., i, :] for i in range(a.shape[-2])] for name, a in given.items()}
        zero = jnp.zeros_like(rows["x"][0])
        sums = [
            _nested([(term.factors, term.value) for term in terms[row]], rows)
            if row in terms
            else zero
            for row in range(self.rows(target))
        ]
        return jnp.stack(sums, -2)


@dataclass(frozen=True)
class SignalPowers(Powers):
    """Powers of the signal sum_m x_m Y_m on the sphere, with a weight per degree and order."""

    def blocks(self) -> tuple[WeightBlock, ...]:
        places = [(l, order) for l in range(self.lmax + 1) for order in range(1, self.degree + 1)]
        return tuple(WeightBlock(*at, slice(i, i + 1)) for i, at in enumerate(places))

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        return by_autodiff(partial(_at_points, self), self.rows("w"), target, given)


@cache
def _blocks(form: Couplings) -> tuple[WeightBlock, ...]:
    blocks, start = [], 0
    for l in range(form.lmax + 1):
        for order in range(1, form.degree + 1):
            stop = start + monomials(form.lmax_x, l, order)[1]
            blocks.append(WeightBlock(l, order, slice(start, stop)))
            start = stop
    return tuple(blocks)


class Term(NamedTuple):
    """A product of rows, outermost first, with its coefficient in a row of the target."""

    row: int
    factors: tuple[Factor, ...]
    value: float


@cache
def _terms(form: Couplings, target: str, directions: int) -> dict[int, list[Term]]:
    """The terms of each row of the target; an axis that is differentiated has a row of its own."""
    slots = directions + (target == "d")
    terms = []
    for block in form.blocks():
        for monomial in monomials(form.lmax_x, block.l, block.order)[0]:
            own = {"w": block.rows.start + monomial.path, "out": block.l**2 + monomial.m}
            for taken, rest, value in _differentiated(monomial.components, monomial.value, slots):
                factors = [(name, own[name]) for name in ("out", "w") if name != target]
                factors += [("x", i) for i in rest]
                factors += [(f"d{n}", i) for n, i in enumerate(taken[:directions])]
                row = taken[-1] if target == "d" else own[target]
                terms.append(Term(row, tuple(factors), value))
    key = lambda term: term.row
    return {row: list(group) for row, group in groupby(sorted(terms, key=key), key)}


def _differentiated(
    components: tuple[int, ...], value: float, slots: int
) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """A monomial after derivatives: components that were taken, those that are left, and factor."""
    if slots == 0:
        return [((), components, value)]
    found = []
    for i in sorted(set(components)):
        at = components.index(i)
        rest = components[:at] + components[at + 1 :]
        for taken, left, factor in _differentiated(rest, value * components.count(i), slots - 1):
            found.append(((i, *taken), left, factor))
    return found


def _nested(terms: list[tuple[tuple[Factor, ...], float]], rows: Mapping[str, list[Array]]) -> Any:
    """sum_i a_i (sum_j b_j (sum_k t_ijk c_k)): factors as late as they can be."""
    constant = sum(value for factors, value in terms if not factors)
    first = lambda term: term[0][0]
    longer = sorted((term for term in terms if term[0]), key=first)
    parts = [
        rows[name][i] * _nested([(factors[1:], value) for factors, value in group], rows)
        for (name, i), group in groupby(longer, first)
    ]
    if constant or not parts:
        parts.append(constant)
    return sum(parts[1:], parts[0])


def _at_points(form: SignalPowers, w: Array, x: Array) -> Array:
    """The value: x at points, powers there, each back to features and times its weights."""
    up, down = _transforms(form)
    apply = partial(jnp.einsum, "pm,...mc->...pc", precision="highest")
    signal = apply(jnp.asarray(up, x.dtype), x)
    weights = w.reshape(*w.shape[:-2], form.lmax + 1, form.degree, w.shape[-1])
    power, total = signal, None
    for order in range(form.degree):
        power = power * signal if order else signal
        rows = apply(jnp.asarray(down, x.dtype), power)
        part = rows * expand_by_degree(weights[..., order, :])
        total = part if total is None else total + part
    assert total is not None
    return total


@cache
def _transforms(form: SignalPowers) -> tuple[np.ndarray, np.ndarray]:
    """From features to points, exact for the highest power, and back."""
    grid = sphere(form.degree * form.lmax_x + form.lmax)
    up = harmonics_table(grid.points, form.lmax_x)
    down = harmonics_table(grid.points, form.lmax) * grid.weights[:, None]
    return up, down.T
