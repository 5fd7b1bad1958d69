"""FLLA: counts, geometry against the file's own numbers, published moments."""

import csv
import gzip
import re

import numpy as np
import pytest

from geojax.datasets import flla
from tests.datasets.molecules import counts

COUNT = 3150


def every(data):
    return [*data.train, *data.valid]


def test_crystals_are_all_there_once(real):
    data = real("flla")
    assert counts(data) == (2837, 313, 0)  # a tenth but for two with elements of their own
    trained = {int(z) for s in data.train for z in s.species}
    assert all(trained.issuperset(s.species.tolist()) for s in data.valid)
    assert len({s.info["material_id"] for s in every(data)}) == COUNT
    assert all(s.pbc == (True, True, True) and 1 <= len(s) <= 25 for s in every(data))
    assert len({int(z) for s in every(data) for z in s.species}) == 86


def test_energies_are_those_published(real):
    """The mean of the whole set is -1.26 eV/atom, its standard deviation 1.07."""
    energies = [float(s.properties.targets["formation_energy"]) for s in every(real("flla"))]
    assert np.mean(energies) == pytest.approx(-1.26, abs=0.05)
    assert np.std(energies) == pytest.approx(1.07, abs=0.03)
    above = [float(s.properties.targets["e_above_hull"]) for s in every(real("flla"))]
    assert min(above) == 0 and 0.0 < np.mean(above) < 0.5


def test_geometry_agrees_with_the_numbers_beside_it(real, dataset_folder):
    """Of the first rows: volume, chemical formula, fractional coordinates."""
    path = dataset_folder / "flla_formation_energy" / "flla_2015.csv.gz"
    found = {s.info["material_id"]: s for s in every(real("flla"))}
    csv.field_size_limit(2**24)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)
        table = csv.DictReader(lines)
        for _, row in zip(range(50), table, strict=False):
            s = found[row["material_id"]]
            assert len(s) == int(row["nsites"])
            volume = float(re.search(r"'volume': ([\d.]+)", row["structure"])[1])
            assert s.volume == pytest.approx(volume, rel=1e-6)
            inside = [
                [float(x) for x in site.split(",")]
                for site in re.findall(r"'abc': \[([^]]+)\]", row["structure"])
            ]
            np.testing.assert_allclose(np.array(inside) @ s.cell, s.positions, atol=1e-6)
            total = sum(float(n) for n in re.findall(r": ([\d.]+)", row["formula"]))
            assert len(s) % total == 0  # a reduced formula


@pytest.mark.slow
def test_training_crystals_may_be_fewer(real):
    few = real("flla", n_train=100, valid=200)
    assert counts(few) == (100, 200, 0)
    assert {s.info["material_id"] for s in few.valid}.isdisjoint(
        s.info["material_id"] for s in few.train
    )
    with pytest.raises(ValueError, match="n_train is 1 to 2837; got 2838"):
        flla(n_train=2838)
