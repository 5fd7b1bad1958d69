"""A packed file gives back what was written, block by block, and refuses what has no place."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from geojax.datasets import fingerprint, from_files, read
from geojax.datasets import packed as module
from geojax.datasets.formats import classes_of, iread
from geojax.datasets.packed import Chosen, Packed, is_packed, pack
from geojax.graphs import Properties, Structure, leaves
from tests.training.conftest import springs


def mixed() -> list[Structure]:
    """Molecules and a crystal, with labels that only some have."""
    found = springs(7)
    cell = np.diag([3.0, 4.0, 5.0])
    stress = np.eye(3) * 0.1
    labels = Properties(energy=-1.5, stress=stress, targets={"mu": np.array([1.0, 2.0])})
    pbc = (True, True, True)
    crystal = Structure(np.eye(3), np.array([1, 8, 1]), cell, pbc, properties=labels)
    return [*found, crystal, *springs(3, seed=5)]


@pytest.mark.parametrize("block", [1, 4, 256])
def test_everything_comes_back(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK", block)
    written = mixed()
    assert pack(tmp_path / "all.h5", written) == 11
    found = Packed(tmp_path / "all.h5")
    assert is_packed(tmp_path / "all.h5") and len(found) == 11
    assert fingerprint(found) == fingerprint(written)
    for a, b in zip(found, written, strict=True):
        assert leaves(a.properties).keys() == leaves(b.properties).keys()
        assert a.pbc == b.pbc and (a.cell is None) == (b.cell is None)
        assert a.species.dtype.kind == "i"
    assert found[-1].positions.tolist() == written[-1].positions.tolist()
    assert len(found[2:5]) == 3
    with pytest.raises(IndexError, match="has 11 structures; got index 11"):
        found[11]


def test_one_block_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK", 8)
    pack(tmp_path / "many.h5", springs(50))
    found, read = Packed(tmp_path / "many.h5"), []
    each = Packed._read
    monkeypatch.setattr(Packed, "_read", lambda self, b: read.append(b) or each(self, b))
    for i in range(50):
        assert len(found[i]) == (3, 4, 5)[i % 3]
        assert len(found._held) <= 8
    assert read == [0, 1, 2, 3, 4, 5, 6]


def test_inputs_and_remarks_come_back(tmp_path: Path):
    charges = {"charge": np.array([0.5, -0.5, 0.0])}
    info = {"config_type": "IsolatedAtom", "T": 300.0, "object": object()}
    pack(tmp_path / "a.h5", [Structure(np.eye(3), np.ones(3, int), inputs=charges, info=info)])
    (found,) = Packed(tmp_path / "a.h5")
    assert found.inputs["charge"].tolist() == [0.5, -0.5, 0.0]
    assert found.info == {"config_type": "IsolatedAtom", "T": 300.0}


def test_a_file_of_ones_own_is_streamed(tmp_path: Path):
    structures = springs(20)
    pack(tmp_path / "big.h5", structures)
    data = from_files(tmp_path / "big.h5", valid=4, test=2)
    assert isinstance(data.train, Chosen) and len(data.train) == 14
    assert isinstance(data.valid, tuple) and len(data.valid) == 4 and len(data.test) == 2
    every = [*data.train, *data.valid, *data.test]
    key = lambda s: s.positions.tobytes()
    assert sorted(map(key, every)) == sorted(map(key, structures))
    with pytest.raises(ValueError, match="has its names and units"):
        from_files(tmp_path / "big.h5", units={"energy": "Ha"})


def test_it_is_read_as_any_other_file(tmp_path: Path):
    written = mixed()
    pack(tmp_path / "all.h5", written)
    found = read(tmp_path / "all.h5")
    assert fingerprint(found.structures) == fingerprint(written)
    rows = {row.label: row.frames for row in found.report.rows}
    assert rows == {"energy": 11, "forces": 10, "stress": 1, "targets.mu": 1}
    with pytest.raises(ValueError, match="has its names and units; got keys, units"):
        read(tmp_path / "all.h5", keys={"energy": "E"}, units={"energy": "Ha"})


def test_isolated_atoms_are_set_apart(tmp_path: Path):
    info = {"config_type": "IsolatedAtom"}
    atom = lambda z, e: Structure(
        np.zeros((1, 3)), np.array([z]), properties=Properties(energy=e), info=info
    )
    pack(tmp_path / "big.h5", [*springs(6), atom(1, -13.5), atom(8, -400.0)])
    data = from_files(tmp_path / "big.h5", valid=2)
    assert data.card["E0s"] == {1: -13.5, 8: -400.0}
    assert len(data.train) == 4


def test_numbers_that_become_finer_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whole numbers first, as extended xyz writes a gap of zero; then others, in a later block."""
    monkeypatch.setattr("geojax.datasets.packed.BLOCK", 2)
    monkeypatch.setattr("geojax.datasets.packed.ROWS", 2)
    gaps = [np.int64(0), np.int64(3), np.int64(7), np.float32(1.5), 1.53, np.int64(2)]
    labelled = lambda gap: Properties(targets={"gap": np.asarray(gap)})
    pack(
        tmp_path / "gaps.h5",
        [Structure(np.eye(3), np.ones(3, int), properties=labelled(gap)) for gap in gaps],
    )
    found = [float(s.properties.targets["gap"]) for s in Packed(tmp_path / "gaps.h5")]
    assert found == [0, 3, 7, 1.5, 1.53, 2]


def folders_of_clouds(root: Path, *classes: str) -> str:
    for name in classes:
        (root / name).mkdir(parents=True)
        np.savetxt(root / name / "a.csv", np.eye(3), delimiter=",", header="x,y,z", comments="")
    return f"{root}/*/*.csv"


def test_classes_keep_their_names_and_numbers(tmp_path: Path):
    keys = {"targets.label": "*"}
    source = folders_of_clouds(tmp_path / "train", "bed", "chair", "desk")
    other = folders_of_clouds(tmp_path / "test", "bed", "desk")
    classes = classes_of(source, keys)
    pack(tmp_path / "c.h5", iread(source, keys=keys), classes=classes)
    assert Packed(tmp_path / "c.h5").classes == classes == ("bed", "chair", "desk")
    assert classes_of(tmp_path / "c.h5") == read(tmp_path / "c.h5").report.classes == classes
    data = from_files(tmp_path / "c.h5", valid=0)
    assert data.card["classes"] == list(classes)
    tested = read(other, keys=keys, classes=data.card["classes"]).structures
    assert [int(s.properties.targets["label"]) for s in tested] == [0, 2]

    pack(tmp_path / "fewer.h5", iread(other, keys=keys), classes=classes_of(other, keys))
    with pytest.raises(ValueError, match="bed, desk, and bed, chair, desk elsewhere"):
        from_files(tmp_path / "c.h5", valid=0, test=tmp_path / "fewer.h5")


def test_what_has_no_place_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one structure"):
        pack(tmp_path / "none.h5", [])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"ends in \.h5"):
        pack(tmp_path / "a.npz", springs(1))
    hessian = Properties(hessian=np.zeros((3, 3, 3, 3)))
    with pytest.raises(ValueError, match="no place for Hessians"):
        pack(tmp_path / "a.h5", [Structure(np.eye(3), np.ones(3, int), properties=hessian)])
    spin = Structure(np.eye(3), np.ones(3, int), inputs={"spin": np.ones(3)})
    with pytest.raises(ValueError, match="the same inputs; got both"):
        pack(tmp_path / "a.h5", [*springs(1), spin])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    assert not is_packed(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="says that its format is"):
        Packed(tmp_path / "other.h5")


def test_arrays_of_another_length_are_refused(tmp_path: Path):
    pack(tmp_path / "a.h5", springs(3))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["species"]
        file["species"] = np.ones(5, int)
    with pytest.raises(ValueError, match="species has 5 for 12"):
        Packed(tmp_path / "a.h5")
