"""Closest points: known motions, against plain loops, and however partners are searched."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from geojax.points import closest_points, icp, icp_to_plane
from geojax.points.procrustes import Pose, inverse
from geojax.points.registration import Registration
from tests.points.test_registration import a_pose, assert_same, moved


def surface() -> tuple[np.ndarray, np.ndarray]:
    """Points and normals of three faces of a box of unequal sides, not too near to its edges."""
    rng = np.random.default_rng(11)
    faces = np.repeat(np.eye(3), 60, 0)
    points = rng.uniform(0.4, 1, size=(180, 3)) * [1.0, 1.4, 0.8] * (1 - faces)
    return points, faces


ICP = {"points": icp, "planes": icp_to_plane}


@pytest.mark.parametrize("form", ICP)
def test_closest_points_find_a_known_motion(x64, form):
    """A cloud turned by scipy, three degrees and three hundredths away; rows of NaN are padding."""
    points, normals = surface()
    true = a_pose(12, angle=3, shift=0.03)
    cloud = moved(inverse(true), points[::2])
    pad = lambda x: np.pad(x, ((0, 4), (0, 0)), constant_values=np.nan)
    more = (pad(normals),) if form == "planes" else ()
    masks = jnp.arange(len(cloud) + 4) < len(cloud), jnp.arange(184) < 180
    start = Pose(jnp.eye(3), jnp.zeros(3))
    solve = partial(ICP[form], start, pad(cloud), pad(points), *more, *masks, radius=0.3)
    found = solve(iterations=30)
    assert isinstance(found, Registration)
    assert_same(found.pose, true, 1e-10)
    np.testing.assert_array_equal(found.inliers, masks[0])


def test_planes_slide(x64):
    """Other points of the same faces: along the normals the error is a hundredth of the other."""
    points, normals = surface()
    true = a_pose(12, angle=3, shift=0.03)
    cloud = moved(inverse(true), points[::2])
    start, rest = Pose(jnp.eye(3), jnp.zeros(3)), slice(1, None, 2)
    target = points[rest], normals[rest]
    plain = icp(start, cloud, target[0], radius=0.3, iterations=30)
    slid = icp_to_plane(start, cloud, *target, radius=0.3, iterations=30)
    errors = [float(jnp.linalg.norm(f.pose.translation - true.translation)) for f in (plain, slid)]
    assert errors[1] < 1e-10 < 1e-3 < errors[0]


@pytest.mark.slow
def test_what_a_plane_leaves_open_stays(x64):
    """A flat target: the cloud is brought onto it, and neither slides along it nor spins."""
    rng = np.random.default_rng(13)
    flat = rng.uniform(-1, 1, size=(50, 3)) * [1, 1, 0]
    normals = np.tile([0.0, 0, 1], (50, 1))
    tilt = Pose(
        jnp.asarray(Rotation.from_rotvec([0.1, 0, 0]).as_matrix()), jnp.asarray([0, 0, 0.1])
    )
    start, cloud = Pose(jnp.eye(3), jnp.zeros(3)), moved(tilt, flat)
    found = icp_to_plane(start, cloud, flat, normals, radius=1.0, iterations=10)
    np.testing.assert_allclose(moved(found.pose, cloud)[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(found.pose.translation[:2], 0, atol=0.02)
    none = icp_to_plane(start, cloud + 9, flat, normals, radius=1.0, iterations=10)
    assert_same(none.pose, start, 0)
    assert not np.any(none.inliers)


def by_hand(source, target, radius, iterations):
    """The same steps with a tree and Kabsch's algorithm."""
    rotation, translation, tree = np.eye(3), np.zeros(3), KDTree(target)
    for _ in range(iterations):
        x = source @ rotation.T + translation
        distance, row = tree.query(x)
        close = distance <= radius
        a, b = source[close], target[row[close]]
        turn, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
        rotation = turn.as_matrix()
        translation = b.mean(0) - rotation @ a.mean(0)
    return rotation, translation


@pytest.mark.parametrize("slots", [32, 2], ids=["candidates", "too few slots"])
def test_partners_are_the_nearest_points_on_a_long_way(x64, slots, monkeypatch):
    """The cloud moves by many times the slack, so that candidates are found anew."""
    monkeypatch.setattr(closest_points, "SLOTS", slots)
    rng = np.random.default_rng(5)
    target = rng.uniform(-1, 1, size=(160, 3)) * [2, 1, 0.5]
    true = a_pose(4, angle=15, shift=0.2)
    source = np.array(moved(inverse(true), target[:120]))
    start = Pose(jnp.eye(3), jnp.zeros(3))
    for iterations in (1, 3, 12):
        radius = 0.8 + 1e-3 * slots  # of its own, so that no case finds a program of the other
        found = icp(start, source, target, radius=radius, iterations=iterations)
        rotation, translation = by_hand(source, target, radius, iterations)
        np.testing.assert_allclose(found.pose.rotation, rotation, atol=1e-9)
        np.testing.assert_allclose(found.pose.translation, translation, atol=1e-9)


def test_refuses_bad_numbers(x64):
    pose = Pose(jnp.eye(3), jnp.zeros(3))
    with pytest.raises(ValueError, match="a radius is a positive length; got -1.0"):
        icp(pose, jnp.ones((4, 3)), jnp.ones((4, 3)), radius=-1.0)
