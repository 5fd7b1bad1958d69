"""3BPA: 500 frames of C12H12N2O at 300 K; the test set is said to be a stand-in."""

import numpy as np
import pytest

from geojax.datasets import threebpa
from tests.datasets.molecules import check_molecule, counts

FORMULA = {1: 12, 6: 12, 7: 2, 8: 1}


def test_the_stand_in_holds_no_training_frame(real):
    data = real("3bpa")
    assert counts(data) == (450, 50, 167 - 31)  # 31 of its 167 frames are training frames
    assert data.card["test"] == "stand-in, not the published test set"
    known = np.array([s.positions for s in (*data.train, *data.valid)])
    for s in data.test:
        assert np.abs(known - s.positions).max((1, 2)).min() > 1e-3


def test_labels_are_in_eV(real):
    data = real("3bpa")
    check_molecule(data, FORMULA, 300)
    assert sorted(data.card["E0s"]) == [1, 6, 7, 8]
    assert data.train[0].info["dihedrals"].shape == (3,)  # [degree], a remark and no label


def test_published_test_sets_are_named_where_they_are_missing(real, dataset_folder):
    real("3bpa")
    if (dataset_folder / "3bpa" / "test_600K.xyz").exists():
        assert real("3bpa", test="600K").card["test"] == "600K"
        return
    with pytest.raises(FileNotFoundError, match="no test_600K.xyz in .*; take test='stand-in'"):
        threebpa(test="600K")


def test_other_test_sets_are_refused():
    with pytest.raises(KeyError, match="no test set '300 K'; did you mean '300K'"):
        threebpa(test="300 K")
