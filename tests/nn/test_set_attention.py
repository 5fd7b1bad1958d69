"""Attention among the points of a set: loops in numpy, and what masks leave out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn import OffsetAttention, TransformerLayer, masked_softmax, split_heads

rng = np.random.default_rng(0)
X, MASK = rng.normal(size=(3, 7, 8)), np.arange(7) < np.array([[7], [4], [0]])


def softmax(x):
    terms = np.exp(x - x.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


def affine(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def layer_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["gain"] + p["shift"]


def plain_offset(p, x):
    """Of one set [point, channel], point by point."""
    weights = softmax(affine(p["query"], x) @ affine(p["key"], x).T)
    v, rows = affine(p["value"], x), []
    for j in range(len(x)):
        rows.append(weights[:, j] @ v / weights[:, j].sum())
    return x + np.maximum(layer_norm(p["norm"], affine(p["output"], x - np.stack(rows))), 0)


def plain_transformer(p, x, heads):
    """Of one set [point, channel], head by head."""
    q, k, v = (affine(p[name], x) for name in ("query", "key", "value"))
    each = x.shape[1] // heads
    parts = [slice(i * each, (i + 1) * each) for i in range(heads)]
    heard = [softmax(q[:, h] @ k[:, h].T / np.sqrt(each)) @ v[:, h] for h in parts]
    y = layer_norm(p["norm_0"], x + affine(p["output"], np.concatenate(heard, 1)))
    h = affine(p["affine_1"], np.maximum(affine(p["affine_0"], y), 0))
    return layer_norm(p["norm_1"], y + h)


def drawn(module):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(X), jnp.asarray(MASK))
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(scale=0.5, size=x.shape)), shapes)


def test_a_softmax_over_those_there_are(x64):
    scores = rng.normal(size=(3, 2, 7))
    found = np.asarray(masked_softmax(jnp.asarray(scores), jnp.asarray(MASK[:, None])))
    np.testing.assert_allclose(found[0], softmax(scores[0]), atol=1e-12)
    np.testing.assert_allclose(found[1, :, :4], softmax(scores[1, :, :4]), atol=1e-12)
    assert not found[1, :, 4:].any() and not found[2].any()
    slope = jax.grad(lambda s: jnp.sum(masked_softmax(s, jnp.asarray(MASK[:, None])) ** 2))
    assert np.isfinite(slope(jnp.asarray(1e3 * scores))).all()


MODULES = {
    "offset": (OffsetAttention(), plain_offset),
    "transformer": (TransformerLayer(2, 5), lambda p, x: plain_transformer(p, x, 2)),
}


@pytest.mark.parametrize("name", MODULES)
def test_layers_equal_their_equations(name, x64):
    module, plain = MODULES[name]
    params = drawn(module)
    tree = jax.tree.map(np.asarray, params["params"])
    found = np.asarray(jax.jit(module.apply)(params, jnp.asarray(X), jnp.asarray(MASK)))
    np.testing.assert_allclose(found[0], plain(tree, X[0]), atol=1e-12)
    np.testing.assert_allclose(found[1, :4], plain(tree, X[1, :4]), atol=1e-12)
    assert not found[1, 4:].any() and not found[2].any()


@pytest.mark.parametrize("name", MODULES)
def test_what_padding_holds_is_never_seen(name, x64):
    module, _ = MODULES[name]
    params = drawn(module)
    total = lambda x: jnp.sum(module.apply(params, x, jnp.asarray(MASK)) ** 2)
    other = np.where(MASK[..., None], X, 1e6)
    found, slope = jax.jit(jax.value_and_grad(total))(jnp.asarray(other))
    np.testing.assert_allclose(found, total(jnp.asarray(X)), rtol=1e-12)
    assert np.isfinite(slope).all() and not np.asarray(slope)[~MASK].any()


def test_a_point_that_hardly_any_sends_to_hears_their_mean():
    """The square of the weights that it hears is below the least number of float32."""
    params = drawn(OffsetAttention())
    tree, x = jax.tree.map(np.asarray, params["params"]), 20 * X[0]
    heard = softmax(affine(tree["query"], x) @ affine(tree["key"], x).T).sum(0).min()
    assert 1e-38 < heard < 1e-22
    apply = lambda params, x: OffsetAttention().apply(params, x, jnp.ones(x.shape[:-1], bool))
    single = jnp.asarray(x[None], jnp.float32)
    np.testing.assert_allclose(apply(params, single)[0], plain_offset(tree, x), atol=1e-4)
    slopes = jax.grad(lambda *a: jnp.sum(apply(*a) ** 2), (0, 1))(params, single)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def test_heads_share_channels_evenly():
    with pytest.raises(ValueError, match="3 heads for 8"):
        drawn(TransformerLayer(3, 5))


def test_heads_share_channels():
    assert split_heads(jnp.zeros((5, 6)), 2).shape == (5, 2, 3)
    with pytest.raises(ValueError, match="evenly"):
        split_heads(jnp.zeros((5, 6)), 4)
