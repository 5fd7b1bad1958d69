"""The product of two signals on the sphere, by their values on a grid.

Degrees l1, l2, l3 are integrated exactly by a grid for degree l1 + l2 + l3, and half of its points
are enough (see `pointwise.plan_by_parity`). Of a single channel and up to degree 4 all of them are
faster, since to sort so few rows by parity takes longer than the points that it saves.

References:
    Xie, Daigavane, Kotak, Smidt, "The price of freedom: exploring expressivity and runtime
    tradeoffs in equivariant tensor products", 2025, https://arxiv.org/abs/2506.13523.
"""

from collections.abc import Sequence
from functools import cache

from jaxtyping import Array

from geojax.products.form import Bound
from geojax.products.pointwise import (
    Field,
    Plan,
    Signals,
    Table,
    plan_at_once,
    plan_by_parity,
)
from geojax.products.product import Direction, Spec, product
from geojax.so3.harmonics import harmonics_table
from geojax.so3.sphere import hemisphere, rotation_derivatives, sphere

__all__ = ["PRODUCT", "gaunt_grid", "grid_plan"]

AT_ONCE = 4  # degree
PRODUCT = (Field(0, 0, 1, odd=False),)


@product("gaunt-grid", family="gaunt", parities=("even",))
def gaunt_grid(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product of two signals: matrix products to the points of half a sphere, and back."""
    assert not isinstance(y, Direction) and weights is None
    small = channels == 1 and spec.layout == "sum" and max(spec[:3]) <= AT_ONCE
    return Bound(Signals(_whole if small else _half, spec, y.shape[-1] != channels), {"y": y})


@cache
def _half(spec: Spec) -> Plan:
    return grid_plan(spec, PRODUCT)


@cache
def _whole(spec: Spec) -> Plan:
    grid = sphere(spec.lmax_x + spec.lmax_y + spec.lmax)
    values = harmonics_table(grid.points, max(spec[:3]))
    weighted = values * grid.weights[:, None]
    return plan_at_once(
        spec, lambda name, degrees: Table(weighted if name == "out" else values, degrees)
    )


def grid_plan(spec: Spec, fields: Sequence[Field]) -> Plan:
    """The plan of fields on half a sphere: 0 is the signal, 1 and 2 its rotation derivatives."""
    grid = hemisphere(spec.lmax_x + spec.lmax_y + spec.lmax)
    lmax = max(spec[:3])
    values = harmonics_table(grid.points, lmax)
    signal = [values]
    if any(field.odd for field in fields):
        signal.extend(rotation_derivatives(grid.points, lmax))
    tables = {"out": [values * grid.weights[:, None]], "x": signal, "y": signal}
    return plan_by_parity(
        spec, fields, lambda name, field, group: Table(tables[name][field], group)
    )
