"""Versors, products of invertible vectors: reflections and rotations in every metric.

    rho(w)(x) = w x w^-1 for even grades of x, and (-1)^k w x w^-1 for odd ones

for a versor w of k vectors. A vector w reflects: rho(w)(w) = -w, and what is orthogonal stays. The
map keeps grades, sums and products of multivectors, so all that is made of these is equivariant.

Versors are multivectors without a channel axis, `[..., blade]`.

References:
    Ruhe, Brandstetter, Forré, "Clifford group equivariant neural networks", NeurIPS 2023, eq. 3.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from geojax.clifford.algebra import Algebra
from geojax.clifford.grade import embed, involute, of_grade, project, reverse
from geojax.clifford.invariant import quadratic_form
from geojax.clifford.product import geometric_product

__all__ = ["exp", "inverse", "random_versor", "sandwich", "vector_matrix"]


# One program also where it is called outside of one.
@partial(jax.jit, static_argnames="algebra")
def sandwich(
    versor: Float[Array, "... blade"], x: Float[Array, "... blade channel"], algebra: Algebra
) -> Float[Array, "... blade channel"]:
    """rho(versor)(x), one versor for all or one per batch entry."""
    batch = jnp.broadcast_shapes(versor.shape[:-1], x.shape[:-2])
    x = jnp.broadcast_to(x, (*batch, *x.shape[-2:]))
    wide = lambda w: jnp.broadcast_to(w[..., None], x.shape)
    even = project(x, algebra, range(0, algebra.n + 1, 2))
    # The involution of an odd versor is -w: the sign of odd grades, without asking for k.
    turned = involute(versor[..., None], algebra)[..., 0]
    left = geometric_product(wide(versor), even, algebra)
    left = left + geometric_product(wide(turned), x - even, algebra)
    return geometric_product(left, wide(inverse(versor, algebra)), algebra)


def inverse(versor: Float[Array, "*n blade"], algebra: Algebra) -> Float[Array, "*n blade"]:
    """~w / q(w), which is 1/w of a versor; of other multivectors it is not."""
    column = versor[..., None]
    return (reverse(column, algebra) / quadratic_form(column, algebra)[..., None, :])[..., 0]


@partial(jax.jit, static_argnames="algebra")
def exp(x: Float[Array, "*n blade"], algebra: Algebra) -> Float[Array, "*n blade"]:
    """1 + x + x²/2 + ...; of a bivector B a versor, the rotation by 2|B| in its plane.

    By the matrix of the multiplication with x, whose exponential has accurate methods.
    """
    size = 2**algebra.n
    wide = jnp.broadcast_to(x[..., None], (*x.shape, size))
    identity = jnp.broadcast_to(jnp.eye(size, dtype=x.dtype), wide.shape)
    return jax.scipy.linalg.expm(geometric_product(wide, identity, algebra))[..., 0]


@partial(jax.jit, static_argnames=("algebra", "shape", "vectors", "dtype"))
def random_versor(
    key: Key[Array, ""], algebra: Algebra, shape: tuple[int, ...] = (), *, vectors: int, dtype=None
) -> Float[Array, "*n blade"]:
    """The product of so many random vectors: a reflection (odd) or a rotation (even).

    Each is drawn from a normal distribution and scaled to |q| = 1. Where the metric is indefinite
    some are nearly null, and their product then is a large boost.

    Raises:
        ValueError: no vector of the algebra has an inverse, or there are none to multiply.
    """
    if vectors < 1 or not any(algebra.metric):
        raise ValueError(
            "a versor is a product of one or more vectors with squares that are not zero; got "
            f"vectors={vectors} and metric={algebra.metric}"
        )
    drawn = jax.random.normal(key, (vectors, *shape, algebra.n, 1), dtype)
    drawn = embed(drawn, algebra, 1)
    drawn = drawn / jnp.sqrt(jnp.abs(quadratic_form(drawn, algebra)))[..., None, :]
    out = drawn[0]
    for i in range(1, vectors):
        out = geometric_product(out, drawn[i], algebra)
    return out[..., 0]


def vector_matrix(versor: Float[Array, "*n blade"], algebra: Algebra) -> Float[Array, "*n d d"]:
    """The matrix of the versor's action on vectors (columns), orthogonal in the metric."""
    identity = embed(jnp.eye(algebra.n, dtype=versor.dtype), algebra, 1)
    return of_grade(sandwich(versor, identity, algebra), algebra, 1)
