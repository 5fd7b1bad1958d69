"""Invariants of multivectors: the extended quadratic form, and smooth norms made of it.

    q(x) = <~x x>_0 = sum over blades b of (~b b) x_b²

It is kept by all versors, for the whole multivector and grade by grade. Where the metric is
indefinite it may be zero or negative for x ≠ 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.clifford.algebra import Algebra
from geojax.clifford.grade import sums

__all__ = ["quadratic_form", "quadratic_forms", "smooth_norm"]


def quadratic_form(
    x: Float[Array, "*n blade channel"], algebra: Algebra
) -> Float[Array, "*n channel"]:
    """q of each channel."""
    return _squares(x, algebra).sum(-2)


def quadratic_forms(
    x: Float[Array, "*n blade channel"], algebra: Algebra, modulo: int | None = None
) -> Float[Array, "*n part channel"]:
    """q of each grade; or of grades that are equal modulo a number, together."""
    return sums(_squares(x, algebra), algebra, modulo)


def smooth_norm(q: Float[Array, "..."], eps: float = 1e-16) -> Float[Array, "..."]:
    """(q² + eps)^(1/4), which is sqrt|q|, but has derivatives of every order where q = 0.

    References:
        Ruhe, Brandstetter, Forré, NeurIPS 2023, with the eps of their code.
    """
    return jnp.sqrt(jnp.sqrt(q * q + eps))


def _squares(x: Array, algebra: Algebra) -> Array:
    factors = jnp.asarray(algebra.squares, x.dtype)
    return factors.reshape(*[1] * (x.ndim - 2), -1, 1) * x * x
