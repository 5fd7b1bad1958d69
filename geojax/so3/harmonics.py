"""Real spherical harmonics of any degree as polynomials of x, y, z: no angles, no singular points.

With polar axis y and component normalisation, for m > 0

    Y_l,0 = Q_l0(y, r)    Y_l,+m = Q_lm(y, r) Re (z + ix)^m    Y_l,-m = Q_lm(y, r) Im (z + ix)^m

where Q_lm = c_lm P_l^m(y/r) r^l / (x^2 + z^2)^(m/2) is a polynomial of y and r^2 that follows from
the three-term recursion of the associated Legendre functions in l, started at l = m.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import unit

__all__ = ["harmonics", "harmonics_table"]


def harmonics(
    vectors: Float[Array, "*n xyz"], lmax: int, *, normalize: bool = True
) -> Float[Array, "*n m"]:
    """The harmonics Y_0 ... Y_lmax of the vectors, |Y_l|^2 = 2l+1 on the unit sphere.

    All derivatives are finite: the zero vector (a padding edge) has Y_0 = 1, every other component
    zero, and zero derivatives.

    Args:
        vectors: need not be unit vectors.
        lmax: largest degree; the result has (lmax+1)**2 components, degree after degree.
        normalize: divide the vectors by their length. Without it the result is the solid harmonics
            |r|^l Y_l(r/|r|), polynomials of degree l.

    Raises:
        ValueError: the vectors have not three components, or lmax < 0.

    References:
        Homeier, Steinborn, "Some properties of the coupling coefficients of real spherical
        harmonics", 1996, https://doi.org/10.1016/S0166-1280(96)90531-X (the real basis).
    """
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise ValueError(
            f"harmonics are taken of vectors [..., 3]; got shape {vectors.shape}; "
            "put x, y, z on the last axis"
        )
    if lmax < 0:
        raise ValueError(f"the largest degree is 0 or more; got lmax={lmax}")
    return _harmonics(vectors, lmax, normalize)


# One program also where it is called outside of one.
@partial(jax.jit, static_argnums=(1, 2))
def _harmonics(vectors: Array, lmax: int, normalize: bool) -> Array:
    v = unit(vectors) if normalize else vectors
    return jnp.stack(_components(v[..., 0], v[..., 1], v[..., 2], lmax, jnp), -1)


def harmonics_table(points: Float[np.ndarray, "point xyz"], lmax: int) -> np.ndarray:
    """The harmonics at unit vectors, `[point, m]`, by numpy in float64."""
    x, y, z = points.astype(float).T
    return np.stack(_components(x, y, z, lmax, np), -1)


def _components(x: Any, y: Any, z: Any, lmax: int, xp: Any) -> list[Any]:
    """Each component of the solid harmonics, by numpy or jax."""
    square = x * x + y * y + z * z
    rows = [y] * (lmax + 1) ** 2
    cosine, sine = xp.ones_like(x), xp.zeros_like(x)  # of m times the azimuth, with its radius^m
    for m in range(lmax + 1):
        if m > 0:
            cosine, sine = z * cosine - x * sine, z * sine + x * cosine
        for l, q in enumerate(_polar(m, lmax, y, square, xp), start=m):
            centre = l * l + l
            rows[centre + m] = q * cosine
            if m > 0:
                rows[centre - m] = q * sine
    return rows


def _polar(m: int, lmax: int, y: Any, square: Any, xp: Any) -> list[Any]:
    """Q_lm for l = m ... lmax.

    The recursion of P_l^m times the norms c_lm = sqrt((2l+1) (2 - [m=0]) (l-m)! / (l+m)!) is
    Q_lm = a_l y Q_{l-1,m} - b_l r^2 Q_{l-2,m} with the a_l, b_l below.
    """
    first = math.prod(1 + 1 / (2 * k) for k in range(1, m + 1)) * (1 if m == 0 else 2)
    q = [xp.full_like(y, math.sqrt(first))]
    for l in range(m + 1, lmax + 1):
        a = math.sqrt((2 * l + 1) * (2 * l - 1) / ((l - m) * (l + m)))
        term = a * y * q[-1]
        if l > m + 1:
            b = a * math.sqrt((l - 1 - m) * (l - 1 + m) / ((2 * l - 1) * (2 * l - 3)))
            term = term - b * square * q[-2]
        q.append(term)
    return q
