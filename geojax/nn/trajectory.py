"""Positions over time: their cosine transform, the angles between steps, and outputs of vectors.

The discrete cosine transform (DCT-II, orthonormal) of n values in time is D x with

    D_kt = sqrt((1 + [k > 0]) / n) cos(pi k (t + 1/2) / n)

and Dᵀ is its inverse. It mixes times and not coordinates, so it turns with every rotation.
"""

import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep, Irreps
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit

__all__ = ["angles_between", "cosine_transform", "vector_count"]


def cosine_transform(n: int) -> Float[np.ndarray, "frequency time"]:
    """The orthogonal matrix D, float64.

    Raises:
        ValueError: there are no times.
    """
    if n < 1:
        raise ValueError(f"a cosine transform is of one value or more; got {n}")
    k, t = np.arange(n)[:, None], np.arange(n)[None, :]
    return np.sqrt((1.0 + (k > 0)) / n) * np.cos(np.pi * k * (t + 0.5) / n)


def angles_between(a: Float[Array, "*n 3"], b: Float[Array, "*n 3"]) -> Float[Array, "*n"]:
    """The angle between vectors, 0 to pi, by atan2(|a x b|, a·b); zero where one is zero.

    Its derivative is finite everywhere: that of arccos is not for parallel vectors, as those of
    uniform motion are.
    """
    a, b = unit(a), unit(b)
    along = jnp.sum(a * b, -1)
    none = jnp.all(a == 0, -1) | jnp.all(b == 0, -1)
    return jnp.arctan2(safe_norm(jnp.cross(a, b)), jnp.where(none, 1, along))


def vector_count(irreps_out: str) -> int:
    """How many polar vectors irreps such as "10x1o" are.

    Raises:
        ValueError: there is something else among them, or nothing.
    """
    irreps = Irreps(irreps_out)
    count = irreps.count(Irrep(1, -1))
    if not count or 3 * count != irreps.dim:
        raise ValueError(
            "a trajectory is one polar vector for each time to come, as in '10x1o'; got "
            f"irreps_out {irreps_out!r}"
        )
    return count
