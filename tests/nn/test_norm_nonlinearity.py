"""Nonlinearities of norms: their formulas, directions kept, zero and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.nn.norm_nonlinearity import BiasedNorm, NormNonlinearity

RNG = np.random.default_rng(0)
S, V = Irrep("0e"), Irrep("1o")
VALUES = {S: RNG.normal(size=(5, 1, 4)), V: RNG.normal(size=(5, 3, 3))}
KINDS = {
    "layer": NormNonlinearity(),
    "linear": NormNonlinearity("silu", linear=True),
    "bias": BiasedNorm(),
}


def ready(module):
    """Features and parameters, in float64."""
    x = {i: jnp.asarray(block) for i, block in VALUES.items()}
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return x, jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)


def size(kind, p, i, norm):
    """The new norm, [node, channel]."""
    if kind == "bias":
        return np.maximum(norm + p[f"bias_{i}"], 0)
    h = (norm - norm.mean(-1, keepdims=True)) / np.sqrt(norm.var(-1, keepdims=True) + 1e-5)
    h = h * p[f"norm_{i}"]["gain"] + p[f"norm_{i}"]["shift"]
    if kind == "layer":
        return np.maximum(h, 0)
    return h / (1 + np.exp(-h)) @ p[f"kernel_{i}"] + p[f"bias_{i}"]


@pytest.mark.parametrize("kind", KINDS)
def test_norms_change_and_directions_stay(kind, x64):
    x, params = ready(KINDS[kind])
    found = jax.jit(KINDS[kind].apply)(params, x)
    for i, block in VALUES.items():
        norm = np.sqrt(np.sum(block**2, 1) + 0.01)
        expected = (
            block
            / norm[:, None]
            * size(kind, jax.tree.map(np.asarray, params["params"]), i, norm)[:, None]
        )
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_stays_zero_and_has_derivatives(kind, x64):
    x, params = ready(KINDS[kind])
    zero = jax.tree.map(jnp.zeros_like, x)
    apply = jax.jit(KINDS[kind].apply)
    assert not any(np.any(block) for block in apply(params, zero).values())

    def f(t):
        blocks = {i: block * t for i, block in x.items()}
        return sum(jnp.sum(b * x[i]) for i, b in apply(params, blocks).items())

    g, h = jax.grad(f), jax.grad(jax.grad(f))
    found = jax.jit(lambda t: jnp.stack([g(t), h(t), jax.grad(h)(t)]))(0.0)
    assert np.isfinite(found).all() and found[0] != 0
