"""Normals against numpy's and Open3D's, their sides, and their derivatives where there are none."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points.normals import estimate_normals, orient, plane
from geojax.points.search import nearest, within
from geojax.so3 import random_rotation

rng = np.random.default_rng(0)
PATCHES = rng.normal(size=(6, 9, 3)) * [1.0, 0.7, 0.3]
SPHERE = rng.normal(size=(60, 3))
SPHERE /= np.linalg.norm(SPHERE, axis=1, keepdims=True)


def numpy_plane(x, weights):
    """Smallest eigenvector and its share of the eigenvalues, of one patch."""
    mean = np.average(x, axis=0, weights=weights)
    values, vectors = np.linalg.eigh(np.cov(x.T, aweights=weights, ddof=0))
    assert np.allclose(mean, (weights @ x) / weights.sum())
    return vectors[:, 0], values[0] / values.sum()


def test_planes_are_those_of_numpy(x64):
    weights = rng.uniform(0.1, 1, size=(6, 9))
    mask = np.arange(9) < 7
    found = plane(
        jnp.asarray(PATCHES), jnp.broadcast_to(mask, (6, 9)), weights=jnp.asarray(weights)
    )
    for i in range(6):
        normal, curvature = numpy_plane(PATCHES[i, :7], weights[i, :7])
        np.testing.assert_allclose(abs(found.normals[i] @ normal), 1, rtol=1e-12)
        np.testing.assert_allclose(found.curvature[i], curvature, rtol=1e-10)
    assert found.mask.all()
    about_origin = plane(jnp.asarray(PATCHES), centered=False)
    vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", PATCHES, PATCHES))[1][..., 0]
    np.testing.assert_allclose(abs((about_origin.normals * vectors).sum(-1)), 1, rtol=1e-12)


def test_normals_are_open3d_s(x64):
    """See test_fpfh.py for the file; there 12 nearest points within 0.6, each point included."""
    golden = json.loads((Path(__file__).parent / "open3d.json").read_text())
    x = jnp.asarray(golden["positions"])
    found = estimate_normals(x, within(x, x, radius=0.6, k=12), viewpoint=jnp.ones(3))
    expected, mask = np.array(golden["estimated_normals"]), np.asarray(found.mask)
    assert set(np.flatnonzero(~mask)) == {2, 10, 13}  # two points alone, and one in a pair
    np.testing.assert_allclose(abs((found.normals * expected).sum(-1)), mask, atol=1e-8)


@jax.jit
def estimate(x, eye):
    """Normals on both sides: away from the centroid, and towards an eye."""
    neighbors = nearest(x, x, k=8)
    return estimate_normals(x, neighbors), estimate_normals(x, neighbors, viewpoint=eye)


@pytest.mark.parametrize("improper", [False, True])
def test_normals_turn_with_the_cloud(x64, key, improper):
    turn = np.asarray(random_rotation(key, dtype=jnp.float64, improper=improper))
    eye, x = np.array([3.0, -2.0, 1.0]), SPHERE + 0.03 * rng.normal(size=SPHERE.shape)
    before, after = (
        estimate(jnp.asarray(x), jnp.asarray(eye))
        for x, eye in ((x, eye), (x @ turn.T + 5, turn @ eye + 5))
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other.normals, np.asarray(one.normals) @ turn.T, atol=1e-10)
        np.testing.assert_allclose(other.curvature, one.curvature, atol=1e-10)
        assert one.mask.all() and other.mask.all()
    outwards, seen = (np.asarray(found.normals) for found in before)
    assert ((outwards * SPHERE).sum(-1) > 0).all()
    assert ((seen * (eye - x)).sum(-1) > 0).all()


def test_what_padding_holds_is_never_seen(x64):
    mask = np.arange(66) < 60
    padded = jax.jit(
        lambda x, real: estimate_normals(x, nearest(x, x, real, k=8, query_mask=real), real)
    )
    alone = estimate(jnp.asarray(SPHERE), jnp.ones(3))[0]
    for other in (0.0, 1e9):
        x = np.concatenate([SPHERE, np.full((6, 3), other)])
        found = padded(jnp.asarray(x), jnp.asarray(mask))
        np.testing.assert_allclose(found.normals[:60], alone.normals, atol=1e-12)
        assert not found.normals[60:].any() and not found.mask[60:].any()


def numbers(x):
    """Normal and curvature of a patch, as one array."""
    found = plane(x)
    return jnp.append(found.normals, found.curvature)


SLOPES = jax.jit(lambda x: (jax.jacrev(numbers)(x), jax.jacfwd(jax.jacrev(numbers))(x)))
GRID = np.stack(np.meshgrid(*[np.arange(3.0) - 1] * 2, [0.0]), -1).reshape(9, 3)


@pytest.mark.parametrize(
    ("patch", "determined"),
    [
        (GRID, True),  # round in its plane: two eigenvalues are equal
        (np.zeros((9, 3)), False),
        (GRID * [1, 0, 0], False),  # a line
        (np.concatenate([np.eye(3), -np.eye(3), np.zeros((3, 3))]), False),  # alike everywhere
        (GRID[:2].repeat([1, 8], 0), False),  # two points
        (GRID * 1e-25, True),
        (GRID * 1e18, True),
    ],
)
def test_degenerate_patches_are_told_and_have_finite_derivatives(patch, determined):
    x = jnp.asarray(patch, jnp.float32)
    found = plane(x)
    assert found.mask == determined and jnp.isfinite(found.curvature)
    np.testing.assert_allclose(abs(found.normals), [0, 0, float(determined)], atol=1e-6)
    if abs(patch).max() in (0, 1):
        assert all(jnp.isfinite(slope).all() for slope in jax.tree.leaves(SLOPES(x)))


def test_derivatives_are_those_of_finite_differences(x64):
    x, step = jnp.asarray(PATCHES[0]), rng.normal(size=(9, 3))
    # of n n^T, which has no sign to choose, and of the curvature
    out = lambda t: (lambda y: jnp.append(jnp.outer(y[:3], y[:3]), y[3]))(numbers(x + t * step))
    slope = jax.jacfwd(out)
    at = jax.jit(lambda t: (out(t), slope(t), jax.jacfwd(slope)(t)))
    h = 1e-5
    (low, low_slope, _), (_, *slopes), (high, high_slope, _) = at(-h), at(0.0), at(h)
    np.testing.assert_allclose(slopes[0], (high - low) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(slopes[1], (high_slope - low_slope) / (2 * h), atol=1e-7)
    assert min(abs(part).max() for part in slopes) > 0.01


def test_a_flat_cloud_has_no_outside():
    outwards, seen = estimate(jnp.asarray(GRID, jnp.float32), jnp.asarray([0.0, 0.0, -2.0]))
    assert not outwards.normals.any() and not outwards.mask.any()
    np.testing.assert_allclose(seen.normals, [[0, 0, -1]] * 9, atol=1e-6)


def test_normals_are_reversed_towards_a_side():
    n = jnp.asarray([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    side = jnp.asarray([[3.0, 0, 4], [1, 0, -1], [1, 0, 1e-6], [0, 0, 0]])
    np.testing.assert_array_equal(orient(n, side)[:, 2], [1, -1, 0, 0])
