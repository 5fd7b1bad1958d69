"""Two scans of one scene: what is found is how they were moved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points import (
    Pose,
    describe_scan,
    move,
    register,
    register_scans,
    rotation_error,
)
from geojax.so3 import random_rotation

VOXEL = 0.12


def scene(seed: int, points: int = 2500) -> np.ndarray:
    """Hills and a few blocks, other points of them with each seed."""
    rng, shape = np.random.default_rng(seed), np.random.default_rng(7)
    x = rng.uniform(-1.5, 1.5, (points, 2))
    tops, heights = shape.uniform(-1.5, 1.5, (12, 2)), shape.uniform(-0.8, 0.8, 12)
    near = np.square(x[:, None] - tops[None]).sum(-1)
    z = (heights * np.exp(-near / 0.08)).sum(1)
    z += 0.5 * ((np.abs(x - [0.6, -0.4]) < [0.3, 0.2]).all(1))
    return np.column_stack([x, z])


TURN = np.asarray(random_rotation(jax.random.key(3)), np.float64)
SHIFT = np.array([4.0, -2.0, 1.0])
ABOVE = np.array([0.0, 0.0, 9.0])


@pytest.fixture(scope="module")
def found():
    return register(
        scene(0),
        scene(1) @ TURN.T + SHIFT,
        voxel=VOXEL,
        source_viewpoint=ABOVE,
        target_viewpoint=TURN @ ABOVE + SHIFT,
    )


def moved(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x @ matrix[:3, :3].T + matrix[:3, 3]


def test_the_pose_is_how_the_scan_was_moved(found):
    off = moved(found.matrix, scene(0)) - (scene(0) @ TURN.T + SHIFT)
    assert np.linalg.norm(off, axis=1).max() < 0.4 * VOXEL
    assert found.fitness > 0.9 and 0 < found.rmse < VOXEL and found.matches > 20
    assert 0.1 < found.agreement <= 1


def test_far_from_the_origin_no_digits_are_lost(found):
    far = np.array([4e6, 5e5, 100.0])
    again = register(
        scene(0) + far,
        scene(1) @ TURN.T + SHIFT - far,
        voxel=VOXEL,
        source_viewpoint=ABOVE + far,
        target_viewpoint=TURN @ ABOVE + SHIFT - far,
    )
    off = moved(again.matrix, scene(0) + far) + far - moved(found.matrix, scene(0))
    assert np.linalg.norm(off, axis=1).max() < 0.4 * VOXEL


def test_normals_that_are_known_tell_the_sides():
    """Those of a floor seen from below: the descriptors are those of that viewpoint."""
    x = jnp.asarray(scene(0, 900), jnp.float32)
    below = jnp.tile(jnp.array([[0.1, 0.0, -1.0]]), (900, 1))
    told = describe_scan(x, voxel=VOXEL, slots=900, normals=below)
    seen = describe_scan(x, voxel=VOXEL, slots=900, viewpoint=jnp.array([0.0, 0.0, -90.0]))
    assert float(jnp.max(told.normals[told.mask][:, 2])) < 0.02
    same = (told.normals == seen.normals).all(-1) & told.mask
    assert float(same.sum() / told.mask.sum()) > 0.95
    with pytest.raises(ValueError, match="from a viewpoint or from `sides`; got both"):
        describe_scan(x, voxel=VOXEL, slots=900, normals=below, viewpoint=jnp.zeros(3))


def test_known_normals_turn_with_their_cloud():
    normals = np.tile([0.0, 0.0, 1.0], (2500, 1))
    normals[7] = np.nan  # one that the scanner did not know
    sides = {"source_normals": normals, "target_normals": normals @ TURN.T}
    found = register(scene(0), scene(1) @ TURN.T + SHIFT, voxel=VOXEL, **sides)
    off = moved(found.matrix, scene(0)) - (scene(0) @ TURN.T + SHIFT)
    assert np.linalg.norm(off, axis=1).max() < 0.4 * VOXEL
    with pytest.raises(ValueError, match=r"one for each point; got shape \[9, 3\] for 2500"):
        register(scene(0), scene(1), voxel=VOXEL, source_normals=normals[:9])


def test_more_slots_and_padding_change_nothing():
    x = jnp.asarray(scene(0, 900), jnp.float32)
    padded = jnp.concatenate([x, jnp.full((60, 3), 1e3)])
    real = jnp.arange(960) < 900
    a = describe_scan(x, voxel=VOXEL, slots=900)
    b = describe_scan(padded, real, voxel=VOXEL, slots=960)
    assert not a.overflow and not b.overflow and int(a.mask.sum()) == int(b.mask.sum()) > 100
    assert np.allclose(a.features[a.mask], b.features[b.mask], atol=1e-4)
    assert describe_scan(x, voxel=VOXEL, slots=100).overflow


def test_a_scan_onto_itself_moved():
    x = jnp.asarray(scene(0), jnp.float32)
    pose = Pose(jnp.asarray(TURN, jnp.float32), jnp.asarray(SHIFT, jnp.float32))
    view = jnp.asarray(ABOVE, jnp.float32)
    one = describe_scan(x, voxel=VOXEL, slots=1024, viewpoint=view)
    two = one._replace(positions=move(pose, one.positions), normals=one.normals @ pose.rotation.T)
    found = register_scans(jax.random.key(0), one, two, voxel=VOXEL)
    assert float(rotation_error(found.pose, pose)) < 1e-2
    assert float(found.fitness) == 1 and float(found.agreement) > 0.99


@pytest.mark.parametrize(
    ("cloud", "voxel", "message"),
    [
        (scene(0)[:2], VOXEL, "three finite points or more; got shape"),
        (np.full((9, 3), np.nan), VOXEL, "numbers that are not finite"),
        (scene(0), 0.0, "voxels have a positive edge; got 0.0"),
        (scene(0), 50.0, "three matches that agree; .* try another voxel than 50.0"),
    ],
)
def test_what_cannot_be_registered_is_refused(cloud, voxel, message):
    with pytest.raises(ValueError, match=message):
        register(cloud, scene(1), voxel=voxel)
