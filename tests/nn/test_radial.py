"""Radial functions: their formulas, what they do at zero, and how smoothly they end."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn.radial import (
    RadialBasis,
    bessel,
    cosine_envelope,
    envelope,
    exp_normal,
    gaussians,
    polynomial_envelope,
)

CUTOFF = 4.0
R = np.linspace(0.1, 3.9, 20)
THROUGH = np.linspace(0, 3, 301)


def derivatives(function, r, count=3):
    """The value and derivatives of a scalar function at r."""
    found = []
    for _ in range(count + 1):
        found.append(function(jnp.float64(r)))
        function = jax.grad(function)
    return np.array(found)


def test_the_waves_are_sines_over_distance(x64):
    x = R / CUTOFF
    expected = np.stack([np.sin(n * np.pi * x) / (np.pi * x) for n in range(1, 6)], -1)
    np.testing.assert_allclose(bessel(jnp.asarray(R), CUTOFF, 5), expected, atol=1e-14)


def test_orthonormal_waves_are_orthonormal_in_the_ball(x64):
    points, weights = np.polynomial.legendre.leggauss(60)
    r = (points + 1) * CUTOFF / 2
    waves = np.asarray(bessel(jnp.asarray(r), CUTOFF, 6, normalization="orthonormal"))
    overlap = np.einsum("q,qi,qj->ij", weights * CUTOFF / 2 * r**2, waves, waves)
    np.testing.assert_allclose(overlap, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("p", [1, 3, 5, 6])
def test_the_envelope_is_the_published_polynomial(p, x64):
    x = R / CUTOFF
    expected = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
    expected -= p * (p + 1) / 2 * x ** (p + 2)
    np.testing.assert_allclose(polynomial_envelope(jnp.asarray(R), CUTOFF, p), expected, atol=1e-13)


def test_the_polynomial_ends_with_two_derivatives_and_the_cosine_with_one(x64):
    for function, zeros in [(polynomial_envelope, 3), (cosine_envelope, 2)]:
        inside = derivatives(lambda r: function(r, CUTOFF), CUTOFF - 1e-9)  # noqa: B023
        assert np.abs(inside[:zeros]).max() < 1e-6
        assert abs(inside[zeros]) > 0.1


@pytest.mark.parametrize("function", [polynomial_envelope, cosine_envelope])
def test_envelopes_start_at_one_and_are_exactly_zero_outside(function):
    r = jnp.array([0.0, CUTOFF, CUTOFF * 1.5, 1e6])
    np.testing.assert_array_equal(function(r, CUTOFF), [1, 0, 0, 0])


def test_gaussians_are_one_at_their_centres_and_fall_as_asked():
    found = gaussians(jnp.array([0.0, 1.0, 2.0]), 0.0, 2.0, 3)
    once, twice = math.exp(-0.5), math.exp(-2)
    expected = [[1, once, twice], [once, 1, once], [twice, once, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        gaussians(jnp.array([3.0]), 0.0, 2.0, 3, gamma=1.0)[0, 2], 1 / math.e
    )


def test_exponential_normals_are_the_published_ones(x64):
    start = math.exp(-CUTOFF)
    mu, beta = np.linspace(start, 1, 5), (2 / 5 * (1 - start)) ** -2
    expected = np.exp(-beta * (np.exp(-5 * R / CUTOFF)[:, None] - mu) ** 2)
    np.testing.assert_allclose(exp_normal(jnp.asarray(R), CUTOFF, 5), expected, rtol=1e-12)


def test_without_a_cutoff_the_envelope_is_one():
    np.testing.assert_array_equal(polynomial_envelope(jnp.array([0.0, 1, 1e30]), math.inf), 1)


def test_float32_does_not_jump_at_the_cutoff():
    """The expanded polynomial would leave 1e-6 of rounding here."""
    r = jnp.float32(CUTOFF) * (1 - jnp.array([1e-3, 1e-4], jnp.float32))
    x = np.asarray(r, np.float64) / CUTOFF
    exact = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    np.testing.assert_allclose(polynomial_envelope(r, CUTOFF), exact, rtol=3e-3, atol=1e-14)


@pytest.mark.parametrize("trainable", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_basis_has_finite_derivatives_at_zero_to_third_order(trainable, x64):
    basis = RadialBasis(CUTOFF, 4, trainable=trainable)
    params = basis.init(jax.random.key(0), jnp.ones(1))
    total = lambda r: basis.apply(params, r[None]).sum()
    for r in (0.0, 1e-12, CUTOFF, 2 * CUTOFF):
        assert np.isfinite(derivatives(total, r)).all()
    assert total(jnp.float64(0)) == pytest.approx(1 + 2 + 3 + 4)
    assert not np.asarray(basis.apply(params, jnp.array([CUTOFF, 2 * CUTOFF]))).any()


def test_trainable_frequencies_start_at_multiples_of_pi():
    params = RadialBasis(CUTOFF, 3, trainable=True).init(jax.random.key(0), jnp.ones(1))
    expected = np.arange(1, 4) * math.pi
    np.testing.assert_allclose(params["params"]["frequencies"], expected, rtol=1e-6)
    fixed = RadialBasis(CUTOFF, 3)
    np.testing.assert_allclose(
        RadialBasis(CUTOFF, 3, trainable=True).apply(params, jnp.ones(2)),
        fixed.apply({}, jnp.ones(2)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: bessel(r, math.inf), "finite cutoff"),
        (lambda r: polynomial_envelope(r, 0.0), "finite cutoff"),
        (lambda r: polynomial_envelope(r, 4.0, 0), "p=0"),
        (lambda r: cosine_envelope(r, -1.0), "finite cutoff"),
    ],
)
def test_impossible_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(2))


def test_the_polynomial_of_power_three_stays_close_to_the_cosine(x64):
    smooth, cosine = (np.asarray(envelope(jnp.asarray(THROUGH), 2.0, power)) for power in (3, 0))
    x = np.minimum(THROUGH / 2, 1)
    np.testing.assert_allclose(cosine, (np.cos(np.pi * x) + 1) / 2, atol=1e-15)
    np.testing.assert_allclose(smooth, 1 - 10 * x**3 + 15 * x**4 - 6 * x**5, atol=1e-14)
    assert 0.04 < np.abs(smooth - cosine).max() < 0.05


def test_without_a_cutoff_the_polynomial_is_one_and_the_cosine_is_refused():
    assert (envelope(jnp.asarray(THROUGH), np.inf, 6) == 1).all()
    with pytest.raises(ValueError, match="finite cutoff"):
        envelope(jnp.asarray(THROUGH), np.inf, 0)


def test_negative_powers_are_refused():
    with pytest.raises(ValueError, match="got -2; use 3"):
        envelope(jnp.asarray(THROUGH), 1.0, -2)
