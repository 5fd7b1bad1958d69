"""The nearest points are those that scipy's tree finds, whatever the chunk, padding and batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy.spatial import cKDTree

from geojax.points.search import gather, in_chunks, interpolate, nearest, within

rng = np.random.default_rng(0)
QUERIES, POINTS = rng.normal(size=(23, 3)), rng.normal(size=(40, 3))


@pytest.mark.parametrize("chunk", [5, 100])
def test_nearest_agrees_with_a_tree(x64, chunk):
    found = nearest(jnp.asarray(QUERIES), jnp.asarray(POINTS), k=6, chunk=chunk)
    distance, index = cKDTree(POINTS).query(QUERIES, 6)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)
    assert found.mask.all() and (found.count == 40).all()


def test_within_agrees_with_a_tree_and_tells_of_more(x64):
    found = within(jnp.asarray(QUERIES), jnp.asarray(POINTS), radius=1.1, k=5)
    distance, index = cKDTree(POINTS).query(QUERIES, 5, distance_upper_bound=1.1)
    inside = np.isfinite(distance)
    counts = [len(row) for row in cKDTree(POINTS).query_ball_point(QUERIES, 1.1)]
    assert min(counts) < 5 < max(counts)
    np.testing.assert_array_equal(found.mask, inside)
    np.testing.assert_array_equal(found.count, counts)
    np.testing.assert_array_equal(found.index, np.where(inside, index, 0))
    np.testing.assert_allclose(found.distance, np.where(inside, distance, 0), rtol=1e-12)


def test_large_sets_are_searched_in_blocks_and_ties_go_by_the_list():
    queries, points = rng.integers(4, size=(30, 3)), rng.integers(4, size=(450, 3))
    found = nearest(jnp.asarray(queries, jnp.float32), jnp.asarray(points, jnp.float32), k=7)
    square = np.square(queries[:, None] - points).sum(-1)
    np.testing.assert_array_equal(found.index, np.argsort(square, 1, stable=True)[:, :7])
    assert (found.count == 450).all()


def test_features_of_any_dimension(x64):
    queries, points = rng.normal(size=(7, 20)), rng.normal(size=(30, 20))
    found = nearest(jnp.asarray(queries), jnp.asarray(points), k=3)
    distance, index = cKDTree(points).query(queries, 3)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)


def test_features_far_from_zero_are_told_apart_by_their_differences():
    """In float32, where products of such numbers know two digits of the distances; ties too."""
    points = (rng.normal(size=(600, 40)) + 300).astype(np.float32)
    points[5::100] = points[5]
    found = nearest(jnp.asarray(points[:90]), jnp.asarray(points), k=9, exclude_self=True, chunk=32)
    square = np.square(points[:90, None].astype(np.float64) - points).sum(-1)
    square[np.arange(90), np.arange(90)] = np.inf
    order = np.argsort(square, 1, stable=True)[:, :9]
    np.testing.assert_array_equal(found.index, order)
    np.testing.assert_array_equal(found.index[5, :5], [105, 205, 305, 405, 505])
    expected = np.sqrt(np.take_along_axis(square, order, 1))
    np.testing.assert_allclose(found.distance, expected, rtol=1e-4)
    few = nearest(jnp.asarray(points[:3]), jnp.asarray(points[:5]), k=9)
    assert (few.mask.sum(1) == 5).all() and (few.count == 5).all()


@pytest.mark.parametrize("other", [1e6, np.nan, np.inf])
def test_padding_does_not_move_the_mean_that_features_are_told_apart_by(other):
    points = rng.normal(size=(40, 33)).astype(np.float32)
    padded = np.concatenate([np.full((9, 33), other, np.float32), points])
    real = jnp.arange(49) >= 9
    found = nearest(jnp.asarray(points), jnp.asarray(padded), real, k=3)
    expected = nearest(jnp.asarray(points), jnp.asarray(points), k=3)
    np.testing.assert_array_equal(found.index - 9, expected.index)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(9, 49))
    np.testing.assert_allclose(found.distance, expected.distance, rtol=1e-4, atol=1e-6)
    assert found.mask.all()


def test_what_padding_holds_is_never_seen(x64):
    real, real_query = np.arange(50) >= 10, np.arange(30) < 23
    find = jax.jit(
        lambda q, x: nearest(
            q, x, jnp.asarray(real), k=45, query_mask=jnp.asarray(real_query), chunk=8
        )
    )
    slope = jax.grad(lambda x, q: find(q, x).distance.sum())
    found = []
    for other in (0.0, 1e9, np.nan):
        queries = np.concatenate([QUERIES, np.full((7, 3), other)])
        points = np.concatenate([np.full((10, 3), other), POINTS])
        with jax.debug_nans(False):
            found.append(find(jnp.asarray(queries), jnp.asarray(points)))
            gradient = slope(jnp.asarray(points), jnp.asarray(queries))
        assert jnp.isfinite(gradient).all() and not gradient[:10].any()
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)
    alone = nearest(jnp.asarray(QUERIES), jnp.asarray(POINTS), k=40)
    np.testing.assert_array_equal(found[0].index[:23, :40], alone.index + 10)
    np.testing.assert_array_equal(found[0].distance[:23, :40], alone.distance)
    assert not found[0].mask[23:].any() and not found[0].mask[:, 40:].any()
    assert not found[0].index[23:].any() and (found[0].count[:23] == 40).all()


def test_batches_are_clouds_one_by_one(x64):
    queries, points = (jnp.asarray(x[:20].reshape(2, 2, 5, 3)) for x in (QUERIES, POINTS))
    found = nearest(queries, points, k=2)
    for i, j in np.ndindex(2, 2):
        alone = nearest(queries[i, j], points[i, j], k=2)
        for together, one in zip(found, alone, strict=True):
            np.testing.assert_array_equal(together[i, j], one)


def test_a_point_is_not_its_own_neighbour_where_that_is_asked():
    x = jnp.asarray([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(nearest(x, x, k=2).index[:, 0], [0, 0, 2, 2, 4])
    found = nearest(x, x, k=2, exclude_self=True)
    np.testing.assert_array_equal(found.index, [[1, 2], [0, 2], [3, 0], [2, 0], [2, 3]])
    np.testing.assert_array_equal(found.count, 4)
    gradient = jax.grad(lambda x: nearest(x, x, k=2).distance.sum())(x)
    assert jnp.isfinite(gradient).all()


def test_distances_have_the_derivatives_of_the_norm(x64):
    def total(x):
        found = nearest(x, x, k=4, exclude_self=True)
        return found.distance.sum(), found.index

    slope, index = jax.jit(jax.grad(total, has_aux=True))(jnp.asarray(POINTS[:12]))
    expected = np.zeros((12, 3))
    for i, j in zip(np.arange(12).repeat(4), np.asarray(index).ravel(), strict=True):
        direction = (POINTS[j] - POINTS[i]) / np.linalg.norm(POINTS[j] - POINTS[i])
        expected[i] -= direction
        expected[j] += direction
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_translation_costs_no_digits():
    x = jnp.asarray(POINTS, jnp.float32).round(2)
    far = x + 4096  # the coordinates lose digits, the search nothing more
    moved = nearest(far, far, k=5)
    distance, _ = cKDTree(np.asarray(far, np.float64)).query(np.asarray(far, np.float64), 5)
    np.testing.assert_allclose(moved.distance, distance, rtol=1e-6)


def test_one_program_for_any_number_of_points():
    q, p = export.symbolic_shape("q, p")
    sets = [jax.ShapeDtypeStruct((n, 3), jnp.float32) for n in (q, p)]
    program = export.export(jax.jit(lambda x, y: nearest(x, y, k=3, chunk=4)))(*sets)
    for few in (2, 17):
        x, y = jnp.asarray(QUERIES[:few], jnp.float32), jnp.asarray(POINTS[:few], jnp.float32)
        jax.tree.map(np.testing.assert_array_equal, program.call(x, y), nearest(x, y, k=3))


def test_features_are_interpolated_by_inverse_squares(x64):
    x, f = jnp.asarray(POINTS), jnp.asarray(rng.normal(size=(40, 4)))
    queries = np.concatenate([QUERIES, POINTS])
    find = lambda queries, x: interpolate(f, within(jnp.asarray(queries), x, radius=100.0, k=3))
    found = find(queries, x)
    distance, index = cKDTree(POINTS).query(QUERIES, 3)
    weights = distance**-2 / (distance**-2).sum(1, keepdims=True)
    expected = np.einsum("qk,qkc->qc", weights, np.asarray(f)[index])
    np.testing.assert_allclose(found[:23], expected, rtol=1e-12)
    # exact at the points, the mean where two coincide, and zero without points
    np.testing.assert_array_equal(found[23:], f)
    np.testing.assert_allclose(find(queries, x.at[1].set(x[0]))[23], (f[0] + f[1]) / 2)
    assert not find(queries + 1000, x).any()


def test_interpolation_has_finite_derivatives_near_a_point():
    x = jnp.asarray([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]])
    f = jnp.arange(4.0)[:, None]
    value = lambda t: interpolate(f, nearest(jnp.stack([t, t * 0, t * 0])[None], x, k=3)).sum()
    slopes = jax.jit(lambda t: (value(t), jax.grad(value)(t), jax.grad(jax.grad(value))(t)))
    for apart in (0.0, 1e-30, 1e-7, 1e-3):
        found = slopes(apart)
        assert jnp.isfinite(jnp.stack(found)).all()
        assert jnp.abs(found[1]) < 0.01  # zero at the point


def test_chunks_are_put_together_again():
    x = jnp.arange(14.0).reshape(7, 2)
    double = lambda x, flag: {"double": 2 * x, "flag": ~flag}
    out = in_chunks(double, x, x[:, 0] > 3, chunk=3)
    np.testing.assert_array_equal(out["double"], 2 * x)
    np.testing.assert_array_equal(out["flag"], x[:, 0] <= 3)
    np.testing.assert_array_equal(gather(x, jnp.asarray([[6, 0]]))[0], x[jnp.asarray([6, 0])])


def test_bad_input_is_refused():
    x = jnp.zeros((4, 3))
    with pytest.raises(ValueError, match="at least one slot.*k=0"):
        nearest(x, x, k=0)
    with pytest.raises(ValueError, match="radius is a positive length; got -1"):
        within(x, x, radius=-1.0, k=2)
    with pytest.raises(ValueError, match="at least one point"):
        nearest(x, x[:0], k=2)
