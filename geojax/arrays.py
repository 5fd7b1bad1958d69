"""Array arithmetic whose derivatives are finite where the textbook form gives NaN.

Padding edges have length zero, so every norm, division and power of geojax is one of these. All use
the double-`where` form: the argument is made harmless *before* the singular operation, because a
`where` after it would still multiply an infinite derivative by zero. NaN in is NaN out.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["safe_divide", "safe_norm", "safe_power", "unit"]


def safe_norm(x: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """|x| along an axis; derivatives are zero (not NaN) where x = 0.

    So they are where they would overflow (see `unit`).
    Neither overflows nor underflows on the way: the norm of (1e30, 0, 0) is 1e30 in float32.
    """
    scaled, scale = _scaled(x, axis)
    return _norm(scaled, axis) * jax.lax.index_in_dim(scale, 0, axis, keepdims=False)


def safe_divide(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """x / y, and zero with zero derivatives where y = 0."""
    nonzero = y != 0
    return jnp.where(nonzero, x / jnp.where(nonzero, y, 1), 0)


def safe_power(x: Float[Array, "..."], exponent: float) -> Float[Array, "..."]:
    """x ** exponent for x > 0, and zero with zero derivatives elsewhere."""
    outside = x <= 0
    return jnp.where(outside, 0, jnp.where(outside, 1, x) ** exponent)


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """x / |x|, and zero where x = 0; zero derivatives there and where they would overflow.

    The n-th derivative is of size |x|^-n: below |x| = 5e-9 in float32 the fourth is no number any
    more, so such x keep their direction but are constants.
    """
    scaled, _ = _scaled(x, -1)
    return safe_divide(scaled, jnp.broadcast_to(_norm(scaled, -1)[..., None], x.shape))


def _norm(x: Array, axis: int) -> Array:
    square = jnp.sum(x * x, axis)
    nonzero = square != 0
    return jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, square, 1)), 0)


def _scaled(x: Array, axis: int) -> tuple[Array, Array]:
    """x as a product of a vector whose largest component is 1 and a scale, repeated along `axis`.

    Squares of the vector neither overflow nor underflow. The scale is a constant for autodiff,
    which is exact to any order: what is computed from the two does not depend on how x is split.
    Vectors too small to be differentiated four times are constants altogether.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis, keepdims=True))
    # Of full shape, since XLA divides by a broadcast number as times its reciprocal, which may be 0
    scale = jnp.broadcast_to(jnp.where(largest > 0, largest, 1), x.shape)
    info = jnp.finfo(x.dtype)
    constant = scale < min(16 * float(info.tiny) ** 0.25, float(info.eps))
    divided = jnp.where(constant, 0, x) / jnp.where(constant, 1, scale)
    return jnp.where(constant, jax.lax.stop_gradient(x) / scale, divided), scale
