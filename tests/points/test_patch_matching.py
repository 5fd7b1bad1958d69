"""Superpoints, patches, assignments within them and the pose, on features that identify points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import softmax

from geojax.points.matching import Matches
from geojax.points.patch_matching import (
    Patches,
    feature_scores,
    local_to_global,
    match_patches,
    match_superpoints,
    patch_mean,
    patches,
    register_by_patches,
)

POINTS, CENTRES, WIDTH = 120, 12, 24
RNG = np.random.default_rng(0)
X = RNG.normal(size=(POINTS, 3))
TURN, SHIFT = Rotation.random(rng=np.random.default_rng(1)).as_matrix(), np.array([1.0, 2.0, -3.0])


def waves(x: np.ndarray) -> np.ndarray:
    """Features of a place: near points have similar ones, each point its own."""
    phase = x @ np.random.default_rng(2).normal(size=(3, WIDTH // 2))
    return 5 * np.concatenate([np.sin(phase), np.cos(phase)], 1)


def moved(x):
    return x @ TURN.T + SHIFT


def padded(x, rows=POINTS + 5):
    return np.pad(x, [(0, rows - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=np.nan)


def pairs_in(matches, pair, kept):
    """Rows of the source and the target, of one pair of patches."""
    rows, columns = (a[pair][kept].tolist() for a in (matches.source, matches.target))
    return list(zip(rows, columns, strict=True))


def patches_by_hand(x, centres, size):
    gap = np.linalg.norm(x[:, None] - centres[None], axis=-1)
    owner = gap.argmin(1)
    found = []
    for c in range(len(centres)):
        mine = np.flatnonzero(owner == c)
        found.append(mine[gap[mine, c].argsort()][:size])
    return found


@pytest.mark.parametrize("size", [6, 64])
def test_patches(x64, size):
    """Each point is in the patch of its nearest centre, or in none where that is full."""
    centres = padded(X[:CENTRES], CENTRES + 1)
    made = partial(patches, size=size)
    found = jax.jit(made)(
        padded(X), centres, jnp.arange(POINTS + 5) < POINTS, jnp.arange(CENTRES + 1) < CENTRES
    )
    expected = patches_by_hand(X, X[:CENTRES], size)
    for c, rows in enumerate(expected):
        assert found.mask[c].sum() == len(rows) and found.mask[c][: len(rows)].all()
        np.testing.assert_array_equal(found.index[c][: len(rows)], rows)
    assert not found.mask[CENTRES].any()
    total = sum(map(len, expected))
    assert total == POINTS if size == 64 else total < POINTS
    means = jax.jit(patch_mean)(padded(waves(X)), found)
    np.testing.assert_allclose(means[3], waves(X)[expected[3]].mean(0), atol=1e-12)
    assert not means[CENTRES].any()


def test_superpoints_by_hand(x64):
    f, g = np.random.default_rng(3).normal(size=(2, 7, 5))
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    logits = 2 * unit(f[:6]) @ unit(g).T - 2
    scores = softmax(logits, 0) * softmax(logits, 1)
    found = jax.jit(partial(match_superpoints, count=9))(f, g, jnp.arange(7) < 6)
    best = np.sort(scores.ravel())[::-1][:9]
    np.testing.assert_allclose(found.score, best, atol=1e-14)
    np.testing.assert_allclose(scores[found.source, found.target], best, atol=1e-14)


def test_scores(x64):
    f, g = np.random.default_rng(4).normal(size=(2, 3, 4, 9))
    np.testing.assert_allclose(
        jax.jit(feature_scores)(f, g), f @ g.transpose(0, 2, 1) / 3, atol=1e-14
    )


def test_matches_in_patches_by_hand(x64):
    """The plain scaling of rows and columns; the k best of both; no slot that is empty."""
    rng = np.random.default_rng(5)
    f, g = rng.normal(size=(10, 4)), rng.normal(size=(9, 4))
    f[:4] = g[:4] = 3 * np.eye(4)
    of = Patches(jnp.asarray([[7, 8, 9], [0, 2, 5]]), jnp.asarray([[True] * 3, [True] * 3]))
    to = Patches(
        jnp.asarray([[2, 4, 0, 6], [8, 1, 3, 0]]), jnp.asarray([[True] * 3 + [False], [True] * 4])
    )
    pairs = Matches(
        jnp.asarray([1, 0, 0]),
        jnp.asarray([0, 1, 0]),
        jnp.ones(3),
        jnp.asarray([True, True, False]),
    )
    run = partial(match_patches, k=1, threshold=0.05, iterations=300)
    found = jax.jit(run)(f, g, of, to, pairs, jnp.asarray(0.4))
    assert found.mask.shape == (3, 3) and not found.mask[2].any()
    for pair, (rows, columns) in enumerate((([0, 2, 5], [2, 4, 0]), ([7, 8, 9], [8, 1, 3, 0]))):
        plain = np.exp(np.pad(f[rows] @ g[columns].T / 2, (0, 1), constant_values=0.4))
        mass = (
            np.append(np.ones(len(rows)), len(columns)),
            np.append(np.ones(len(columns)), len(rows)),
        )
        for _ in range(600):
            plain *= (mass[0] / plain.sum(1))[:, None]
            plain *= mass[1] / plain.sum(0)
        plain = plain[:-1, :-1]
        expected = {
            (rows[i], columns[j]): plain[i, j]
            for i in range(len(rows))
            for j in range(len(columns))
            if plain[i, j] == plain[i].max() == plain[:, j].max() > 0.05
        }
        kept = np.asarray(found.mask[pair])
        names = pairs_in(found, pair, kept)
        found_here = dict(zip(names, found.score[pair][kept].tolist(), strict=True))
        assert found_here == pytest.approx(expected, abs=1e-9)
    assert {(0, 0), (2, 2)} <= set(pairs_in(found, 0, slice(None)))


def test_registration_of_clouds_that_overlap_in_part(x64):
    """Both ways at once, with padding: exact."""
    height = (X @ [0.5, -0.7, 0.4]).argsort().argsort() / POINTS
    here, there = height < 0.7, height > 0.3
    clouds, features = (X[here], moved(X)[there]), (waves(X)[here], waves(X)[there])
    x, f = np.stack([padded(c) for c in clouds]), np.stack([padded(c) for c in features])
    mask = jnp.asarray(np.isfinite(x[..., 0]))
    found = register_by_patches(
        x, x[::-1], f, f[::-1], mask, mask[::-1],
        radius=0.05, superpoints=CENTRES, size=32, pairs=30, dustbin=55.0,
    )  # fmt: skip
    np.testing.assert_allclose(found.pose.rotation[0], TURN, atol=1e-10)
    np.testing.assert_allclose(found.pose.translation[0], SHIFT, atol=1e-10)
    np.testing.assert_allclose(found.pose.rotation[1], TURN.T, atol=1e-10)
    assert 20 < found.inliers[0].sum() <= (here & there).sum()


def test_local_to_global_outvotes_wrong_patches(x64):
    """One pair of patches in four is right; weights and masks count."""
    rng = np.random.default_rng(6)
    source = rng.integers(0, POINTS, (4, 8))
    target = np.where(np.arange(4)[:, None] == 2, source, rng.integers(0, POINTS, (4, 8)))
    mask = np.ones((4, 8), bool)
    mask[2, 5:], target[2, 5:] = False, 0
    matches = Matches(
        jnp.asarray(source), jnp.asarray(target), jnp.asarray(rng.uniform(size=(4, 8))),
        jnp.asarray(mask),
    )  # fmt: skip
    run = jax.jit(partial(local_to_global, radius=0.02))
    found = run(X, moved(X), matches)
    np.testing.assert_allclose(found.pose.rotation, TURN, atol=1e-10)
    right = (source == target) & mask
    np.testing.assert_array_equal(found.inliers, right.ravel())
    few = matches._replace(mask=jnp.asarray(mask & (np.arange(8) < 2)))
    assert not run(X, moved(X), few).inliers.any()  # two matches make no pose


@pytest.mark.slow
def test_derivatives_of_matches_are_finite(x64):
    """Of probabilities and of the pose, by the features; also where features are all equal."""
    centres = jnp.asarray(X[:4])
    of = patches(jnp.asarray(X[:20]), centres, size=8)
    pairs = Matches(jnp.arange(4), jnp.arange(4), jnp.ones(4), jnp.ones(4, bool))
    y = jnp.asarray(moved(X[:20]) + 0.01 * X[20:40])

    def value(f):
        found = match_patches(
            f, jnp.asarray(waves(X[:20])), of, of, pairs, jnp.asarray(1.0), iterations=2
        )
        pose = local_to_global(jnp.asarray(X[:20]), y, found, radius=1.0).pose
        return jnp.sum(jnp.where(found.mask, found.score, 0)) + jnp.sum(pose.rotation**3)

    slope = jax.jit(jax.grad(value))
    assert np.abs(slope(0.1 * waves(X[:20]))).max() > 1e-6
    assert np.isfinite(slope(jnp.zeros((20, WIDTH)))).all()


def test_bad_sizes_are_refused(x64):
    with pytest.raises(ValueError, match="room for one point or more; got size=0"):
        patches(jnp.asarray(X), jnp.asarray(X[:3]), size=0)
