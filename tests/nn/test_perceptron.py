"""Affine layers with SiLU: against numpy, with and without the last nonlinearity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn.perceptron import Perceptron


@pytest.mark.parametrize("end", [False, True])
def test_layers_are_affine_with_silu_between_them(end, key, x64):
    layers, rng = Perceptron((4, 3), end), np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6))
    shapes = jax.eval_shape(layers.init, key, jnp.asarray(x))
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), shapes)
    assert set(params["params"]) == {"affine_0", "affine_1"}
    silu = lambda x: x / (1 + np.exp(-x))
    expected = x
    for i, own in enumerate(params["params"].values()):
        expected = expected @ np.asarray(own["kernel"], np.float64) + np.asarray(own["bias"])
        expected = silu(expected) if end or i == 0 else expected
    np.testing.assert_allclose(layers.apply(params, jnp.asarray(x)), expected, atol=1e-14)


def test_derivatives_are_those_of_silu(x64):
    """Also the second, through what is calculated again for the first."""
    layers = Perceptron((1,), end=True)
    params = {"params": {"affine_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}}
    f = lambda x: layers.apply(params, jnp.full((1,), x))[0]
    x, s = 0.7, 1 / (1 + np.exp(-0.7))
    first = s + x * s * (1 - s)
    second = 2 * s * (1 - s) + x * s * (1 - s) * (1 - 2 * s)
    found = jax.jit(lambda x: jax.jvp(jax.grad(f), (x,), (1.0,)))(x)
    np.testing.assert_allclose(found, (first, second), rtol=1e-14)
