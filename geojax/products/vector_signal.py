"""The bracket of two signals, n . (grad x cross grad y): every coupling that their product lacks.

A product of two signals is symmetric, so it cannot couple l1 + l2 + l3 odd, as the cross product of
two vectors does. The cross product of two vector signals can; that of gradients on the sphere is
radial, so it is one signal again: a pseudo-scalar field, which changes natural parity to pseudo-
tensors. The weight of no odd path is zero. With parity="all" product and bracket are added, so that
every path of the Clebsch-Gordan product is there, with fixed weights.

References:
    Xie, Daigavane, Kotak, Smidt, "Asymptotically fast Clebsch-Gordan tensor products with vector
    spherical harmonics", 2026, https://arxiv.org/abs/2602.21466 (products of vector signals).
"""

from functools import cache

from jaxtyping import Array

from geojax.products.form import Bound
from geojax.products.gaunt_grid import PRODUCT, grid_plan
from geojax.products.pointwise import Field, Plan, Signals
from geojax.products.product import Direction, Spec, product

__all__ = ["vector_signal"]

BRACKET = (Field(1, 2, 1, odd=True), Field(2, 1, -1, odd=True))


@product("vector-signal", family="gaunt")
def vector_signal(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The bracket on odd paths and the product on even ones."""
    assert not isinstance(y, Direction) and weights is None
    return Bound(Signals(_plan, spec, y.shape[-1] != channels), {"y": y})


@cache
def _plan(spec: Spec) -> Plan:
    fields = {"even": PRODUCT, "odd": BRACKET, "all": PRODUCT + BRACKET}[spec.parity]
    return grid_plan(spec, fields)
