"""Perov-5: counts, geometry, and the unit of the heats."""

import numpy as np
import pytest

from geojax.graphs import neighbor_list
from tests.datasets.molecules import counts


def heats(structures, name):
    return np.array([float(s.properties.targets[name]) for s in structures])


@pytest.mark.slow
def test_crystals_are_those_of_the_published_split(real):
    data = real("perov5")
    assert counts(data) == (3787 - 379, 379, 3785)
    every = [*data.train, *data.valid, *data.test]
    assert len({s.info["material_id"] for s in every}) == len(every)


def test_crystals_are_perovskites_in_a_cube(real):
    data = real("perov5")
    for s in data.valid:
        assert len(s) == 5 and s.pbc == (True, True, True)
        edge = s.cell[0, 0]
        assert np.array_equal(s.cell, np.eye(3) * edge) and 3.3 < edge < 5.8
        names = {7: "N", 8: "O", 9: "F", 16: "S"}
        assert sum(int(z) in names for z in s.species) >= 3
        lengths = neighbor_list(s, 3.3)
        assert len(lengths.senders) > 0


def test_heats_are_per_atom(real):
    """Energies of five atoms rounded to 0.1 eV, divided by five."""
    data = real("perov5")
    every = [*data.train, *data.valid, *data.test]
    fiftieths = 50 * heats(every, "heat_all")
    np.testing.assert_allclose(fiftieths, np.round(fiftieths), atol=1e-9)
    assert np.mean(heats(every, "heat_ref")) == pytest.approx(1.39, abs=0.02)
    assert np.std(heats(every, "heat_ref")) == pytest.approx(0.68, abs=0.02)
    known = {s.info["formula"]: s.properties.targets for s in every}
    assert float(known["LaAlO3"]["heat_all"]) == pytest.approx(-0.1)
    assert float(known["LaAlO3"]["direct_gap"]) == pytest.approx(6.3)
