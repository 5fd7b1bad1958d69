"""AcAc: 500 frames of C5H8O2 at 300 or 600 K, and 650 test frames."""

import numpy as np
import pytest

from geojax.datasets import acac
from tests.datasets.molecules import check_molecule, counts, geometries

FORMULA = {1: 8, 6: 5, 8: 2}


def test_frames_are_split_as_published(real):
    data = real("acac")
    assert counts(data) == (450, 50, 650)
    train, valid, test = map(geometries, (data.train, data.valid, data.test))
    assert len(train | valid | test) == 450 + 50 + 650  # no frame twice
    assert [report.frames for report in data.reports] == [500, 650, 3]
    assert {tuple(report.used) for report in data.reports[:2]} == {("energy", "forces")}


def test_labels_are_in_eV(real):
    data = real("acac")
    check_molecule(data, FORMULA, 300)
    assert sorted(data.card["E0s"]) == [1, 6, 8]
    assert data.card["units"] == {"length": "Å", "energy": "eV", "forces": "eV/Å"}
    assert "5.1" in data.card["published"]  # MACE, which is trained against


def test_the_hotter_set_is_hotter(real):
    cold, hot = real("acac"), real("acac", train="600K")
    check_molecule(hot, FORMULA, 600)
    size = lambda data: np.sqrt(np.mean([s.properties.forces**2 for s in data.train]))
    assert size(hot) > 1.2 * size(cold)
    assert not geometries(cold.train) & geometries(hot.train)


def test_the_split_follows_the_seed(real):
    data, other = real("acac"), real("acac", n_valid=100, seed=1)
    assert counts(other) == (400, 100, 650)
    assert not geometries(data.valid) <= geometries(other.valid)


def test_a_test_set_that_is_not_here_is_named(real, dataset_folder):
    real("acac")
    if (dataset_folder / "acac" / "test_dihedral.xyz").exists():
        assert len(real("acac", test="dihedral").test) == 45
        return
    with pytest.raises(FileNotFoundError, match="no test_dihedral.xyz.*there: .*test_MD_300K.xyz"):
        acac(test="dihedral")


@pytest.mark.parametrize("options", [{"train": "300k"}, {"test": "300k"}])
def test_other_parts_are_refused(options):
    with pytest.raises(KeyError, match="acac has no part '300k'; did you mean '300K'"):
        acac(**options)
