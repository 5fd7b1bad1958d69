"""Matching: dual softmax, transport with a dustbin, mutual best pairs; masks and derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from geojax.points.matching import (
    LOG_ZERO,
    best_matches,
    dual_softmax,
    log_sinkhorn,
    mutual_nearest,
    mutual_top_k,
)

SOURCES, TARGETS = 4, 6


@pytest.fixture
def logits(x64):
    return 2 * np.random.default_rng(0).normal(size=(2, SOURCES, TARGETS))


def padded(scores, filler=np.nan):
    """Two rows and a column more, of no meaning, and the masks of what is real."""
    wide = np.pad(scores, ((0, 0), (0, 2), (0, 1)), constant_values=filler)
    rows = np.broadcast_to(np.arange(SOURCES + 2) < SOURCES, (2, SOURCES + 2))
    columns = np.broadcast_to(np.arange(TARGETS + 1) < TARGETS, (2, TARGETS + 1))
    return wide, jnp.asarray(rows), jnp.asarray(columns)


transport = jax.jit(partial(log_sinkhorn, iterations=200))
dual = jax.jit(dual_softmax)
top_two = jax.jit(partial(mutual_top_k, k=2, threshold=0.5))


def test_dual_softmax(logits):
    expected = softmax(logits, -1) * softmax(logits, -2)
    np.testing.assert_allclose(dual(logits), expected, atol=1e-15)
    found = np.asarray(dual(*padded(logits)))
    np.testing.assert_allclose(found[:, :SOURCES, :TARGETS], expected, atol=1e-15)
    assert not found[:, SOURCES:].any() and not found[:, :, TARGETS:].any()


def test_dual_softmax_normalises_gaussians_of_unit_features(x64):
    f, g = np.random.default_rng(1).normal(size=(2, 5, 8))
    f, g = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (f, g))
    similar = np.exp(-np.sum((f[:, None] - g[None]) ** 2, -1))
    expected = similar / similar.sum(0) * similar / similar.sum(1)[:, None]
    np.testing.assert_allclose(dual(2 * f @ g.T - 2), expected, atol=1e-15)


def test_rows_and_columns_of_an_assignment(logits):
    """Of the points they sum to one, of the dustbins to the number of points on the other side."""
    found = np.exp(transport(logits, jnp.asarray(0.3)))
    assert found.shape == (2, SOURCES + 1, TARGETS + 1)
    rows, columns = [1.0] * SOURCES + [TARGETS], [1.0] * TARGETS + [SOURCES]
    np.testing.assert_allclose(found.sum(1), [columns] * 2, atol=1e-13)
    np.testing.assert_allclose(found.sum(2), [rows] * 2, atol=1e-12)
    # Plain, not logarithmic: rows and columns scaled in turn.
    for one, scores in zip(found, logits, strict=True):
        plain = np.exp(np.pad(scores, (0, 1), constant_values=0.3))
        for _ in range(500):
            plain *= (np.array(rows) / plain.sum(1))[:, None]
            plain *= np.array(columns) / plain.sum(0)
        np.testing.assert_allclose(one, plain, atol=1e-12)


def test_the_dustbin_decides_who_stays_alone(x64):
    scores = 8 * jnp.eye(3)
    alone = np.exp(transport(scores, jnp.asarray(40.0)))[:3, :3]
    paired = np.exp(transport(scores, jnp.asarray(-4.0)))[:3, :3]
    assert alone.max() < 1e-10
    assert np.diag(paired).min() > 0.99


def test_assignment_with_masks(logits):
    """As without the points that are not real, whatever their scores; also with none real."""
    constant = jnp.asarray(0.3)
    expected = np.asarray(transport(logits, constant))
    wide, rows, columns = padded(logits)
    found = np.asarray(transport(wide, constant, rows, columns))
    real = np.ix_([0, 1], [*range(SOURCES), -1], [*range(TARGETS), -1])
    np.testing.assert_allclose(found[real], expected, atol=1e-12)
    assert np.all(found[:, SOURCES:-1] == LOG_ZERO) and np.all(found[:, :, TARGETS:-1] == LOG_ZERO)
    empty = np.exp(transport(wide, constant, rows, jnp.zeros_like(columns)))
    np.testing.assert_allclose(empty[:, :SOURCES, -1], 1, atol=1e-12)
    np.testing.assert_allclose(empty.sum((1, 2)), SOURCES, atol=1e-12)


def test_order_does_not_matter(logits):
    rows, columns = np.array([2, 0, 3, 1]), np.array([5, 0, 4, 1, 3, 2])
    mixed = logits[:, rows][:, :, columns]
    one, two = transport(logits, jnp.asarray(0.3)), transport(mixed, jnp.asarray(0.3))
    np.testing.assert_allclose(two[:, :-1, :-1], one[:, rows][:, :, columns], atol=1e-12)
    kept = np.asarray(top_two(np.round(logits)))  # with many equal scores
    np.testing.assert_array_equal(top_two(np.round(mixed)), kept[:, rows][:, :, columns])


def test_derivatives_of_an_assignment(logits):
    """Those of differences, in the scores and the dustbin; finite and zero at what is not real."""
    wide, rows, columns = padded(logits, filler=7.0)

    def value(scores, constant):
        log = log_sinkhorn(scores, constant, rows, columns, iterations=20)
        both = dual_softmax(scores, rows, columns)
        weights = jnp.cos(jnp.arange(both.size)).reshape(both.shape)
        return jnp.sum(jnp.where(log > LOG_ZERO, log, 0)[:, :-1, :-1] * weights + both * weights)

    value_and_grad = jax.jit(jax.value_and_grad(value, (0, 1)))
    constant = jnp.asarray(0.3)
    _, (slope, of_dustbin) = value_and_grad(wide, constant)
    assert np.all(np.asarray(slope)[:, SOURCES:] == 0) and np.all(slope[:, :, TARGETS:] == 0)
    along, step = np.random.default_rng(2).normal(size=wide.shape), 1e-5
    ends = [value_and_grad(wide + s * along, constant + s)[0] for s in (step, -step)]
    expected = float(ends[0] - ends[1]) / (2 * step)
    assert float(np.sum(slope * along) + of_dustbin) == pytest.approx(expected, rel=1e-7)


def test_mutual_top_k(logits):
    found = np.asarray(top_two(logits))
    for one, scores in zip(found, logits, strict=True):
        by_row = np.argsort(np.argsort(-scores, 1), 1) < 2
        by_column = np.argsort(np.argsort(-scores, 0), 0) < 2
        np.testing.assert_array_equal(one, by_row & by_column & (scores > 0.5))
    wide, rows, columns = padded(logits, filler=100.0)
    masked = np.asarray(top_two(wide, rows, columns))
    np.testing.assert_array_equal(masked[:, :SOURCES, :TARGETS], found)
    assert masked.sum() == found.sum() > 0
    assert np.all(jax.jit(partial(mutual_top_k, k=9, threshold=-100.0))(logits))


def test_best_matches(logits):
    found = jax.jit(partial(best_matches, count=30))(logits, logits > 1)
    for i, scores in enumerate(logits):
        number = int(np.sum(scores > 1))
        assert number == np.sum(found.mask[i]) and np.all(found.mask[i][:number])
        expected = np.sort(scores[scores > 1])[::-1]
        np.testing.assert_array_equal(found.score[i][:number], expected)
        rows, columns = found.source[i][:number], found.target[i][:number]
        np.testing.assert_array_equal(scores[rows, columns], expected)
    assert np.max(found.source) < SOURCES and np.max(found.target) < TARGETS


def test_mutual_nearest(x64):
    rng = np.random.default_rng(3)
    f, g = rng.normal(size=(9, 5)), rng.normal(size=(12, 5))
    distance = np.linalg.norm(f[:, None] - g[None], axis=-1)
    near = distance.argmin(1)
    mutual = distance.argmin(0)[near] == np.arange(9)
    pad = lambda x: np.pad(x, ((0, 3), (0, 0)), constant_values=np.nan)
    masks = jnp.arange(12) < 9, jnp.arange(15) < 12
    found = jax.jit(mutual_nearest)(pad(f), pad(g), *masks)
    assert 0 < mutual.sum() < 9
    np.testing.assert_array_equal(found.source, np.arange(12))
    np.testing.assert_array_equal(found.target[:9], near)
    np.testing.assert_array_equal(found.mask, np.append(mutual, [False] * 3))
    np.testing.assert_allclose(found.score[:9], -distance.min(1), atol=1e-14)


def test_refuses_bad_counts(logits):
    scores = jnp.asarray(logits)
    with pytest.raises(ValueError, match="one iteration or more; got 0"):
        log_sinkhorn(scores, jnp.asarray(0.3), iterations=0)
    with pytest.raises(ValueError, match="got k=0"):
        mutual_top_k(scores, k=0)
    with pytest.raises(ValueError, match="got count=0"):
        best_matches(scores, count=0)
