"""FPFH is Open3D's, and soft bins make it smooth.

open3d.json was made with Open3D 0.20 from 36 points of a wavy sheet with noisy normals (numpy's
`default_rng(0)`), of which points 0 and 1 coincide, 2 and 13 are alone and 10 has one neighbour:

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(positions))
    cloud.normals = o3d.utility.Vector3dVector(normals)
    search = o3d.geometry.KDTreeSearchParamHybrid(radius=0.6, max_nn=12)
    fpfh = o3d.pipelines.registration.compute_fpfh_feature(cloud, search).data.T
    cloud.estimate_normals(search)  # estimated_normals; without the normals from above
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points.fpfh import fpfh, histograms
from geojax.points.search import within
from geojax.so3 import random_rotation

GOLDEN = {
    name: np.array(values)
    for name, values in json.loads((Path(__file__).parent / "open3d.json").read_text()).items()
}
X, N = GOLDEN["positions"], GOLDEN["normals"]


@partial(jax.jit, static_argnames=("soft", "chunk"))
def features(x, n, mask=None, *, soft=False, chunk=1024):
    neighbors = within(x, x, mask, radius=0.6, k=11, query_mask=mask, exclude_self=True)
    return fpfh(x, n, neighbors, soft=soft, chunk=chunk)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_features_are_open3d_s(x64, chunk):
    found = features(jnp.asarray(X), jnp.asarray(N), chunk=chunk)
    np.testing.assert_allclose(found, GOLDEN["fpfh"], atol=1e-6)
    sums = np.asarray(found).reshape(36, 3, 11).sum(-1)
    alone = np.isin(np.arange(36), [2, 13])
    np.testing.assert_allclose(sums, np.where(alone, 0, 200)[:, None].repeat(3, 1), rtol=1e-12)


@pytest.mark.parametrize("soft", [False, True])
def test_features_are_invariant(x64, key, soft):
    turn = np.asarray(random_rotation(key, dtype=jnp.float64))
    of = lambda x, n: np.asarray(features(jnp.asarray(x), jnp.asarray(n), soft=soft))
    plain = of(X, N)
    np.testing.assert_allclose(of(X @ turn.T + 9, N @ turn.T), plain, atol=1e-9)
    order = np.random.default_rng(0).permutation(36)
    order[np.isin(order, [0, 1])] = [0, 1]  # where points coincide, the list decides
    np.testing.assert_allclose(of(X[order], N[order]), plain[order], atol=1e-10)


def test_what_padding_holds_is_never_seen(x64):
    mask = jnp.asarray(np.arange(40) >= 4)
    plain = features(jnp.asarray(X), jnp.asarray(N), soft=True)
    for other in (0.1, 1e9):
        fill = np.full((4, 3), other)
        x, n = (jnp.asarray(np.concatenate([fill, y])) for y in (X, N))
        found = features(x, n, mask, soft=True)
        np.testing.assert_allclose(found[4:], plain, atol=1e-10)
        assert not found[:4].any()


@pytest.mark.parametrize("soft", [False, True])
def test_a_plane_is_one_bin_of_each(x64, soft):
    x = np.stack([*np.random.default_rng(0).normal(size=(2, 36)) / 10, np.zeros(36)], 1)
    n = np.zeros((36, 3)) + [0, 0, 1]
    found = features(jnp.asarray(x), jnp.asarray(n), soft=soft)
    expected = np.zeros((36, 33))
    expected[:, [5, 16, 27]] = 200
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_hard_bins_are_numpy_s(x64):
    values = np.random.default_rng(0).uniform(-1, 1, size=(30, 3)) * [np.pi, 1, 1]
    values[0], values[1] = [np.pi, 1, 1], [-np.pi, -1, -1]
    found = histograms(jnp.asarray(values), jnp.ones(30, bool), bins=7)
    for axis, half in enumerate((np.pi, 1, 1)):
        counts = np.histogram(values[:, axis], 7, (-half, half))[0]
        np.testing.assert_allclose(found[7 * axis : 7 * axis + 7], counts / 0.3, rtol=1e-12)


def test_soft_bins_share_between_the_nearest_centres(x64):
    width, one = 2 * np.pi / 11, jnp.ones(1, bool)
    at = lambda theta, phi: np.asarray(
        histograms(jnp.asarray([[theta, 0.0, phi]]), one, soft=True)
    ).reshape(3, 11)
    np.testing.assert_allclose(at(0.25 * width, 0)[0, [5, 6]], [75, 25], atol=1e-10)
    np.testing.assert_allclose(at(np.pi, 0)[0, [0, 10]], [50, 50], atol=1e-10)
    np.testing.assert_allclose(at(-np.pi, 0)[0, [0, 10]], [50, 50], atol=1e-10)
    np.testing.assert_allclose(at(0, 1)[2, 10], 100, atol=1e-10)
    for theta in (-3.1, -1.0, 0.3, 3.0):
        np.testing.assert_allclose(at(theta, theta / 4).sum(1), 100, rtol=1e-12)


def test_soft_features_have_finite_derivatives_that_are_right(x64):
    x, n, step = jnp.asarray(X), jnp.asarray(N), np.random.default_rng(0).normal(size=(36, 3))
    weights = np.random.default_rng(1).normal(size=(36, 33))
    total = lambda x: (features(x, n, soft=True) * weights).sum()
    value, slope = jax.jit(jax.value_and_grad(total))(x)
    assert jnp.isfinite(slope).all() and slope[0].any()
    # along a step that moves the two coinciding points and all neighbours together
    step[1] = step[0]
    h, out = 1e-6, jax.jit(lambda t: total(x + t * step))
    np.testing.assert_allclose((slope * step).sum(), (out(h) - out(-h)) / (2 * h), rtol=1e-5)
    assert value == pytest.approx(out(0.0))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least two bins; got bins=1"):
        histograms(jnp.zeros((4, 3)), jnp.ones(4, bool), bins=1)
