"""Plain layers: by hand, their sizes, their scale, their dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn.dense import MLP, Affine, Dense, Perceptron


def test_a_network_equals_its_formula(key):
    x = jax.random.normal(key, (5, 3))
    network = MLP((4, 2), bias=True)
    params = jax.tree.map(lambda p: p + 0.1, network.init(key, x))
    p = jax.tree.map(np.asarray, params["params"])
    hidden = np.asarray(x) @ p["dense_0"]["kernel"] / np.sqrt(3) + p["dense_0"]["bias"]
    hidden = hidden / (1 + np.exp(-hidden)) * 1.6765324703310907
    expected = hidden @ p["dense_1"]["kernel"] / np.sqrt(4) + p["dense_1"]["bias"]
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5, atol=1e-6)


def test_without_bias_zero_goes_to_zero(key):
    network = MLP((16, 16, 3))
    params = network.init(key, jnp.ones((1, 8)))
    assert not np.asarray(network.apply(params, jnp.zeros((4, 8)))).any()
    assert sum(p.size for p in jax.tree.leaves(params)) == 8 * 16 + 16 * 16 + 16 * 3


@pytest.mark.parametrize("width", [32, 512])
def test_outputs_have_unit_variance_at_every_width(key, width):
    network = MLP((width, width, 64))
    x = jax.random.normal(key, (500, width))
    out = network.apply(network.init(key, x), x)
    assert np.std(out) == pytest.approx(1, abs=0.15)


def test_the_dtype_is_that_of_the_input(key, x64):
    dense = Dense(2, bias=True)
    params = dense.init(key, jnp.ones((1, 3), jnp.float32))
    for dtype in (jnp.float32, jnp.float64):
        assert dense.apply(params, jnp.ones((1, 3), dtype)).dtype == dtype


def test_an_affine_layer_starts_uniformly_and_is_used_as_stored(key, x64):
    x = jax.random.normal(key, (5, 16), jnp.float64)
    layer = Affine(400)
    params = layer.init(key, x)["params"]
    assert 0.24 < np.abs(params["kernel"]).max() <= 0.25
    assert 0.2 < np.abs(params["bias"]).max() <= 0.25
    expected = x @ params["kernel"] + params["bias"][None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-6)


def test_parts_are_joined_and_moved_after_the_matrix(key):
    x, y = jax.random.normal(key, (4, 3)), jax.random.normal(key, (6, 2))
    rows = jnp.array([0, 1, 1, 2, 3, 3])
    layer = Affine(7)
    params = layer.init(key, (x, lambda a: a[rows]), y)
    joined = jnp.concatenate([x[rows], y], -1)
    found = layer.apply(params, (x, lambda a: a[rows]), y)
    np.testing.assert_allclose(found, layer.apply(params, joined), rtol=2e-5, atol=1e-6)


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
