"""Normalisations against loops, under rotations, and at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn import LayerNorm, RMSNorm, SeparableNorm
from geojax.so3 import random_rotation, rotate

C, LMAX = 3, 2


def features(key):
    """Of different size in each degree, and a mean of the scalars."""
    scale = np.repeat([1.0, 3.0, 0.2], [1, 3, 5])[None, :, None]
    return 0.5 + jax.random.normal(key, (4, 9, C)) * scale


def parameters(layer, x):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), shapes)


def by_hand(params, x, groups):
    """One node, degree by degree."""
    rows = [slice(l * l, (l + 1) ** 2) for l in range(LMAX + 1)]
    x = np.array(x)
    x[0] -= x[0].mean()
    out = np.zeros_like(x)
    for group in groups:
        square = np.mean([np.mean(x[rows[l]] ** 2) for l in group])
        for l in group:
            out[rows[l]] = x[rows[l]] / np.sqrt(square + 1e-5) * params["gain"][l]
    out[0] += params["shift"]
    return out


GROUPS = {SeparableNorm: [[0], [1, 2]], RMSNorm: [[0, 1, 2]]}


@pytest.mark.parametrize("kind", GROUPS)
def test_equals_loops(x64, key, kind):
    x = features(key)
    params = parameters(kind(), x)
    plain = jax.tree.map(np.asarray, params["params"])
    assert {name: a.shape for name, a in plain.items()} == {"gain": (3, C), "shift": (C,)}
    expected = np.stack([by_hand(plain, node, GROUPS[kind]) for node in x])
    np.testing.assert_allclose(jax.jit(kind().apply)(params, x), expected, atol=1e-13)


@pytest.mark.parametrize("kind", GROUPS)
def test_commutes_with_rotations(x64, key, kind):
    x, turn = features(key), random_rotation(key, improper=True)
    params, apply = parameters(kind(), x), jax.jit(kind().apply)
    expected = rotate(turn, apply(params, x))
    np.testing.assert_allclose(apply(params, rotate(turn, x)), expected, atol=1e-13)


@pytest.mark.parametrize("kind", [LayerNorm, SeparableNorm, RMSNorm])
def test_derivatives_at_zero_are_finite(x64, kind):
    x = jnp.zeros((9, C))
    params = parameters(kind(), x)
    f = lambda t: kind().apply(params, x + t * jnp.ones_like(x).at[0, 0].set(2.0)).sum()
    third = jax.jit(jax.grad(jax.grad(jax.grad(f))))(0.0)
    assert np.isfinite(third) and third != 0


def test_layer_norm_has_mean_shift_and_deviation_gain(x64, key):
    x = 7 + 3 * jax.random.normal(key, (5, 64))
    params = {"params": {"gain": jnp.full(64, 2.0), "shift": jnp.full(64, -1.0)}}
    found = LayerNorm().apply(params, x)
    np.testing.assert_allclose(found.mean(-1), -1, atol=1e-12)
    np.testing.assert_allclose(found.std(-1), 2, rtol=1e-5)


def test_scalars_alone(x64, key):
    """lmax = 0: both are a layer norm."""
    x = jax.random.normal(key, (4, 1, C))
    params = {"params": {"gain": jnp.ones((1, C)), "shift": jnp.zeros(C)}}
    plain = {"params": {"gain": jnp.ones(C), "shift": jnp.zeros(C)}}
    for kind in GROUPS:
        np.testing.assert_allclose(kind().apply(params, x), LayerNorm().apply(plain, x), atol=1e-14)
