"""Attention with structure, against loops in numpy, and what it is blind to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.nn import (
    CrossAttention,
    StructureAttention,
    StructureEmbedding,
    sinusoids,
)

N, REAL, WIDTH = 7, 6, 4
MASK = jnp.arange(N)[None] < REAL


def draw(layer, *inputs):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)


def affine(p, x):
    return x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])


def layer_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * np.asarray(p["gain"]) + np.asarray(p["shift"])


def point_layer(p, x, heard):
    y = layer_norm(p["norm_0"], x + affine(p["output"], heard))
    h = affine(p["affine_1"], np.maximum(affine(p["affine_0"], y), 0))
    return layer_norm(p["norm_1"], y + h)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_sinusoids(x64):
    x = jnp.asarray([0.0, 2.5])
    rows = [[np.sin(v), np.sin(v / 100), np.cos(v), np.cos(v / 100)] for v in (0.0, 2.5)]
    np.testing.assert_allclose(sinusoids(x, 4), rows, atol=1e-14)
    with pytest.raises(ValueError, match="even"):
        sinusoids(x, 3)


def test_structure_by_hand(x64):
    x = np.random.default_rng(0).normal(size=(1, N, 3))
    layer = StructureEmbedding(WIDTH, distance=0.5, angle=15.0)
    params = draw(layer, jnp.asarray(x), MASK)
    found = np.asarray(jax.jit(layer.apply)(params, jnp.asarray(x), MASK))[0]
    p, x = params["params"], x[0, :REAL]
    wave = lambda v: np.concatenate([np.sin([v, v / 100]), np.cos([v, v / 100])])
    for i in range(REAL):
        near = np.argsort(np.linalg.norm(x - x[i], axis=1))[1:4]
        for j in range(REAL):
            d = x[j] - x[i]
            turns = []
            for k in near:
                e = x[k] - x[i]
                angle = np.arctan2(np.linalg.norm(np.cross(e, d)), e @ d) if i != j else 0.0
                turns.append(affine(p["angle_map"], wave(np.degrees(angle) / 15)))
            expected = affine(p["distance_map"], wave(np.linalg.norm(d) / 0.5)) + np.max(turns, 0)
            np.testing.assert_allclose(found[i, j], expected, atol=1e-10)


def test_structure_is_blind_to_motions_and_derivatives_are_finite(x64):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, N, 3)))
    layer = StructureEmbedding(WIDTH, distance=0.5, angle=15.0)
    params = draw(layer, x, MASK)
    before = jax.jit(layer.apply)(params, x, MASK)[0, :REAL, :REAL]
    turn = -Rotation.random(rng=rng).as_matrix()
    after = jax.jit(layer.apply)(params, x @ jnp.asarray(turn) + 3.0, MASK)[0, :REAL, :REAL]
    np.testing.assert_allclose(after, before, atol=1e-10)
    together = x.at[0, 1].set(x[0, 0])
    gradient = jax.grad(lambda x: jax.jit(layer.apply)(params, x, MASK).sum())(together)
    assert np.isfinite(gradient).all()
    alone = jax.jit(layer.apply)(params, x, jnp.arange(N)[None] < 1)
    assert np.isfinite(alone).all()


def test_self_attention_by_hand(x64):
    rng = np.random.default_rng(0)
    h, seen = rng.normal(size=(1, N, WIDTH)), rng.normal(size=(1, N, N, WIDTH))
    layer = StructureAttention(heads=2)
    inputs = jnp.asarray(h), jnp.asarray(seen), MASK
    params = draw(layer, *inputs)
    found, places = (np.asarray(y)[0] for y in jax.jit(layer.apply)(params, *inputs))
    p, h, seen = params["params"], h[0, :REAL], seen[0, :REAL, :REAL]
    q, k, v = (affine(p[name], h) for name in ("query", "key", "value"))
    keys = k[None] + affine(p["structure_key"], seen)
    values = affine(p["structure_value"], seen)
    heard, place = np.zeros((REAL, WIDTH)), np.zeros((REAL, WIDTH))
    for part in (slice(0, 2), slice(2, 4)):
        logits = np.einsum("id,ijd->ij", q[:, part], keys[..., part]) / np.sqrt(2)
        heard[:, part] = softmax(logits) @ v[:, part]
        others = softmax(np.where(np.eye(REAL, dtype=bool), -1e9, logits))
        place[:, part] = np.einsum("ij,ijd->id", others, values[..., part])
    np.testing.assert_allclose(found[:REAL], point_layer(p["layer"], h, heard), atol=1e-12)
    y = layer_norm(p["place_norm"], affine(p["place"], place))
    y = affine(p["place_1"], np.maximum(affine(p["place_0"], y), 0))
    np.testing.assert_allclose(places[:REAL], y, atol=1e-12)
    assert not found[REAL:].any() and not places[REAL:].any()


def test_cross_attention_by_hand(x64):
    rng = np.random.default_rng(0)
    h, places = rng.normal(size=(2, 1, 2, N, WIDTH))
    mask = jnp.stack([MASK[0], jnp.arange(N) < 4])[None]
    layer = CrossAttention(heads=2)
    inputs = jnp.asarray(h), jnp.asarray(places), mask
    params = draw(layer, *inputs)
    found = np.asarray(jax.jit(layer.apply)(params, *inputs))[0]
    p, sizes = params["params"], (REAL, 4)
    for one, other in ((0, 1), (1, 0)):
        rows, columns = slice(sizes[one]), slice(sizes[other])
        q = affine(p["query"], (h + places)[0, one, rows])
        k = affine(p["key"], (h + places)[0, other, columns])
        v = affine(p["value"], h[0, other, columns])
        heard = [
            softmax(q[:, part] @ k[:, part].T / np.sqrt(2)) @ v[:, part]
            for part in (slice(0, 2), slice(2, 4))
        ]
        expected = point_layer(p["layer"], h[0, one, rows], np.concatenate(heard, -1))
        np.testing.assert_allclose(found[one, rows], expected, atol=1e-12)
        assert not found[one, sizes[one] :].any()
