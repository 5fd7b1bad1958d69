"""The bundled set: its frames, its splits by run, and the agreement of its files."""

import importlib
import shutil

import pytest

from geojax.assets import folder
from geojax.datasets import Dataset, ethanol
from tests.datasets.molecules import check_molecule, counts, geometries


@pytest.fixture(scope="module")
def data() -> Dataset:
    return ethanol()


def test_a_thousand_labelled_frames(data):
    assert counts(data) == (671, 125, 210)
    every = [*data.train, *data.valid, *data.test]
    assert len(geometries(every)) == len(every) >= 1000  # no frame twice
    assert [report.used for report in data.reports[:3]] == [
        {"energy": n, "forces": n} for n in counts(data)
    ]
    assert data.card["licence"] == "Apache-2.0" and "PBE/def2-SVP" in data.card["level"]


def test_labels_are_in_eV(data):
    check_molecule(data, {1: 6, 6: 2, 8: 1}, 450)
    assert sorted(data.card["E0s"]) == [1, 6, 8]
    assert data.card["units"]["forces"] == "eV/Å"


def test_no_run_is_in_two_splits(data):
    runs = [{int(s.info["run"]) for s in part} for part in (data.train, data.valid, data.test)]
    assert [len(part) for part in runs] == [32, 6, 10]
    assert len(set.union(*runs)) == 48
    for part in (data.train, data.valid, data.test):
        assert {s.info["temperature"] for s in part} == {300.0, 450.0, 600.0}


def test_any_prefix_is_a_fair_sample(data):
    first = ethanol(n_train=32)
    assert geometries(first.train) == geometries(data.train[:32])
    assert {int(s.info["run"]) for s in first.train} == {int(s.info["run"]) for s in data.train}
    assert counts(first)[1:] == counts(data)[1:]


@pytest.mark.parametrize("n_train", [0, 672])
def test_counts_out_of_range_are_refused(n_train):
    with pytest.raises(ValueError, match=f"n_train is 1 to 671, .*; got {n_train}"):
        ethanol(n_train=n_train)


def test_files_that_disagree_are_refused(tmp_path, monkeypatch):
    place = shutil.copytree(folder("data") / "ethanol", tmp_path / "ethanol")
    for part in ("train", "valid", "test"):
        path = place / f"{part}.xyz"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:11]))  # one frame
    facts = (place / "data.toml").read_text()
    (place / "data.toml").write_text(facts.replace("H = -13.56840666", "H = -13.6"))
    module = importlib.import_module("geojax.datasets.ethanol")
    monkeypatch.setattr(module, "folder", lambda name: tmp_path)
    with pytest.raises(ValueError, match="state different energies of isolated atoms.*again"):
        ethanol()
