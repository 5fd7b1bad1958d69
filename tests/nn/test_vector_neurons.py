"""Vector neurons: their formulas, O(3), continuity, and maxima against loops."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irreps, IrrepsArray
from e3nn_jax.flax import Linear

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn import (
    InvariantHead,
    VectorGraphNorm,
    VectorLeakyReLU,
    VectorLinear,
    VectorMaxPool,
    VectorNorm,
    vector_leaky_relu,
    vector_max,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3, 8))
INDEX = np.array([0, 0, 0, 2, 2, 3])
MIRROR = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
MIRROR = -MIRROR * np.linalg.det(MIRROR)


class Everything(nn.Module):
    """All layers, one after the other, and the invariants at the end."""

    @nn.compact
    def __call__(self, x):
        x = VectorNorm()(VectorLeakyReLU(8, shared=True)(VectorLeakyReLU(8)(VectorLinear(8)(x))))
        x = VectorMaxPool()(x, jnp.asarray(INDEX), 4)
        return x, InvariantHead()(x)


def parameters(network, *inputs):
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape)), shapes)


def test_vectors_turn_and_invariants_do_not(x64):
    """With a reflection, and both have finite derivatives at zero."""
    network = Everything()
    params = parameters(network, jnp.asarray(X))
    run = jax.jit(partial(network.apply, params))
    vectors, invariants = run(jnp.asarray(X))
    assert vectors.shape == (4, 3, 8) and invariants.shape == (4, 24)
    after = run(jnp.asarray(np.einsum("ab,nbc->nac", MIRROR, X)))
    expected = np.einsum("ab,nbc->nac", MIRROR, vectors)
    np.testing.assert_allclose(after[0], expected, atol=1e-12)
    np.testing.assert_allclose(after[1], invariants, atol=1e-12)
    assert not np.asarray(vectors)[1].any() and np.asarray(invariants)[[0, 2, 3]].any(1).all()
    total = lambda x: sum(jnp.sum(jnp.sin(y)) for y in network.apply(params, x))
    assert np.isfinite(jax.jit(jax.grad(total))(jnp.zeros((6, 3, 8)))).all()


def test_the_linear_map_is_that_of_irreps(x64):
    linear = VectorLinear(5)
    params = parameters(linear, jnp.asarray(X))
    found = linear.apply(params, jnp.asarray(X))
    kernel = params["params"]["kernel"]
    assert set(params["params"]) == {"kernel"}
    theirs = Linear(Irreps("5x1o"))
    x = IrrepsArray("8x1o", jnp.asarray(X.swapaxes(1, 2).reshape(6, -1)))
    named = jax.eval_shape(theirs.init, jax.random.key(0), x)
    same = jax.tree.map(lambda a: (kernel * np.sqrt(8)).reshape(a.shape), named)
    expected = theirs.apply(same, x).array.reshape(6, 5, 3).swapaxes(1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_the_nonlinearity_is_the_published_one(x64):
    """0.2 q + 0.8 (q, or what of it is across d), and continuous where q·d changes sign."""
    q, d = X, RNG.normal(size=(6, 3, 8))
    dot = (q * d).sum(1, keepdims=True)
    across = q - dot * d / (d * d).sum(1, keepdims=True)
    expected = 0.2 * q + 0.8 * np.where(dot >= 0, q, across)
    found = vector_leaky_relu(jnp.asarray(q), jnp.asarray(d))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    near = [vector_leaky_relu(jnp.asarray(across + s * 1e-9 * d), jnp.asarray(d)) for s in (1, -1)]
    np.testing.assert_allclose(near[0], near[1], atol=1e-8)
    np.testing.assert_allclose(vector_leaky_relu(jnp.asarray(q), jnp.zeros((6, 3, 8))), q)


def test_the_norm_makes_lengths_one(x64):
    norm = VectorNorm()
    found = norm.apply(norm.init(jax.random.key(0), jnp.asarray(X)), jnp.asarray(100 * X))
    lengths = (np.asarray(found) ** 2).sum(1).mean(1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_the_norm_over_a_graph_keeps_which_vectors_are_longer(x64):
    """Each channel has the root mean square 1 in its graph; nodes stay in proportion."""
    clouds = [Structure(np.zeros((n, 3)), np.zeros(n, int)) for n in (4, 1)]
    graph = pad([sample(s, 0.0) for s in clouds], Budget(6, 1, 3), np.dtype("float64")).graph
    graph = jax.tree.map(jnp.asarray, graph)
    norm = VectorGraphNorm()
    found = norm.apply(
        norm.init(jax.random.key(0), jnp.asarray(X), graph), jnp.asarray(100 * X), graph
    )
    square = (np.asarray(found) ** 2).sum(1)
    np.testing.assert_allclose(square[:4].mean(0), 1, rtol=1e-6)
    np.testing.assert_allclose(square[4], 1, rtol=1e-6)
    ratio = np.asarray(found)[:4] / X[:4]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :1], ratio.shape))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("mask", [None, np.array([True, False, True, True, True, False])])
def test_maxima_are_those_of_a_loop(mask, x64):
    """Rows that are masked, and groups without any row."""
    scores = RNG.normal(size=(6, 8))
    scores[3] = scores[4]  # of equal ones the first
    kept = None if mask is None else jnp.asarray(mask)
    pool = jax.jit(lambda x, s: vector_max(x, s, jnp.asarray(INDEX), 4, kept))
    found = np.asarray(pool(jnp.asarray(X), jnp.asarray(scores)))
    real = np.ones(6, bool) if mask is None else mask
    expected = np.zeros((4, 3, 8))
    for group in range(4):
        rows = np.nonzero((group == INDEX) & real)[0]
        for channel in range(8 if len(rows) else 0):
            best = rows[np.argmax(scores[rows, channel])]
            expected[group, :, channel] = X[best, :, channel]
    np.testing.assert_array_equal(found, expected)
