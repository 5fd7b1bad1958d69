"""Registration pairs: the pose is exact, the overlap is as asked, the points are other points."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from geojax.datasets import partial_pair, parts_of, registration_pair
from geojax.datasets.pairs import random_rotation_matrix
from geojax.graphs import Structure, sample

RNG = np.random.default_rng(0)


def sphere(n: int = 4000) -> Structure:
    x = RNG.normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return Structure(x, np.zeros(n, int), inputs={"normals": x, "radius": np.ones(n)})


def blob(n: int = 2000) -> Structure:
    x = RNG.normal(size=(n, 3)) * [3, 2, 1]
    return Structure(x, np.zeros(n, int), info={"name": "blob", "path": "secret"})


def pose(pair: Structure) -> tuple[np.ndarray, np.ndarray]:
    targets = pair.properties.targets
    return targets["rotation"], targets["translation"]


def test_the_same_cloud_moved_is_matched_exactly():
    cloud = blob(30)
    rotation, shift = random_rotation_matrix(RNG), np.array([5.0, -7, 100])
    moved = cloud.replace(positions=cloud.positions @ rotation.T + shift)
    pair = registration_pair(cloud, moved, rotation, shift)
    source, target = parts_of(pair)
    r, t = pose(pair)
    assert np.abs(source.positions @ r.T + t - target.positions).max() < 1e-12
    assert np.abs(pair.positions.mean(0)).max() < 1e-13
    assert np.allclose(pair.info["centre"] + source.positions, cloud.positions, atol=1e-12)
    assert pair.inputs["part"].tolist() == [0] * 30 + [1] * 30
    places = pair.properties.node_targets["place"]
    assert np.abs(places[:30] - target.positions).max() < 1e-12
    assert np.abs(places[30:] - target.positions).max() < 1e-12


def test_the_pose_holds_for_what_a_network_reads():
    """`sample` centres a structure; the translation is that of the centred points."""
    pair = partial_pair(blob(), RNG, overlap=1.0, max_shift=30.0)
    graph = sample(pair, 0.0).graph
    assert np.abs(graph.nodes["positions"] - pair.positions).max() < 1e-12


def test_inputs_of_both_are_kept_and_of_one_are_not():
    first = blob(12).replace(inputs={"a": np.ones(12), "b": np.ones((12, 3)), "c": np.ones(12)})
    second = blob(15).replace(inputs={"a": np.zeros(15), "b": np.ones(15)})
    pair = registration_pair(first, second, np.eye(3), np.zeros(3))
    assert pair.inputs.keys() == {"a", "part"} and pair.inputs["a"].sum() == 12


def test_wrong_poses_and_atoms_are_refused():
    cloud = blob(5)
    for wrong in (1.001 * np.eye(3), np.diag([1.0, 1, -1])):
        with pytest.raises(
            ValueError, match="a pose has a proper rotation; R Rᵀ differs from 1 by"
        ):
            registration_pair(cloud, cloud, wrong, np.zeros(3))
    with pytest.raises(ValueError, match="clouds of points; got atoms"):
        registration_pair(cloud.replace(species=np.ones(5, int)), cloud, np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match="numbered from 0 by the node input `part`; .*none"):
        parts_of(cloud)


@pytest.mark.parametrize("overlap", [1.0, 0.7, 0.5, 0.3])
def test_the_overlap_is_as_asked_on_a_sphere(overlap):
    """Measured without the recipe: a point of one crop is shared if the other has one nearby."""
    rng = np.random.default_rng(7)
    pair = partial_pair(sphere(), rng, overlap=overlap)
    assert abs(pair.info["overlap"] - overlap) < 0.005
    source, target = parts_of(pair)
    r, t = pose(pair)
    back = (target.positions - t) @ r
    near = 0.1  # some times the spacing of 2000 points; the rim adds about that much
    shares = [
        (KDTree(b).query(a)[0] < near).mean()
        for a, b in ((source.positions, back), (back, source.positions))
    ]
    assert abs(np.mean(shares) - overlap) < 0.06
    shared = pair.properties.node_targets["shared"]
    of_parts = [shared[: len(source)].mean(), shared[len(source) :].mean()]
    assert abs(np.mean(of_parts) - overlap) < 0.005


def test_the_truth_is_exact_and_points_are_other_points():
    shape = sphere()
    pair = partial_pair(shape, np.random.default_rng(1), overlap=0.6, max_shift=2.0)
    source, target = parts_of(pair)
    r, t = pose(pair)
    assert np.abs(r @ r.T - np.eye(3)).max() < 1e-12 and np.linalg.det(r) > 0
    moved = source.positions @ r.T + t
    centre = np.linalg.lstsq(  # the sphere through the points, from both at once
        np.hstack([2 * moved, np.ones((len(moved), 1))]), (moved**2).sum(1), rcond=None
    )[0][:3]
    for points, normals in (
        (moved, source.inputs["normals"] @ r.T),
        (target.positions, target.inputs["normals"]),
    ):
        assert np.abs(np.linalg.norm(points - centre, axis=1) - 1).max() < 1e-10
        assert np.abs(points - centre - normals).max() < 1e-10  # normals turn with their points
    distance = KDTree(moved).query(target.positions)[0]
    assert distance.min() > 1e-6  # no point is in both
    assert pair.inputs.keys() == {"normals", "part"}  # the radius of a crop is another


def test_noise_is_of_the_size_that_is_asked_for():
    shape = sphere(20_000)
    make = lambda noise: partial_pair(shape, np.random.default_rng(3), overlap=1.0, noise=noise)
    exact, noisy = make(0.0), make(0.02)
    source = parts_of(noisy)[0].positions - parts_of(noisy)[0].inputs["normals"]
    assert abs(np.std(source - source.mean(0)) / 0.02 - 1) < 0.02
    assert (
        np.std(parts_of(exact)[0].positions - parts_of(exact)[0].inputs["normals"], 0).max() < 1e-12
    )


def test_angles_and_shifts_are_limited():
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(40):
        r, t = pose(partial_pair(blob(200), rng, overlap=1.0, max_angle=30.0, max_shift=0.0))
        angles.append(np.degrees(np.arccos(np.clip((np.trace(r) - 1) / 2, -1, 1))))
    assert 20 < max(angles) <= 30 and min(angles) < 10


def test_rotations_are_haar_without_a_limit():
    """Of a Haar rotation R every entry has mean 0 and variance 1/3."""
    turns = np.stack([random_rotation_matrix(RNG) for _ in range(4000)])
    assert np.abs(turns.mean(0)).max() < 0.04 and np.abs((turns**2).mean(0) - 1 / 3).max() < 0.02


def test_a_flat_shape_is_cropped_too():
    flat = blob(3000).replace(positions=blob(3000).positions * [1, 1, 1e-6])
    pair = partial_pair(flat, np.random.default_rng(5), overlap=0.3)
    assert abs(pair.info["overlap"] - 0.3) < 0.01 and "path" not in pair.info


def test_points_are_limited_and_the_seed_decides():
    shape = blob()
    make = lambda seed: partial_pair(shape, np.random.default_rng(seed), overlap=0.5, n_points=100)
    assert len(make(0)) == 200 and np.array_equal(make(0).positions, make(0).positions)
    assert not np.array_equal(make(0).positions, make(1).positions)


def test_impossible_pairs_are_refused():
    with pytest.raises(ValueError, match="an overlap is from 0.1 to 1"):
        partial_pair(blob(), RNG, overlap=0.0)
    with pytest.raises(ValueError, match="two crops of 6 points were to share 37% and share"):
        partial_pair(blob(6), np.random.default_rng(0), overlap=0.37)
