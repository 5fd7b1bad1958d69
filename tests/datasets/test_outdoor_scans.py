"""Two scans of one place: the pose is that of the file, and it brings them together."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from geojax.datasets import Dataset, parts_of


@pytest.fixture
def data(real) -> Dataset:
    return real("outdoor-scans")


def test_the_pair_is_there_as_published(data):
    (pair,) = data.test
    assert data.train == data.test and not data.valid
    source, target = parts_of(pair)
    assert (len(source), len(target)) == (25193, 24989)
    assert pair.inputs.keys() == {"part"}  # one of the scans has normals, the other has none
    rotation = pair.properties.targets["rotation"]
    assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-14
    printed = [[0.981715, 0.169605, -0.0864239], [-0.152902, 0.973034, 0.172703]]
    assert np.abs(rotation[:2] - printed).max() < 2e-6
    centre = pair.info["centre"]
    shift = pair.properties.targets["translation"] - rotation @ centre + centre
    assert np.allclose(shift, [0.0614127, 0.191433, -0.0338571], atol=1e-12)
    assert [report.source for report in data.reports] == [
        "car_cloud401.csv.gz",
        "car_cloud400.csv.gz",
    ]


def test_the_pose_brings_the_scans_together(data):
    source, target = parts_of(data.test[0])
    targets = data.test[0].properties.targets
    near = KDTree(target.positions)
    gap = lambda x: float(np.median(near.query(x)[0]))
    moved = source.positions @ targets["rotation"].T + targets["translation"]
    assert (round(gap(source.positions), 2), round(gap(moved), 3)) == (0.47, 0.085)
    assert gap((source.positions - targets["translation"]) @ targets["rotation"]) > 0.5  # backwards


def test_points_are_chosen_by_the_seed(real):
    some = [real("outdoor-scans", n_points=500, seed=seed).test[0] for seed in (0, 1)]
    assert len(some[0]) == 1000 and not np.array_equal(some[0].positions, some[1].positions)
    with pytest.raises(ValueError, match="n_points is 1 to 25193, .*; got 26000"):
        real("outdoor-scans", n_points=26000)
