"""Ethanol of rMD17: 1000 frames at 500 K, split by count."""

import pytest

from geojax.datasets import rmd17_ethanol
from tests.datasets.molecules import check_molecule, counts, geometries


def test_frames_are_split_by_count(real):
    assert counts(real("rmd17-ethanol")) == (950, 50, 0)
    data = real("rmd17-ethanol", n_valid=50, n_test=200)
    assert counts(data) == (750, 50, 200)
    assert len(geometries([*data.train, *data.valid, *data.test])) == 1000  # no frame twice
    assert data.reports[0].used == {"energy": 1000, "forces": 1000}


def test_labels_are_in_eV(real):
    check_molecule(real("rmd17-ethanol"), {1: 6, 6: 2, 8: 1}, 500)
    assert "PBE/def2-SVP" in real("rmd17-ethanol").card["level"]


def test_the_test_set_is_named_where_it_is_missing(real, dataset_folder):
    real("rmd17-ethanol")
    if (dataset_folder / "rmd17_ethanol" / "test_MD.xyz").exists():
        assert counts(real("rmd17-ethanol", test="MD")) == (950, 50, 1000)
        return
    with pytest.raises(FileNotFoundError, match="no test_MD.xyz in .*n_test instead; there: .*tra"):
        rmd17_ethanol(test="MD")


def test_other_test_sets_are_refused():
    with pytest.raises(KeyError, match="no test set 'md'; did you mean 'MD'"):
        rmd17_ethanol(test="md")
