"""The constants of nonlinearities against adaptive quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from geojax.nn.activation import ACTIVATIONS, activate, second_moment


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_second_moment_is_one(name, x64):
    density = lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    square = lambda x: float(activate(jnp.float64(x), name)) ** 2
    found, _ = quad(lambda x: square(x) * density(x), -12, 12, epsabs=1e-10)
    assert found == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sigmoid"}))
def test_zero_stays_zero(name):
    """So that an isolated atom has its own energy; sigmoid is for factors, not for features."""
    assert activate(jnp.zeros(()), name) == 0


def test_the_constant_of_silu_is_known():
    assert second_moment("silu") ** -0.5 == pytest.approx(1.6765324703310907, abs=1e-10)


def test_samples_have_unit_second_moment(key):
    x = jax.random.normal(key, (200_000,))
    assert jnp.mean(activate(x) ** 2) == pytest.approx(1, abs=0.02)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(KeyError, match="silu"):
        activate(jnp.ones(2), "sliu")
