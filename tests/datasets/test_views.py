"""Two views of each cloud: other points of the same shape, told apart by `part`."""

import numpy as np
import pytest

from geojax.datasets import load, write
from geojax.graphs import Structure


@pytest.fixture
def path(tmp_path) -> str:
    """A sphere with its normals."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    write(tmp_path / "sphere.ply", [Structure(x, np.zeros(60, int), inputs={"normals": x})])
    return str(tmp_path / "sphere.ply")


def test_views_are_subsets_of_the_shape(path):
    data = load("views", source=path, n_points=20, copies=3)
    assert len(data.train) == 3 and data.card["shapes"] == path
    for s in data.train:
        assert s.inputs["part"].tolist() == [0.0] * 20 + [1.0] * 20
        np.testing.assert_allclose(s.inputs["normals"], s.positions, atol=1e-6)
        np.testing.assert_array_equal(s.properties.targets["views"], np.eye(3))
        first, second = (set(map(tuple, s.positions[20 * i :][:20])) for i in (0, 1))
        assert len(first) == len(second) == 20 and first != second
    again = load("views", source=path, n_points=20, copies=3)
    np.testing.assert_array_equal(again.train[2].positions, data.train[2].positions)


def test_views_keep_the_targets_of_their_shape(real):
    shapes = real("furniture", n_points=64).train
    data = load("views", sampled=64, n_points=32)
    kinds = [[s.properties.targets["label"] for s in part] for part in (shapes, data.train)]
    assert kinds[0] == kinds[1]


def test_noise_moves_points(path):
    noisy = load("views", source=path, n_points=20, noise=0.01).train[0]
    away = np.abs(np.linalg.norm(noisy.positions, axis=1) - 1)
    assert 0 < away.mean() < 0.03


@pytest.mark.parametrize("options", [{"n_points": 0}, {"noise": -1.0}, {"copies": 0}])
def test_bad_options_are_refused(path, options):
    with pytest.raises(ValueError, match="a view has points|one copy or more"):
        load("views", source=path, **options)
