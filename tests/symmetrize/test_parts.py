"""Frames of parts: one part is frame averaging, and parts that turn alone change nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.symmetrize import PCAFrames, part_frames, symmetrize, symmetrize_parts
from tests.symmetrize.clouds import HIDDEN, IN, OUT, SHIFT, cloud, graph_of, mlp, rotation

IRREPS = "2x0e+1o"
X = np.concatenate([cloud(5), cloud(6, seed=1) + np.array([5.0, 0, 0])])
HARD = np.eye(2)[[0] * 5 + [1] * 6]


def function(x, shares):
    """Of each point and the mean over points with a share; no symmetry."""
    h = jnp.tanh(x @ jnp.asarray(IN) + jnp.asarray(SHIFT))
    whole = shares @ jnp.tanh(h @ jnp.asarray(HIDDEN)) / jnp.sum(shares)
    whole = jnp.broadcast_to(whole[None], h.shape)
    return jnp.concatenate([h, whole], -1) @ jnp.asarray(OUT)


run = jax.jit(lambda x, shares, mask: symmetrize_parts(function, x, shares, IRREPS, mask))


def outputs(x, shares, mask=None):
    mask = np.ones(len(x), bool) if mask is None else mask
    return np.asarray(run(jnp.asarray(x), jnp.asarray(shares), jnp.asarray(mask)))


def moved(x, first, second):
    """Each part turned about a place of its own."""
    other = x @ first.T + np.array([1.0, 2, 3])
    other[5:11] = x[5:11] @ second.T - np.array([4.0, 0, 1])
    return other


def test_one_part_is_frame_averaging(x64):
    found = outputs(X[:5], np.ones((5, 1)))
    graph = graph_of(X[:5])
    expected = jax.jit(lambda g: symmetrize(mlp, g, PCAFrames("SE(3)")(g), IRREPS))(graph)
    np.testing.assert_allclose(found, expected[:5], atol=1e-12)


def test_parts_may_turn_alone(x64):
    """Exactly with a partition; with shares that are off by epsilon up to as much."""
    first, second = rotation(1), rotation(2)
    base, after = outputs(X, HARD), outputs(moved(X, first, second), HARD)
    np.testing.assert_allclose(after[:, :2], base[:, :2], atol=1e-10)
    np.testing.assert_allclose(after[:5, 2:], base[:5, 2:] @ first.T, atol=1e-10)
    np.testing.assert_allclose(after[5:, 2:], base[5:, 2:] @ second.T, atol=1e-10)
    noise = np.random.default_rng(0).uniform(size=(11, 1)) * np.array([1, -1]) * (1 - 2 * HARD)
    for epsilon in (1e-3, 1e-5):
        soft = HARD + epsilon * np.abs(noise) * (1 - 2 * HARD)
        off = outputs(moved(X, first, second), soft) - outputs(X, soft)
        assert 1e-3 * epsilon < np.abs(off[:, :2]).max() < 100 * epsilon


def test_masked_points_and_empty_parts_do_not_matter(x64):
    """Whatever the points hold; a part of one point, and of none, has frames and derivatives."""
    base = outputs(X, HARD)
    more = np.concatenate([X, [[7.0, 1, 2]]])
    shares = np.concatenate([HARD, [[0.5, 0.5]]])
    mask = np.array([True] * 11 + [False])
    np.testing.assert_allclose(outputs(more, shares, mask)[:11], base, atol=1e-12)
    assert not outputs(more, shares, mask)[11].any()
    alone = np.concatenate([np.eye(3)[[0] * 11], [[0, 1.0, 0]]])
    frames = jax.jit(lambda x, s: part_frames(x, s, detach=False))
    made = frames(jnp.asarray(more), jnp.asarray(alone))
    assert made.matrices.shape == (3, 4, 3, 3)
    np.testing.assert_allclose(np.linalg.det(made.matrices), 1, atol=1e-12)
    np.testing.assert_allclose(made.origins[1:], [[7.0, 1, 2], [0, 0, 0]])
    energy = lambda x: jnp.sum(frames(x, jnp.asarray(alone)).matrices ** 3)
    assert np.isfinite(jax.grad(energy)(jnp.asarray(more))).all()
