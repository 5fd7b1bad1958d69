"""Farthest points against the plain greedy form, voxels against numpy's unique rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from geojax.points.sampling import farthest_points, voxel_mean, voxels
from geojax.so3 import random_rotation

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))


def greedy(x, count, start):
    """Farthest points as they are defined, from the table of all distances."""
    table, chosen = cdist(x, x), [start]
    while len(chosen) < count:
        chosen.append(int(table[chosen].min(0).argmax()))
    return chosen


def test_farthest_points_are_the_greedy_choice(x64):
    start = int(np.linalg.norm(X - X.mean(0), axis=1).argmax())
    found = farthest_points(jnp.asarray(X), count=12)
    np.testing.assert_array_equal(found.index, greedy(X, 12, start))
    other = farthest_points(jnp.asarray(X), count=12, start=jnp.asarray(7))
    np.testing.assert_array_equal(other.index, greedy(X, 12, 7))
    # the others are nearer to the sample than its points are to each other
    chosen = X[np.asarray(found.index)]
    apart = np.sort(cdist(chosen, chosen), 1)[:, 1].min()
    assert cKDTree(chosen).query(X)[0].max() <= apart


def test_the_choice_turns_and_moves_with_the_cloud(x64, key):
    turn = np.asarray(random_rotation(key, dtype=jnp.float64, improper=True))
    order = rng.permutation(60)
    plain = farthest_points(jnp.asarray(X), count=20).index
    moved = farthest_points(jnp.asarray(X @ turn.T + 3), count=20).index
    np.testing.assert_array_equal(moved, plain)
    listed = farthest_points(jnp.asarray(X[order]), count=20).index
    np.testing.assert_array_equal(order[np.asarray(listed)], plain)


def test_padding_is_never_chosen_and_too_few_points_are_told():
    real = np.arange(70) % 7 > 0
    choose = jax.jit(lambda x: farthest_points(x, jnp.asarray(real), count=66))
    for other in (0.0, 1e9, np.nan):
        x = np.full((70, 3), other)
        x[real] = X
        found = choose(jnp.asarray(x, jnp.float32))
        alone = farthest_points(jnp.asarray(X, jnp.float32), count=60)
        rows = np.flatnonzero(real)
        np.testing.assert_array_equal(found.index[:60], rows[np.asarray(alone.index)])
        np.testing.assert_array_equal(np.sort(found.index[:60]), rows)
        np.testing.assert_array_equal(found.mask, np.arange(66) < 60)
        np.testing.assert_array_equal(found.index[60:], found.index[0])


def test_points_that_coincide_come_last_and_once():
    x = jnp.asarray([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 2, 0]])
    found = farthest_points(x, count=5)
    assert set(np.asarray(found.index[:3])) == {0, 2, 4} and found.mask.all()
    assert set(np.asarray(found.index)) == set(range(5))


def test_samples_of_a_batch_are_those_of_its_clouds():
    x = jnp.asarray(X.reshape(3, 20, 3), jnp.float32)
    found = farthest_points(x, count=5)
    for i in range(3):
        np.testing.assert_array_equal(found.index[i], farthest_points(x[i], count=5).index)


@pytest.mark.parametrize("origin", [None, (0.1, -0.2, 0.3)])
def test_voxels_are_the_unique_cells(x64, origin):
    start = X.min(0) if origin is None else np.array(origin)
    cells, index, counts = np.unique(
        np.floor((X - start) / 0.9).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    found = voxels(
        jnp.asarray(X), size=0.9, count=60, origin=None if origin is None else jnp.asarray(start)
    )
    np.testing.assert_array_equal(found.index, index.ravel())
    np.testing.assert_array_equal(found.count[: len(cells)], counts)
    np.testing.assert_array_equal(found.mask, np.arange(60) < len(cells))
    assert not found.overflow and not found.count[len(cells) :].any()
    means = voxel_mean(jnp.asarray(X), found)
    expected = [X[index.ravel() == i].mean(0) for i in range(len(cells))]
    np.testing.assert_allclose(means[: len(cells)], expected, atol=1e-14)
    assert not means[len(cells) :].any()


def test_voxels_do_not_depend_on_order_place_and_padding(x64):
    order, real = rng.permutation(60), np.arange(66) % 11 > 0
    plain = voxels(jnp.asarray(X), size=0.7, count=50)
    listed = voxels(jnp.asarray(X[order]), size=0.7, count=50)
    np.testing.assert_array_equal(listed.index, plain.index[order])
    moved = voxels(jnp.asarray(X + 8), size=0.7, count=50)
    np.testing.assert_array_equal(moved.index, plain.index)
    for other in (-1e9, np.nan):
        x = np.full((66, 3), other)
        x[real] = X
        padded = voxels(jnp.asarray(x), jnp.asarray(real), size=0.7, count=50)
        np.testing.assert_array_equal(padded.index[real], plain.index)
        np.testing.assert_array_equal(padded.count, plain.count)
        assert (padded.index[~real] == 50).all() and not padded.overflow
        np.testing.assert_allclose(
            voxel_mean(jnp.asarray(x), padded), voxel_mean(jnp.asarray(X), plain), atol=1e-14
        )


def test_too_many_cells_are_told():
    x = X.reshape(2, 30, 3) * np.array([1, 0.01])[:, None, None]
    put = lambda x, real: voxels(
        jnp.asarray(x, jnp.float32), jnp.asarray(np.full((2, 30), real)), size=0.7, count=10
    )
    found = put(x, True)
    np.testing.assert_array_equal(found.overflow, [True, False])
    assert (found.index[0] == 10).any() and found.mask[0].all()
    assert put(1e10 * x, True).overflow.all()
    nothing = put(x, False)
    assert not nothing.mask.any() and not nothing.overflow.any()


def test_means_have_the_derivatives_of_a_mean(x64):
    cells = voxels(jnp.asarray(X), size=1.0, count=40)
    gradient = jax.grad(lambda f: voxel_mean(f, cells)[:, 0].sum())(jnp.asarray(X))
    np.testing.assert_allclose(gradient[:, 0], 1 / np.asarray(cells.count)[cells.index])
    assert not gradient[:, 1:].any()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one point; got count=0"):
        farthest_points(jnp.zeros((4, 3)), count=0)
    with pytest.raises(ValueError, match="empty cloud"):
        farthest_points(jnp.zeros((0, 3)), count=2)
    with pytest.raises(ValueError, match="positive edge.*size=0"):
        voxels(jnp.zeros((4, 3)), size=0.0, count=3)
