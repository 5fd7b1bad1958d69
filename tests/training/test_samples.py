"""Samples are graphs of the network, and labels without what the card says of their atoms."""

import numpy as np
import pytest

from geojax.datasets import fingerprint
from geojax.datasets.packed import Packed, pack
from geojax.graphs import Properties, Structure
from geojax.model import Card
from geojax.networks import DGCNN, EGNN
from geojax.training.samples import make_samples, most_neighbors
from geojax.training.spool import Spool

NETWORK = EGNN(cutoff=1.5, channels=4, layers=1)
CARD = Card(elements=(1,), E0s={1: -13.0})


def chain(length: int, **more) -> Structure:
    """Hydrogen atoms, 1 Å apart."""
    labels = Properties(energy=-13.5 * length, forces=np.zeros((length, 3)))
    x = np.arange(length)[:, None] * np.array([1.0, 0.0, 0.0])
    return Structure(x, np.ones(length, int), properties=labels, **more)


SPLITS = {"train": (chain(2), chain(3)), "valid": (chain(5),)}


def test_labels_are_those_that_are_wanted_above_their_references():
    made = make_samples(SPLITS, NETWORK, CARD, {"energy"})
    found = made["train"][1]
    assert found.labels.energy == pytest.approx(-1.5) and found.labels.forces is None
    assert [int(s.graph.n_edge[0]) for s in (*made["train"], *made["valid"])] == [2, 4, 8]


def test_places_are_as_many_as_the_largest_of_all_splits_needs():
    assert most_neighbors(SPLITS, NETWORK) == 2
    assert most_neighbors({"train": (chain(1),)}, NETWORK) == 1
    plain = make_samples(SPLITS, NETWORK, CARD, set())
    table = make_samples(SPLITS, NETWORK, CARD, set(), slots=2, members=True)
    reads = make_samples(SPLITS, DGCNN(neighbors=2), CARD, set())
    assert "members" not in plain["train"][0].graph.globals
    for made in (table, reads):
        assert made["train"][0].graph.globals["members"].tolist() == [[True] * 2 + [False] * 3]


def test_what_is_wrong_is_said_with_its_place():
    twice = chain(2, info={"origin": "a.xyz:9"})
    splits = {"valid": (chain(2), twice.replace(positions=np.zeros((2, 3))))}
    with pytest.raises(ValueError, match=r"^valid structure 1 \(a.xyz:9\): two atoms"):
        make_samples(splits, NETWORK, CARD, set())


def test_what_stays_in_a_file_stays_in_a_file(tmp_path):
    path, folder = tmp_path / "big.h5", tmp_path / "run"
    pack(path, SPLITS["train"])
    structures = Packed(path)
    assert fingerprint(tuple(structures)) == fingerprint(SPLITS["train"])
    splits = {"train": structures, "valid": SPLITS["valid"]}
    made = make_samples(splits, NETWORK, CARD, {"energy"}, folder=folder)
    assert isinstance(made["train"], Spool) and made["train"].folder == folder
    assert made["train"][1].labels.energy == pytest.approx(-1.5)
    assert isinstance(made["valid"], list)
