"""Grades of multivectors: in and out of them, projections, and the three involutions."""

from collections.abc import Callable, Collection
from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.clifford.algebra import Algebra, part_of_grade, parts
from geojax.multilinear import Multilinear

__all__ = ["conjugate", "embed", "expand", "involute", "of_grade", "project", "reverse", "sums"]


def of_grade(
    x: Float[Array, "*n blade channel"], algebra: Algebra, grade: int
) -> Float[Array, "*n _ channel"]:
    """The components of one grade."""
    return x[..., algebra.rows(grade), :]


def embed(
    values: Float[Array, "*n _ channel"], algebra: Algebra, grade: int
) -> Float[Array, "*n blade channel"]:
    """The multivectors that are zero but for these components of one grade.

    Raises:
        ValueError: the grade has another number of components.
    """
    rows = algebra.rows(grade)
    if values.shape[-2] != rows.stop - rows.start:
        raise ValueError(
            f"grade {grade} of an algebra of {algebra.n} vectors has {rows.stop - rows.start} "
            f"components, on axis -2; got shape {values.shape}"
        )
    around = ((rows.start, 2**algebra.n - rows.stop), (0, 0))
    return jnp.pad(values, ((0, 0),) * (values.ndim - 2) + around)


def project(
    x: Float[Array, "*n blade channel"], algebra: Algebra, grades: Collection[int]
) -> Float[Array, "*n blade channel"]:
    """x, without all other grades."""
    return _scaled(x, algebra, lambda k: float(k in grades))


def reverse(
    x: Float[Array, "*n blade channel"], algebra: Algebra
) -> Float[Array, "*n blade channel"]:
    """~x: the order of all factors is turned round; (-1)^(k(k-1)/2) on grade k."""
    return _scaled(x, algebra, lambda k: (-1.0) ** (k * (k - 1) // 2))


def involute(
    x: Float[Array, "*n blade channel"], algebra: Algebra
) -> Float[Array, "*n blade channel"]:
    """The grade involution: every vector changes its sign; (-1)^k on grade k."""
    return _scaled(x, algebra, lambda k: (-1.0) ** k)


def conjugate(
    x: Float[Array, "*n blade channel"], algebra: Algebra
) -> Float[Array, "*n blade channel"]:
    """Clifford's conjugation, both of them; (-1)^(k(k+1)/2) on grade k."""
    return _scaled(x, algebra, lambda k: (-1.0) ** (k * (k + 1) // 2))


def _scaled(x: Array, algebra: Algebra, factor: Callable[[int], float]) -> Array:
    factors = np.array([factor(k) for k in algebra.grades])
    return x * jnp.asarray(factors, x.dtype).reshape(*[1] * (x.ndim - 2), -1, 1)


def expand(
    values: Float[Array, "*n part channel"], algebra: Algebra, modulo: int | None = None
) -> Float[Array, "*n blade channel"]:
    """One value for each part (see `part_of_grade`), repeated on the blades of that part."""
    return _spread_and_sum(algebra, modulo)[0](values)


def sums(
    x: Float[Array, "*n blade channel"], algebra: Algebra, modulo: int | None = None
) -> Float[Array, "*n part channel"]:
    """The sum of the components of each part: the transpose of `expand`."""
    return _spread_and_sum(algebra, modulo)[1](x)


@cache
def _spread_and_sum(algebra: Algebra, modulo: int | None) -> tuple[Multilinear, Multilinear]:
    """The two maps, each the other's transpose: both gather rows, so that nothing scatters."""
    part_of = np.array(part_of_grade(algebra, modulo), np.int32)[np.array(algebra.grades)]
    members = [np.flatnonzero(part_of == part) for part in range(parts(algebra, modulo))]
    longest = max(map(len, members))
    rows = np.stack([np.resize(own, longest) for own in members], 1).astype(np.int32)
    counted = np.arange(longest)[:, None] < np.array([len(own) for own in members])

    def take(x: Array, places: np.ndarray) -> Array:
        return x.at[..., places, :].get(mode="promise_in_bounds")

    def add_up(x: Array) -> Array:
        own = jnp.asarray(counted, x.dtype).reshape(*[1] * (x.ndim - 2), *rows.shape, 1)
        return (take(x, rows) * own).sum(-3)

    spread = Multilinear(lambda values: take(values, part_of), (lambda ct: total(ct),))
    total = Multilinear(add_up, (lambda ct: spread(ct),))
    return spread, total
