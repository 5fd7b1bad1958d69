"""Array arithmetic whose derivatives are finite where the textbook form gives NaN.

Padding edges have length zero, so every norm, division and power of geojax is one of these. All use
the double-`where` form: the argument is made harmless *before* the singular operation, because a
`where` after it would still multiply an infinite derivative by zero.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["safe_divide", "safe_norm", "safe_power", "unit"]


def safe_norm(x: Float[Array, "*n d"], axis: int = -1) -> Float[Array, "*n"]:
    """|x|, with zero (not NaN) derivatives where x = 0."""
    square = jnp.sum(x * x, axis)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def safe_divide(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """x / y, and zero with zero derivatives where y = 0."""
    nonzero = y != 0
    return jnp.where(nonzero, x / jnp.where(nonzero, y, 1), 0)


def safe_power(x: Float[Array, "..."], exponent: float) -> Float[Array, "..."]:
    """x ** exponent for x > 0, and zero with zero derivatives elsewhere."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1) ** exponent, 0)


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """x / |x|, and zero where x = 0; zero derivatives there and where they would overflow.

    The n-th derivative is of size |x|^-n: below |x| = 5e-9 in float32 the fourth is no number any
    more, so such x keep their direction but are constants. All x are first divided by their largest
    component, since squares overflow and underflow; the result does not depend on that scale.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), -1, keepdims=True))
    scale = jnp.broadcast_to(largest, x.shape)
    info = jnp.finfo(x.dtype)
    constant = scale < min(16 * float(info.tiny) ** 0.25, float(info.eps))
    fixed = jax.lax.stop_gradient(safe_divide(x, scale))
    scaled = jnp.where(constant, fixed, x) / jnp.where(constant, 1, scale)
    return safe_divide(scaled, jnp.broadcast_to(safe_norm(scaled)[..., None], x.shape))
