"""The clouds that recipes start from."""

import numpy as np
import pytest

from geojax.datasets import write
from geojax.datasets.shapes import shapes
from geojax.graphs import Structure

CLOUD = Structure(np.random.default_rng(0).normal(size=(50, 3)), np.zeros(50, int))


def test_a_data_set_gives_its_splits(real):
    real("furniture", n_points=64)
    found = shapes("furniture", 64, 0)
    assert {part: len(clouds) for part, clouds in found.items()} == {
        "train": 266,
        "valid": 67,
        "test": 0,
    }
    assert all(len(cloud) == 64 for cloud in found["valid"])


def test_a_data_set_of_fixed_clouds_is_taken_as_it_is():
    assert len(shapes("tetris", 2048)["train"][0]) == 4


def test_a_file_is_for_training_and_validation(tmp_path):
    write(tmp_path / "a.ply", [CLOUD])
    found = shapes(str(tmp_path / "a.ply"), 10)
    assert [len(found[part]) for part in ("train", "valid", "test")] == [1, 1, 0]
    assert np.array_equal(found["train"][0].positions, CLOUD.positions)


def test_a_mesh_is_sampled(tmp_path):
    pytest.importorskip("trimesh", reason="trimesh is an extra of geojax")
    (tmp_path / "a.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    first, again, other = (
        shapes(str(tmp_path / "a.off"), 30, seed)["train"][0] for seed in (0, 0, 1)
    )
    assert len(first) == 30 and np.array_equal(first.inputs["normals"], [[0, 0, 1]] * 30)
    assert np.array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, other.positions)


def test_atoms_and_unknown_names_are_refused(tmp_path):
    write(tmp_path / "a.xyz", [CLOUD.replace(species=np.ones(50, int))])
    with pytest.raises(
        ValueError, match="a recipe starts from clouds of points; .*a.xyz' holds atoms"
    ):
        shapes(str(tmp_path / "a.xyz"), 10)
    with pytest.raises(KeyError, match="did you mean 'furniture'"):
        shapes("furnitur", 10)
