"""Fourier series of harmonics on the torus: their support, their values, their duals."""

import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import gaunt_fft
from geojax.so3.harmonics import harmonics_table
from geojax.so3.sphere import sphere


def test_series_have_the_support_that_the_kernel_relies_on():
    """|u| <= l and u = l mod 2; real for even m, imaginary for odd."""
    lmax = 6
    series = gaunt_fft._series(lmax)
    u = np.arange(-lmax, lmax + 1)
    for l in range(lmax + 1):
        for m in range(l + 1):
            own = series[l * (l + 1) // 2 + m]
            outside = (np.abs(u) > l) | ((u - l) % 2 == 1)
            np.testing.assert_allclose(own[outside], 0, atol=1e-14)
            np.testing.assert_allclose(own.imag if m % 2 == 0 else own.real, 0, atol=1e-14)


@pytest.mark.parametrize("degrees", [(0, 2, 4), (1, 3)])
def test_values_on_the_torus(x64, degrees):
    """Also past theta = pi, where the sine is negative: the antipode."""
    shape = (5, 10)
    torus = gaunt_fft.Torus(degrees, shape, None)
    rows = np.concatenate([np.arange(l * l, (l + 1) ** 2) for l in degrees])
    values = torus.up(jnp.eye(len(rows))[..., None])[..., 0]
    theta, phi = np.meshgrid(np.arange(5) * np.pi / 5, np.arange(10) * np.pi / 5, indexing="ij")
    points = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    table = harmonics_table(points.reshape(-1, 3), degrees[-1])[:, rows]
    np.testing.assert_allclose(values, table.T.reshape(-1, *shape), atol=1e-13)


def test_dual_functions_integrate_over_the_sphere():
    """The mean of a signal times Y over the sphere is a sum over |u| <= top of two series."""
    grid = sphere(8)
    table = harmonics_table(grid.points, 4)
    series, dual = gaunt_fft._series(4), gaunt_fft._dual(gaunt_fft._series(4), 4)
    for l in range(5):
        for other in range(5):
            for m in range(min(l, other) + 1):
                a, b = l * (l + 1) // 2 + m, other * (other + 1) // 2 + m
                share = 1 if m == 0 else 0.5  # the mean of cos(m phi)^2
                found = share * (series[a] @ dual[b].conj())
                columns = table[:, [l * l + l + m, other * other + other + m]]
                expected = grid.weights @ columns.prod(-1)
                np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("n, expected", [(1, 1), (7, 8), (11, 12), (13, 15), (17, 18), (30, 30)])
def test_lengths_have_small_factors(n, expected):
    assert gaunt_fft._smooth(n) == expected
