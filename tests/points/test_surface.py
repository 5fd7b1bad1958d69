"""The 14 surface features against a plain form in numpy, and what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points.surface import cycle, surface_features
from geojax.so3 import random_rotation

rng = np.random.default_rng(0)


def units(*shape):
    x = rng.normal(size=(*shape, 3))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


X, M, N = rng.normal(size=(4, 8, 3)), units(4, 8), units(4)


def hat(x):
    return x / np.linalg.norm(x)


def plain_order(x, n):
    """The released key, with the reference where it belongs: clockwise from it."""
    flat = x - (x @ n)[:, None] * n
    flat /= (lengths := np.linalg.norm(flat, axis=1))[:, None]
    first = lengths.argmax()
    cosine, side = flat @ flat[first], np.cross(flat, flat[first]) @ n
    key = np.where(side > 0, cosine, -cosine - 2)
    key[first] = 1
    return np.argsort(-key)


def plain_features(x, m, n, step=1):
    """The rows of one patch, as the authors list them, from vectors and normals in a cycle."""
    order, rows = plain_order(x, n), np.zeros((len(x), 14))
    for place, i in enumerate(order):
        b, a = order[place - step], order[(place + step) % len(order)]
        u, u0, u1 = hat(x[i]), hat(x[b]), hat(x[a])
        rows[i] = [
            *(np.linalg.norm(x[i]), u @ n, -u @ m[i], u @ u0, u0 @ n, -u0 @ m[b]),
            *(u0 @ hat(x[b] - x[i]), -hat(x[i] - x[b]) @ m[i], hat(x[i] - x[b]) @ m[b]),
            *(u1 @ u, u1 @ hat(x[a] - x[i]), hat(x[a] - x[i]) @ m[a], u @ m[a]),
            np.cross(u1, u) @ np.cross(u0, u),
        ]
    return rows


@pytest.mark.parametrize("step", [1, 2])
def test_features_are_those_of_the_plain_form(x64, step):
    found = surface_features(jnp.asarray(X), jnp.asarray(M), jnp.asarray(N), step=step)
    expected = [plain_features(*patch, step) for patch in zip(X, M, N, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_cycle_is_clockwise_and_closed(x64):
    before, after = map(np.asarray, cycle(jnp.asarray(X), jnp.asarray(N)))
    for patch in range(4):
        order = plain_order(X[patch], N[patch])
        np.testing.assert_array_equal(after[patch][order], np.roll(order, -1))
        np.testing.assert_array_equal(before[patch][after[patch]], np.arange(8))
    square = jnp.asarray([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    up = jnp.asarray([0.0, 0, 1])
    np.testing.assert_array_equal(cycle(square, up)[1], [3, 0, 1, 2])
    np.testing.assert_array_equal(cycle(square, -up)[1], [1, 2, 3, 0])


def test_features_are_invariant_to_rotations_and_order_but_not_to_reflections(x64, key):
    plain = np.asarray(surface_features(*map(jnp.asarray, (X, M, N))))
    turn = np.asarray(random_rotation(key, dtype=jnp.float64))
    turned = [jnp.asarray(x @ turn.T) for x in (X, M, N)]
    np.testing.assert_allclose(surface_features(*turned), plain, atol=1e-10)
    order = rng.permutation(8)
    listed = surface_features(*map(jnp.asarray, (X[:, order], M[:, order], N)))
    np.testing.assert_allclose(listed, plain[:, order], atol=1e-12)
    mirrored = surface_features(*(jnp.asarray(-x) for x in (X, M, N)))
    assert jnp.abs(mirrored - plain).max() > 0.1


SQUARE = np.stack(np.meshgrid(*[np.arange(5.0) - 2] * 2, [0.0]), -1).reshape(25, 3)


def test_ties_on_a_grid_are_broken_alike_in_every_position(x64, key):
    """Many directions, longest projections and angles are equal, and the centre is listed."""
    m, n, real = units(25), np.array([0.0, 0, 1]), rng.random(25) < 0.8
    plain = np.asarray(surface_features(*map(jnp.asarray, (SQUARE, m, n, real))))
    for turn in np.asarray(random_rotation(key, (8,), dtype=jnp.float64)):
        order = rng.permutation(25)
        x = [jnp.asarray(x @ turn.T) for x in (SQUARE[order], m[order], n)]
        found = surface_features(*x, jnp.asarray(real[order]))
        np.testing.assert_allclose(found, plain[order], atol=1e-10)


def test_the_centre_stays_out_of_the_cycle(x64):
    listed = X.copy()
    listed[:, 0], listed[:, 1] = 0, 2 * N  # and so does a point right above it
    found = np.asarray(surface_features(*map(jnp.asarray, (listed, M, N))))
    for i in range(4):
        np.testing.assert_allclose(
            found[i, 2:], plain_features(X[i, 2:], M[i, 2:], N[i]), atol=1e-12
        )
        cosine = M[i, 1] @ N[i]
        above = [2, 1, -cosine, 1, 1, -cosine, 0, 0, 0, 1, 0, 0, cosine, 0]
        np.testing.assert_allclose(found[i, 1], above, atol=1e-12)
    assert not found[:, 0].any()


def test_what_padding_holds_is_never_seen(x64):
    kept = np.arange(8) % 3 > 0
    mask = jnp.asarray(kept[None].repeat(4, 0))
    alone = [plain_features(x[kept], m[kept], n) for x, m, n in zip(X, M, N, strict=True)]
    for other in (0.0, 1e9, np.nan):
        x, m = (jnp.asarray(np.where(kept[:, None], y, other)) for y in (X, M))
        found = np.asarray(surface_features(x, m, jnp.asarray(N), mask))
        np.testing.assert_allclose(found[:, kept], alone, atol=1e-12)
        assert not found[:, ~kept].any()
    nothing = surface_features(x, m, jnp.asarray(N), jnp.zeros((4, 8), bool))
    assert not nothing.any()


@pytest.mark.slow
def test_degenerate_patches_have_finite_derivatives():
    patches = np.stack([np.zeros((5, 3)), np.ones((5, 3)), SQUARE[10:15]])
    inputs = [jnp.asarray(y, jnp.float32) for y in (patches, units(3, 5), units(3))]
    weights = rng.normal(size=(3, 5, 14)).astype(np.float32)
    total = lambda inputs: (surface_features(*inputs) * weights).sum()
    slopes = jax.jit(jax.grad(total))(inputs)
    assert all(jnp.isfinite(slope).all() and slope.any() for slope in slopes)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one place or more; got step=0"):
        cycle(jnp.zeros((4, 3)), jnp.zeros(3), step=0)
