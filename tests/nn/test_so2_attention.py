"""The nonlinearity of attention logits; the layer is tested with EquiformerV2."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.nn.so2_attention import smooth_leaky_relu


def test_the_leaky_relu_is_the_published_one_and_smooth(x64):
    x = jnp.linspace(-40.0, 40.0, 81)
    sigmoid = 1 / (1 + np.exp(-np.asarray(x)))
    expected = 0.6 * np.asarray(x) + 0.4 * np.asarray(x) * (2 * sigmoid - 1)
    np.testing.assert_allclose(smooth_leaky_relu(x), expected, rtol=1e-12, atol=1e-12)
    slope = jax.vmap(jax.grad(smooth_leaky_relu))(x)
    np.testing.assert_allclose(slope[jnp.array([0, 40, 80])], [0.2, 0.6, 1.0], rtol=1e-12)
