"""The data set of pieces: splits, options and reproducibility. What pieces are: test_pieces."""

import numpy as np
import pytest

from geojax.datasets import load, write
from geojax.graphs import Structure, sample, store

CLOUD = Structure(np.random.default_rng(0).normal(size=(400, 3)), np.zeros(400, int))


@pytest.fixture
def path(tmp_path) -> str:
    write(tmp_path / "a.ply", [CLOUD])
    return str(tmp_path / "a.ply")


def test_furniture_in_pieces(real):
    real("furniture", n_points=64)
    data = load("broken-shapes", sampled=256, n_points=256)
    assert (len(data.train), len(data.valid), len(data.test)) == (266, 67, 0)
    counts = np.bincount([s.info["n_parts"] for s in data.train], minlength=6)
    assert counts[:2].sum() == 0 and counts[2:].min() > 40
    assert all(s.info["creator"] for s in data.train)  # the licence asks for the names


def test_numbers_of_parts_and_places(path):
    fixed = load("broken-shapes", source=path, parts=3, copies=4).train
    assert [s.info["n_parts"] for s in fixed] == [3] * 4
    assert fixed[0].properties.targets["present"].tolist() == [1, 1, 1]
    mixed = load("broken-shapes", source=path, parts=[2, 4], copies=12).train
    assert {s.info["n_parts"] for s in mixed} == {2, 3, 4}
    batch = store([sample(s, 0.0) for s in mixed]).batch
    assert batch.labels.targets["rotations"].shape == (12, 4, 3, 3)
    assert batch.labels.node_targets["assembled"].shape == (12 * 400, 3)


def test_pieces_are_the_same_for_a_seed_and_new_in_each_part(path):
    make = lambda seed: load("broken-shapes", source=path, copies=2, seed=seed)
    first, again, other = make(0), make(0), make(1)
    for one, two in zip(first.train, again.train, strict=True):
        assert np.array_equal(one.positions, two.positions)
    firsts = [s.positions[0] for s in [*first.train, *first.valid, *other.train]]
    assert len(np.unique(np.round(firsts, 6), axis=0)) == 6


@pytest.mark.parametrize("options", [{"copies": 0}, {"parts": [4, 2]}, {"parts": [2, 3, 4]}])
def test_options_out_of_range_are_refused(options, path):
    with pytest.raises(
        ValueError, match="each shape gives one copy or more|parts are one whole number"
    ):
        load("broken-shapes", source=path, **options)
