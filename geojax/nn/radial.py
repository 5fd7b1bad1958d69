"""Functions of distance: bases, and envelopes that vanish smoothly at the cutoff.

With x = r / cutoff, the waves sin(n pi x) / (pi x), n = 1 ... n_basis, times an envelope are finite
at r = 0 (a padding edge) and exactly zero at and beyond the cutoff. Gaussians of r or of exp(-r)
are the bases of other networks; they too need an envelope.
"""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = [
    "RadialBasis",
    "bessel",
    "cosine_envelope",
    "envelope",
    "exp_normal",
    "gaussians",
    "polynomial_envelope",
]

Normalization = Literal["unit", "orthonormal"]


def bessel(
    r: Float[Array, "*n"],
    cutoff: float,
    n_basis: int = 8,
    *,
    frequencies: Float[Array, "rbf"] | None = None,
    normalization: Normalization = "unit",
) -> Float[Array, "*n rbf"]:
    """Spherical Bessel functions of order zero with roots at the cutoff, without an envelope.

    Args:
        r: distances [Å].
        cutoff: [Å], finite.
        n_basis: how many; not used where frequencies are given.
        frequencies: in place of pi, 2 pi, 3 pi, ...
        normalization: "unit": sin(n pi x) / (pi x), of order one (NequIP). "orthonormal":
            sqrt(2 / cutoff) sin(n pi x) / r, orthonormal in the ball (MACE, DimeNet).

    Raises:
        ValueError: the cutoff is not a positive finite number, or an unknown normalization.

    References:
        Gasteiger, Groß, Günnemann, "Directional message passing for molecular graphs", ICLR 2020.
    """
    _check_cutoff(cutoff)
    if normalization not in ("unit", "orthonormal"):
        raise ValueError(f"normalization is 'unit' or 'orthonormal'; got {normalization!r}")
    if frequencies is None:
        frequencies = jnp.arange(1, n_basis + 1, dtype=r.dtype) * math.pi
    k = frequencies.astype(r.dtype).reshape(*[1] * r.ndim, -1)
    x = (r / cutoff)[..., None]
    apart = x > 0
    safe = jnp.where(apart, x, 1)
    waves = jnp.where(apart, jnp.sin(k * safe) / (math.pi * safe), k / math.pi)
    return waves if normalization == "unit" else waves * math.sqrt(2 / cutoff) * (math.pi / cutoff)


def gaussians(
    x: Float[Array, "*n"], start: float, stop: float, n_basis: int, *, gamma: float | None = None
) -> Float[Array, "*n rbf"]:
    """exp(-gamma (x - mu)^2) for n_basis centres mu from start to stop, both among them.

    Args:
        x: distances, or anything else.
        start, stop: the first and the last centre.
        n_basis: how many, two or more.
        gamma: None: 1 / (2 spacing^2), a standard deviation of one spacing.
    """
    spacing = (stop - start) / (n_basis - 1)
    gamma = 1 / (2 * spacing**2) if gamma is None else gamma
    centres = jnp.linspace(start, stop, n_basis, dtype=x.dtype).reshape(*[1] * x.ndim, -1)
    return jnp.exp(-gamma * (x[..., None] - centres) ** 2)


def exp_normal(r: Float[Array, "*n"], cutoff: float, n_basis: int = 32) -> Float[Array, "*n rbf"]:
    """exp(-beta (exp(-5 r / cutoff) - mu)^2), without an envelope: narrow where r is small.

    The centres mu go from exp(-cutoff / Å) to 1 in equal steps, and beta is (2 / n_basis (1 -
    exp(-cutoff / Å)))^-2.

    Raises:
        ValueError: the cutoff is not a positive finite number.

    References:
        Unke, Meuwly, "PhysNet", JCTC 15, 3678 (2019); with the constants of TorchMD-Net.
    """
    _check_cutoff(cutoff)
    start = math.exp(-cutoff)
    return gaussians(
        jnp.exp(-5 / cutoff * r), start, 1.0, n_basis, gamma=(2 / n_basis * (1 - start)) ** -2
    )


def polynomial_envelope(r: Float[Array, "*n"], cutoff: float, p: int = 6) -> Float[Array, "*n"]:
    """u_p(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), zero from x = 1 on: C².

    Written as (1-x)³ sum_{k<p} (k+1)(k+2)/2 x^k, which is the same polynomial and does not cancel
    near the cutoff (float32 would jump by 1e-6 there). It is 1 where the cutoff is infinite.

    Raises:
        ValueError: p < 1, or the cutoff is not positive.
    """
    if cutoff != math.inf:
        _check_cutoff(cutoff)
    if p < 1:
        raise ValueError(f"the power of a polynomial envelope is 1 or more; got p={p}")
    x = jnp.minimum(r / cutoff, 1)
    q = jnp.zeros_like(x)
    for k in reversed(range(p)):
        q = q * x + (k + 1) * (k + 2) / 2
    rest = 1 - x
    return rest * rest * rest * q


def cosine_envelope(r: Float[Array, "*n"], cutoff: float) -> Float[Array, "*n"]:
    """(1 + cos pi x) / 2, zero from x = 1 on. Only C¹: its second derivative jumps there.

    Written as the square of cos(pi x / 2) = sin(pi (1-x) / 2), which does not cancel.
    """
    _check_cutoff(cutoff)
    return jnp.sin(math.pi / 2 * (1 - jnp.minimum(r / cutoff, 1))) ** 2


def envelope(r: Float[Array, "*n"], cutoff: float, power: int = 3) -> Float[Array, "*n"]:
    """`polynomial_envelope` of this power, or `cosine_envelope` where the power is 0.

    For networks that were published with the cosine, whose forces have kinks where a neighbour
    comes or goes: the polynomial of power 3, 1 - 10 x³ + 15 x⁴ - 6 x⁵, is C², equals the cosine at
    x = 0, 1/2 and 1, and is within 0.05 of it.

    Args:
        r: distances [Å].
        cutoff: [Å].
        power: of the polynomial; 0 is the cosine.

    Raises:
        ValueError: a negative power, or a cutoff that the envelope does not take.
    """
    if power < 0:
        raise ValueError(
            f"the power of an envelope is 1 or more, or 0 for the cosine; got {power}; use 3"
        )
    return cosine_envelope(r, cutoff) if power == 0 else polynomial_envelope(r, cutoff, power)


class RadialBasis(nn.Module):
    """Bessel waves times the polynomial envelope."""

    cutoff: float  # [Å]
    n_basis: int = 8
    envelope: int = 6  # power p
    trainable: bool = False  # the frequencies
    normalization: Normalization = "unit"

    @nn.compact
    def __call__(self, r: Float[Array, "*n"]) -> Float[Array, "*n rbf"]:
        """Of distances [Å]."""
        frequencies = None
        if self.trainable:
            start = lambda key: jnp.arange(1, self.n_basis + 1, dtype=jnp.float32) * math.pi
            frequencies = self.param("frequencies", start)
        waves = bessel(
            r,
            self.cutoff,
            self.n_basis,
            frequencies=frequencies,
            normalization=self.normalization,
        )
        return waves * polynomial_envelope(r, self.cutoff, self.envelope)[..., None]


def _check_cutoff(cutoff: float) -> None:
    if not (0 < cutoff < math.inf):
        raise ValueError(
            f"a radial basis needs a positive finite cutoff [Å]; got {cutoff}; give cutoff=5.0"
        )
