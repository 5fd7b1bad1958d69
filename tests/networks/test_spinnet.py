"""SpinNet by hand, its voxels, axes and convolutions, and how much other rotations change it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure
from geojax.networks import SpinNet
from geojax.networks.spinnet import (
    Layer,
    cylinder_convolution,
    frame_of_axis,
    local_axes,
    voxel_centres,
)
from geojax.so3 import random_rotation
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of

SMALL = SpinNet(
    radius=2.0,
    voxel_radius=1.0,
    elevations=3,
    azimuths=4,
    patch=16,
    samples=5,
    point_width=4,
    widths=(5,),
    flat_widths=(4,),
    chunk=16,
    irreps_out="3x0e",
)
rng = np.random.default_rng(0)


def turn_about(axis, angle):
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def test_voxels_are_on_spheres_and_turn_to_azimuth_zero():
    centres, turns = voxel_centres(3, 4, 6)
    grid = centres.reshape(3, 4, 6, 3)
    radii = np.linalg.norm(grid, axis=-1)
    np.testing.assert_allclose(radii, np.broadcast_to([[[1]], [[3]], [[5]]], (3, 4, 6)) / 6)
    at_zero = np.einsum("aij,rtaj->rtai", turns, grid)
    np.testing.assert_allclose(at_zero, np.repeat(grid[:, :, :1], 6, 2), atol=1e-15)
    assert (grid[:, :, 0, 0] > 0).all() and not grid[:, :, 0, 1].any()
    assert (np.diff(grid[..., 2], axis=1) < 0).all(), "from the tip of the axis down"


def test_axes_turn_with_patches_and_point_away_from_them(x64, key):
    patches = rng.normal(size=(5, 12, 3)) * np.array([1, 0.8, 0.3]) + np.array([0, 0, 0.3])
    mask = jnp.asarray(rng.random((5, 12)) < 0.8)
    axes = np.asarray(local_axes(jnp.asarray(patches), mask, []))
    for axis, patch, kept in zip(axes, patches, np.asarray(mask), strict=True):
        values, vectors = np.linalg.eigh(patch[kept].T @ patch[kept])
        np.testing.assert_allclose(abs(vectors[:, 0] @ axis), 1, atol=1e-12)
        assert patch[kept].mean(0) @ axis < 0
    turn = np.asarray(random_rotation(key, dtype=jnp.float64))
    turned = local_axes(jnp.asarray(patches @ turn.T), mask, [])
    np.testing.assert_allclose(turned, axes @ turn.T, atol=1e-10)


def test_sides_of_planes_come_from_elsewhere(x64):
    patch = jnp.asarray(rng.normal(size=(12, 3)) * np.array([1, 1, 0.0]))
    mask = jnp.ones(12, bool)
    flat, up = jnp.asarray([1.0, 2, 0]), jnp.asarray([0.3, 0, -1.0])
    assert not local_axes(patch, mask, [flat]).any()
    np.testing.assert_allclose(local_axes(patch, mask, [flat, up]), [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(local_axes(patch, mask, [-up, up]), [0, 0, 1], atol=1e-12)
    line = jnp.asarray(np.outer(np.arange(12.0), [1, 2, 3]))
    assert not local_axes(line, mask, [up]).any()


def test_frames_have_no_singular_axis(x64):
    axes = np.concatenate([np.eye(3), -np.eye(3), plain_units(20)])
    frames = np.asarray(frame_of_axis(jnp.asarray(axes)))
    towards = plain_units(26)
    towards[:3] = 1e-10
    told = np.asarray(frame_of_axis(jnp.asarray(axes), jnp.asarray(towards)))
    np.testing.assert_allclose(told[:3], frames[:3])
    assert (np.einsum("ni,ni->n", told[3:, 0], towards[3:]) > 0).all()
    np.testing.assert_allclose(np.einsum("ni,ni->n", told[3:, 1], towards[3:]), 0, atol=1e-12)
    np.testing.assert_allclose(
        frames @ np.swapaxes(frames, 1, 2), np.repeat(np.eye(3)[None], 26, 0), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(frames), 1)
    np.testing.assert_allclose(frames[:, 2], axes)
    assert not frame_of_axis(jnp.zeros(3)).any()


def plain_units(n):
    x = rng.normal(size=(n, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain_convolution(x, kernel):
    """Of one patch, place by place; azimuths wrap around, elevations end, shells shrink."""
    flat = kernel.ndim == 4
    x, kernel = (x[None], kernel[None]) if flat else (x, kernel)
    shells, elevations, azimuths, _ = x.shape
    out = np.zeros((shells - len(kernel) + 1, elevations, azimuths, kernel.shape[-1]))
    for r, t, a in np.ndindex(*out.shape[:3]):
        for i, j, k in np.ndindex(*kernel.shape[:3]):
            if 0 <= t + j - 1 < elevations:
                out[r, t, a] += x[r + i, t + j - 1, (a + k - 1) % azimuths] @ kernel[i, j, k]
    return out[0] if flat else out


@pytest.mark.parametrize("shells", [(), (5,)], ids=["flat", "shells"])
def test_a_convolution_equals_its_sum_and_commutes_with_rolls(shells, x64):
    x = rng.normal(size=(2, *shells, 4, 6, 3))
    kernel = rng.normal(size=(*[3] * len(shells), 3, 3, 3, 2))
    found = np.asarray(cylinder_convolution(jnp.asarray(x), jnp.asarray(kernel)))
    for patch, expected in zip(found, x, strict=True):
        np.testing.assert_allclose(patch, plain_convolution(expected, kernel), atol=1e-12)
    rolled = cylinder_convolution(jnp.asarray(np.roll(x, 2, -2)), jnp.asarray(kernel))
    np.testing.assert_allclose(rolled, np.roll(found, 2, -2), atol=1e-12)
    lifted = cylinder_convolution(jnp.asarray(np.roll(x, 1, -3)), jnp.asarray(kernel))
    assert np.abs(lifted - np.roll(found, 1, -3)).max() > 0.1, "elevations do not wrap around"


def relu(x):
    return np.maximum(x, 0)


def finished(p, x):
    return relu(plain_norm(p, x + p["bias"]))


def plain_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["gain"] + p["shift"]


def by_hand(p, vectors, axis, begin):
    """The descriptor of one patch, voxel by voxel."""
    start = np.eye(3)[np.abs(axis).argmin()] if begin == "axes" else vectors.sum(0)
    east = np.cross(np.cross(axis, start), axis)
    east /= np.linalg.norm(east)
    x = vectors @ np.stack([east, np.cross(axis, east), axis], 1)
    features = np.zeros((3, 3, 4, 4))
    for r, t, a in np.ndindex(3, 3, 4):
        radius, polar, angle = 2 * (r + 0.5) / 3, np.pi * (t + 0.5) / 3, np.pi * a / 2
        about = turn_about([0, 0, 1], -angle)
        centre = radius * np.array([np.sin(polar), 0, np.cos(polar)])
        seen = x @ about.T - centre
        length = np.linalg.norm(seen, axis=1)
        near = [i for i in np.argsort(length)[:5] if length[i] <= 1]
        if near:
            features[r, t, a] = finished(p["layer_0"], seen[near] @ p["layer_0"]["kernel"]).max(0)
    x = finished(p["layer_1"], plain_convolution(features, p["layer_1"]["kernel"]))[0]
    x = finished(p["layer_2"], plain_convolution(x, p["layer_2"]["kernel"]))
    x = plain_convolution(x, p["layer_3"]["kernel"]) + p["layer_3"]["bias"]
    return x.max((0, 1))


@pytest.mark.parametrize("begin", ["patch", "axes"])
def test_it_equals_its_equations(begin, x64):
    network, shape, first = SMALL.clone(begin=begin), cloud(9), cloud(11, seed=1)
    graph = graph_of(network, first, shape)
    params, tree = plain.parameters(network, graph)
    found = np.asarray(jax.jit(network.apply)(params, graph).array)[11:20]
    x = shape.positions - shape.positions.mean(0)
    for i in range(9):
        vectors = x[np.linalg.norm(x - x[i], axis=1) <= 2] - x[i]
        axis = np.linalg.eigh(vectors.T @ vectors)[1][:, 0]
        axis = -axis * np.sign(axis @ vectors.sum(0))
        if len(vectors) > 3:  # else they lie in a plane
            expected = by_hand(tree, vectors, axis, begin)
            np.testing.assert_allclose(found[i], expected, atol=1e-11)
    assert sum((np.linalg.norm(x - y, axis=1) <= 2).sum() > 3 for y in x) >= 3


def patches(n=4):
    vectors = rng.normal(size=(n, 16, 3))
    return vectors, np.ones((n, 16), bool), plain_units(n)


def test_turns_by_whole_voxels_change_nothing_and_others_little(x64):
    network = SMALL.clone(azimuths=12, elevations=6, voxel_radius=0.8, begin="axes")
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))["params"]
    draw = np.random.default_rng(1)
    tree = jax.tree.map(lambda x: jnp.asarray(draw.normal(scale=0.5, size=x.shape)), shapes)
    layers = [Layer(**tree[f"layer_{i}"]) for i in range(4)]
    describe = jax.jit(lambda *patches: network._describe(layers, *patches))
    vectors, mask, axes = patches()
    plain = np.asarray(describe(*map(jnp.asarray, (vectors, mask, axes))))
    for angle in np.arange(12) / 12:
        turn = np.stack([turn_about(axis, 2 * np.pi * angle) for axis in axes])
        turned = np.einsum("nij,npj->npi", turn, vectors)
        found = np.asarray(describe(*map(jnp.asarray, (turned, mask, axes))))
        np.testing.assert_allclose(found, plain, atol=1e-10)
    half = np.stack([turn_about(axis, np.pi / 12) for axis in axes])
    turned = np.einsum("nij,npj->npi", half, vectors)
    change = np.abs(describe(*map(jnp.asarray, (turned, mask, axes))) - plain).max()
    assert 1e-6 < change < np.ptp(plain, 0).max()


def surface(n=160):
    """A bumpy sphere."""
    x = plain_units(n)
    bumps = 1 + 0.3 * np.sin(3 * x[:, :1]) * np.cos(2 * x[:, 1:2]) + 0.2 * x[:, 2:]
    return Structure(x * bumps, np.zeros(n, int))


def test_rotations_of_a_surface_are_kept_where_azimuths_begin_at_the_patch(x64, key):
    """Where they begin at a coordinate axis, turns of these are, and others are not."""
    shape, budget = surface(), Budget(161, 1, 2)
    network = SMALL.clone(radius=0.8, voxel_radius=0.35, patch=40, keypoints=16)
    params, _ = plain.parameters(network, graph_of(network, cloud()))
    apply = jax.jit(lambda network, graph: network.apply(params, graph).array, static_argnums=0)

    def change(begin, turn):
        kind = network.clone(begin=begin)
        other = shape.replace(positions=shape.positions @ turn.T)
        rows = [np.asarray(apply(kind, graph_of(kind, s, budget=budget))) for s in (shape, other)]
        return np.sqrt(np.mean((rows[1] - rows[0])[:160] ** 2) / rows[0][:160].var(0).mean())

    turn = np.asarray(random_rotation(key, dtype=jnp.float64))
    assert change("patch", turn) < 1e-10
    assert 1e-2 < change("axes", turn) < 1.5
    for turn in network.symmetries[1::6]:
        assert change("axes", turn) < 1e-10


def test_points_between_key_points_get_means(x64):
    """Key points have what they have where all points are."""
    graph = graph_of(SMALL, cloud())
    params, _ = plain.parameters(SMALL, graph)
    every = np.asarray(jax.jit(SMALL.apply)(params, graph).array)[:20]
    some = np.asarray(jax.jit(SMALL.clone(keypoints=6).apply)(params, graph).array)[:20]
    same = np.abs(every - some).max(1) < 1e-12
    assert same.sum() == 6
    low, high = every[same].min(0), every[same].max(0)
    assert (some >= low - 1e-12).all() and (some <= high + 1e-12).all()


def test_parts_are_clouds_of_their_own(x64):
    one, two = cloud(9), cloud(11, seed=1)
    part = np.repeat([0, 1], [9, 11])
    both = Structure(
        np.concatenate([one.positions, two.positions + 0.1]),
        np.zeros(20, int),
        inputs={"part": part},
    )
    params, _ = plain.parameters(SMALL, graph_of(SMALL, one))
    apply = jax.jit(lambda network, graph: network.apply(params, graph).array, static_argnums=0)
    found = np.asarray(apply(SMALL.clone(parts=2), graph_of(SMALL, both)))
    alone = np.asarray(apply(SMALL, graph_of(SMALL, one, two)))
    np.testing.assert_allclose(found[:20], alone[:20], atol=1e-11)
    assert np.abs(np.asarray(apply(SMALL, graph_of(SMALL, both)))[:20] - alone[:20]).max() > 1e-3


def test_where_nothing_tells_the_sides_descriptors_are_zero(x64):
    plane = cloud(12)
    plane = plane.replace(positions=plane.positions * np.array([1, 1, 0]))
    params, _ = plain.parameters(SMALL, graph_of(SMALL, plane))
    assert not np.asarray(jax.jit(SMALL.apply)(params, graph_of(SMALL, plane)).array).any()
    told = SMALL.clone(vectors=("normals",))
    assert np.asarray(jax.jit(told.apply)(params, graph_of(told, plane)).array)[:12].any(1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"irreps_out": "0e+1o"}, "invariants, 0e"),
        ({"azimuths": 5}, "azimuths are even; got azimuths=5"),
        ({"vectors": ("normals", "velocity")}, "one node input, or none"),
        ({"begin": "mean"}, "'patch' or 'axes'; got begin='mean'"),
    ],
)
def test_what_it_refuses(fields, message):
    network = SMALL.clone(**fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))


def test_published_widths():
    """The shells that are left after the convolutions are one."""
    network = SpinNet()
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))["params"]
    kernels = [shapes[f"layer_{i}"]["kernel"].shape for i in range(12)]
    assert kernels[:2] == [(3, 16), (3, 3, 3, 16, 32)]
    assert [k[-1] for k in kernels] == [16, 32, 32, 64, 64, 128, 128, 64, 64, 32, 32, 32]
    assert voxel_centres(2 * len(network.widths) + 1, 40, 80)[0].shape == (9 * 40 * 80, 3)
