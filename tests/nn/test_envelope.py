"""The envelope: which function a power names, how close the two are, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn.envelope import envelope

R = np.linspace(0, 3, 301)


def test_the_polynomial_of_power_three_stays_close_to_the_cosine(x64):
    smooth, cosine = (np.asarray(envelope(jnp.asarray(R), 2.0, power)) for power in (3, 0))
    x = np.minimum(R / 2, 1)
    np.testing.assert_allclose(cosine, (np.cos(np.pi * x) + 1) / 2, atol=1e-15)
    np.testing.assert_allclose(smooth, 1 - 10 * x**3 + 15 * x**4 - 6 * x**5, atol=1e-14)
    assert 0.04 < np.abs(smooth - cosine).max() < 0.05


def test_without_a_cutoff_the_polynomial_is_one_and_the_cosine_is_refused():
    assert (envelope(jnp.asarray(R), np.inf, 6) == 1).all()
    with pytest.raises(ValueError, match="finite cutoff"):
        envelope(jnp.asarray(R), np.inf, 0)


def test_negative_powers_are_refused():
    with pytest.raises(ValueError, match="got -2; use 3"):
        envelope(jnp.asarray(R), 1.0, -2)
