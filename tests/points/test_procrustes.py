"""Procrustes: the right pose, the best one, always proper; masks, weights, finite derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.points.procrustes import (
    Pose,
    compose,
    fit_pose,
    fit_rotation,
    fit_similarity,
    inverse,
    move,
)

fit, similar, turn = (jax.jit(f) for f in (fit_pose, fit_similarity, fit_rotation))


def random_pose(seed: int, n: int = 3) -> Pose:
    rotation = Rotation.random(n, rng=seed).as_matrix()
    return Pose(jnp.asarray(rotation), jnp.asarray(np.random.default_rng(seed).normal(size=(n, 3))))


@pytest.fixture
def clouds(x64):
    """Three clouds of seven points, where each point should go, and weights."""
    x, y = np.random.default_rng(0).normal(size=(2, 3, 7, 3))
    return (
        jnp.asarray(x),
        jnp.asarray(y),
        jnp.asarray(np.random.default_rng(1).uniform(size=(3, 7))),
    )


def assert_same(one, two, atol=1e-12):
    jax.tree.map(partial(np.testing.assert_allclose, atol=atol), tuple(one), tuple(two))


def test_the_motion_that_was_made_is_found(clouds):
    x, _, w = clouds
    pose = random_pose(2)
    assert_same(fit(x, move(pose, x), w), pose, 1e-14)
    found, scale = similar(x, move(pose, 2.5 * x), w)
    assert_same((*found, scale), (*pose, np.full(3, 2.5)), 1e-13)
    turned = jnp.einsum("nij,npj->npi", pose.rotation, x)
    np.testing.assert_allclose(turn(x, turned, w), pose.rotation, atol=1e-14)


def test_the_best_pose_is_that_of_scipy_and_proper(clouds):
    """Also where a reflection would fit better, as for mirrored and for flat clouds."""
    x, y, w = clouds
    x, y, w = np.array(x), np.array(y), np.array(w)
    y[1], y[2] = x[1] * [1, 1, -1], x[2] * [1, 1, 0]
    pose = fit(x, y, w)
    np.testing.assert_allclose(np.linalg.det(pose.rotation), 1, atol=1e-14)
    for i in range(3):
        means = [np.average(a[i], axis=0, weights=w[i]) for a in (x, y)]
        best, _ = Rotation.align_vectors(y[i] - means[1], x[i] - means[0], weights=w[i])
        np.testing.assert_allclose(pose.rotation[i], best.as_matrix(), atol=1e-12)
        np.testing.assert_allclose(pose.translation[i], means[1] - best.apply(means[0]), atol=1e-12)


def test_the_best_scale_is_a_minimum(clouds):
    x, y, w = clouds

    @jax.jit
    def slope(x, y, w):
        """Of the error, at the pose and scale found; the rotation by a turn from the left."""
        pose, scale = fit_similarity(x, y, w)

        def error(scale, shift, spin):
            moved = move(Pose(pose.rotation, pose.translation + shift), scale[:, None, None] * x)
            turned = moved + jnp.cross(jnp.broadcast_to(spin[:, None], x.shape), moved)
            return jnp.sum(w[..., None] * jnp.square(turned - y))

        return jax.grad(error, (0, 1, 2))(scale, jnp.zeros((3, 3)), jnp.zeros((3, 3)))

    for part in slope(x, y, w):
        np.testing.assert_allclose(part, 0, atol=1e-12)


def test_poses_move_with_the_clouds(clouds):
    """Clouds that are moved, listed in another order or weighted tenfold change nothing else."""
    x, y, w = clouds
    one, two, pose = random_pose(3), random_pose(4), fit(x, y, w)
    expected = compose(two, compose(pose, inverse(one)))
    assert_same(fit(move(one, x), move(two, y), w), expected)
    order = np.array([3, 1, 6, 0, 2, 5, 4])
    assert_same(fit(x[:, order], y[:, order], 10 * w[:, order]), pose)
    x0 = move(inverse(one), move(one, x))
    np.testing.assert_allclose(x0, x, atol=1e-14)


def test_padding_does_not_matter(clouds):
    x, y, w = clouds
    mask = jnp.arange(9) < 7
    masks = jnp.broadcast_to(mask, (3, 9))
    for filler in (0.0, 1e30, float("nan")):
        pad = lambda a, filler=filler: np.concatenate([a, np.full_like(a[:, :2], filler)], 1)
        found = fit(pad(x), pad(y), pad(w), masks)
        assert_same(found, fit(x, y, w), 1e-13)
    assert_same(fit(x, y, 3 * jnp.ones_like(w)), fit(x, y), 1e-13)


def test_derivatives_are_finite_where_nothing_is_determined(x64):
    """One place, a line, no weight, a perfect fit of a cube (equal singular values)."""
    cube = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    line = np.arange(8)[:, None] * np.array([1.0, 2, 3])
    x = jnp.asarray([cube, line, np.ones((8, 3)), cube])
    w = jnp.asarray([1.0, 1, 1, 0])[:, None] * jnp.ones((4, 8))

    def value(x, y, w):
        pose, scale = fit_similarity(x, y, w)
        return jnp.sum(jnp.sin(pose.rotation)) + jnp.sum(pose.translation) + jnp.sum(scale), pose

    gradients, pose = jax.jit(jax.grad(value, (0, 1, 2), has_aux=True))(x, x, w)
    assert all(np.isfinite(g).all() for g in gradients)
    np.testing.assert_allclose(np.linalg.det(pose.rotation), 1, atol=1e-13)
    np.testing.assert_allclose(pose.rotation[0], np.eye(3), atol=1e-14)
    np.testing.assert_array_equal(pose.rotation[2:], np.stack([np.eye(3)] * 2))


def test_derivative_at_a_perfect_fit(x64):
    """A cube has three equal singular values; the derivative is that of differences."""
    cube = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    along = np.random.default_rng(5).normal(size=(8, 3))
    slope = jax.jit(lambda y, d: jax.jvp(lambda y: fit_pose(jnp.asarray(cube), y), (y,), (d,))[1])
    step = 1e-5
    plus, minus = fit(cube, cube + step * along), fit(cube, cube - step * along)
    expected = jax.tree.map(lambda a, b: (a - b) / (2 * step), plus, minus)
    assert_same(slope(cube, along), expected, 1e-8)


def test_dtype_follows():
    x = jnp.asarray(np.random.default_rng(6).normal(size=(5, 3)), "float32")
    assert {a.dtype for a in fit(x, x)} == {np.dtype("float32")}


def test_refuses_clouds_of_different_shapes(x64):
    with pytest.raises(ValueError, match=r"has its target point; got shapes \(4, 2\) and \(4, 2\)"):
        fit_pose.__wrapped__(jnp.ones((4, 2)), jnp.ones((4, 2)))
