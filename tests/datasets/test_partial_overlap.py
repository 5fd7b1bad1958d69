"""The data set of pairs: splits, options and reproducibility. What a pair is: test_pairs."""

import numpy as np
import pytest

from geojax.datasets import load, write
from geojax.graphs import Structure, leaves, sample, store

CLOUD = Structure(np.random.default_rng(0).normal(size=(400, 3)), np.zeros(400, int))


@pytest.fixture
def path(tmp_path) -> str:
    write(tmp_path / "a.ply", [CLOUD])
    return str(tmp_path / "a.ply")


def test_furniture_gives_a_pair_of_each_shape(real):
    real("furniture", n_points=64)
    data = load("partial-overlap", sampled=512)
    assert (len(data.train), len(data.valid), len(data.test)) == (266, 67, 0)
    shares = np.array([pair.info["overlap"] for pair in data.train])
    assert shares.min() > 0.27 and abs(shares.mean() - 0.65) < 0.03
    assert all(pair.info["creator"] for pair in data.train)  # the licence asks for the names


def test_overlaps_are_fixed_or_between(path):
    for overlap, low, high in ((0.5, 0.48, 0.52), ([0.6, 0.8], 0.58, 0.82)):
        pairs = load("partial-overlap", source=path, overlap=overlap, copies=12).train
        shares = [pair.info["overlap"] for pair in pairs]
        assert len(shares) == 12 and low < min(shares) <= max(shares) < high
    assert np.ptp(shares) > 0.1


def test_pairs_are_the_same_for_a_seed_and_new_in_each_part(path):
    make = lambda seed: load("partial-overlap", source=path, copies=2, seed=seed)
    first, again, other = make(0), make(0), make(1)
    every = [*first.train, *first.valid]
    for one, two in zip(every, [*again.train, *again.valid], strict=True):
        assert np.array_equal(one.positions, two.positions)
    turns = [leaves(p.properties)["targets.rotation"] for p in [*every, *other.train]]
    distinct = np.unique(np.round(turns, 6), axis=0)
    assert len(distinct) == 6


def test_pairs_make_batches(path):
    pairs = load("partial-overlap", source=path, copies=3).train
    batch = store([sample(pair, 0.0) for pair in pairs]).batch
    assert batch.labels.targets["rotation"].shape == (3, 3, 3)
    assert batch.labels.node_targets["shared"].dtype == np.int32


@pytest.mark.parametrize("options", [{"copies": 0}, {"overlap": [0.1, 0.2, 0.3]}])
def test_options_out_of_range_are_refused(options, path):
    with pytest.raises(
        ValueError, match="each shape gives one copy or more|an overlap is one number"
    ):
        load("partial-overlap", source=path, **options)
