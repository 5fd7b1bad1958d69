"""The product of two signals by their Fourier series on the torus.

With theta running round the whole circle and a signed sine, Y_lm is a finite Fourier series in
theta and phi: |u| <= l with u = l mod 2, and v = m or -m. So even and odd degrees have even and odd
u alone, and half of the circle is enough for both (as in `pointwise.plan_by_parity`). The integral
over the sphere is that over the torus times |sin theta|, whose series does not end; but of the
result's dual functions only |u| <= l1 + l2 meet the product.

Its order, lmax^3, is below that of a table of the grid's points; its time is rarely.

References:
    Luo, Chen, Krishnapriyan, "Enabling efficient equivariant operations in the Fourier basis via
    Gaunt tensor products", 2024, https://arxiv.org/abs/2401.10216.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.products.form import Bound
from geojax.products.pointwise import Field, Plan, Signals, plan_by_parity
from geojax.products.product import Direction, Spec, product
from geojax.so3.harmonics import harmonics_table

__all__ = ["gaunt_fft"]


@product("gaunt-fft", family="gaunt", parities=("even",))
def gaunt_fft(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product of two signals: fast Fourier transforms to half a torus, and back."""
    assert not isinstance(y, Direction) and weights is None
    return Bound(Signals(_plan, spec, y.shape[-1] != channels), {"y": y})


@cache
def _plan(spec: Spec) -> Plan:
    top = spec.lmax_x + spec.lmax_y
    shape = (_smooth(top + 1), _smooth(top + spec.lmax + 1))
    fields = [Field(0, 0, 1, odd=False)]
    transform = lambda name, _, group: Torus(group, shape, top if name == "out" else None)
    return plan_by_parity(spec, fields, transform)


class Torus:
    """Values of some degrees (all even or all odd) at `shape` points of theta in [0, pi) and phi.

    With `dual`, those of the dual functions up to that frequency in theta, divided by the number
    of points.
    """

    def __init__(self, degrees: tuple[int, ...], shape: tuple[int, int], dual: int | None):
        self.degrees, self.shape = degrees, shape
        self.odd = degrees[0] % 2
        lmax = degrees[-1]
        series = _series(lmax) if dual is None else _dual(_series(lmax), dual) / np.prod(shape)
        u = np.arange(series.shape[1]) - series.shape[1] // 2
        own = u[u % 2 == self.odd]
        self.first = int(np.sum(own < 0))  # where the frequencies (u - odd) / 2 >= 0 begin
        self.series = series[:, own + series.shape[1] // 2]

    @property
    def points(self) -> int:
        return int(np.prod(self.shape))

    def up(self, rows: Array) -> Array:
        exact = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
        starts = {l: sum(2 * k + 1 for k in self.degrees if k < l) for l in self.degrees}
        waves = []
        for v in range(self.degrees[-1] + 1):
            own = [l for l in self.degrees if l >= v]
            cosine = jnp.stack([exact[..., starts[l] + l + v, :] for l in own], -2)
            sine = jnp.stack([exact[..., starts[l] + l - v, :] for l in own], -2)
            table = self.series[[l * (l + 1) // 2 + v for l in own]].T
            # the inverse transforms divide by the number of points and count v > 0 twice
            scale = np.prod(self.shape) / (1 if v == 0 else 2)
            waves.append(_wave(table * scale, cosine, None if v == 0 else sine))
        spectrum = jnp.stack(waves, -2)  # [..., u, v, channel]
        negative, positive = spectrum[..., : self.first, :, :], spectrum[..., self.first :, :, :]
        gap = self.shape[0] - spectrum.shape[-3]
        zeros = jnp.zeros((*spectrum.shape[:-3], gap, *spectrum.shape[-2:]), spectrum.dtype)
        around = jnp.fft.ifft(jnp.concatenate([positive, zeros, negative], -3), axis=-3)
        if self.odd:
            half_turn = np.exp(1j * np.pi * np.arange(self.shape[0]) / self.shape[0])[:, None, None]
            around = around * jnp.broadcast_to(half_turn, around.shape).astype(around.dtype)
        return jnp.fft.irfft(around, self.shape[1], axis=-2).astype(rows.dtype)

    def down(self, points: Array) -> Array:
        count = sum(2 * l + 1 for l in self.degrees)
        rows = jax.ShapeDtypeStruct((*points.shape[:-3], count, points.shape[-1]), points.dtype)
        (result,) = jax.linear_transpose(self.up, rows)(points)
        return result


def _wave(table: np.ndarray, cosine: Array, sine: Array | None) -> Array:
    """table @ (cosine - i sine) by real matrix products; a table is real or imaginary."""
    real = bool(np.any(np.real(table)))
    matrix = jnp.asarray(np.real(table) if real else np.imag(table), cosine.dtype)
    apply = lambda a: jnp.einsum("ul,...lc->...uc", matrix, a, precision="highest")
    a = apply(cosine)
    b = jnp.zeros_like(a) if sine is None else apply(sine)
    return jax.lax.complex(a, -b) if real else jax.lax.complex(b, a)


def _series(lmax: int) -> np.ndarray:
    """The Fourier coefficients, u = -lmax ... lmax, of the theta part of Y_lm, m = 0 ... l."""
    count = 2 * lmax + 1
    theta = 2 * np.pi * np.arange(count) / count
    # At phi = 0, where the sine terms vanish; theta beyond pi makes the sine of theta negative.
    points = np.stack([0 * theta, np.cos(theta), np.sin(theta)], -1)
    values = harmonics_table(points, lmax)
    rows = np.array([l * l + l + m for l in range(lmax + 1) for m in range(l + 1)])
    series = np.fft.fftshift(np.fft.fft(values[:, rows], axis=0) / count, axes=0).T
    # Even m are sums of cosines, odd ones of sines: one part of each number is rounding.
    odd = np.array([m % 2 for l in range(lmax + 1) for m in range(l + 1)])[:, None]
    return np.where(odd, 1j * series.imag, series.real)


def _dual(series: np.ndarray, top: int) -> np.ndarray:
    """The series times (pi/2)|sin theta| = sum over even k of exp(i k theta) / (1 - k^2)."""
    lmax = series.shape[1] // 2
    k = np.arange(-top, top + 1)[:, None] - np.arange(-lmax, lmax + 1)
    kernel = np.where(k % 2 == 0, 1 / (1 - np.where(k % 2, 0, k) ** 2.0), 0)
    return series @ kernel.T


def _smooth(n: int) -> int:
    """The next number without prime factors above 5."""
    rest = n
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return n if rest == 1 else _smooth(n + 1)
