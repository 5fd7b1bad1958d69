"""Splits, data sets by name and data sets from files of one's own."""

import numpy as np
import pytest

from geojax.datasets import (
    DATASETS,
    Dataset,
    fingerprint,
    folder,
    from_files,
    load,
    split,
    structure_of,
    structures_of,
    write,
)
from geojax.datasets.dataset import existing, isolated_energies
from geojax.graphs import Properties, Structure
from geojax.units import HARTREE


def atom(z: int = 1, energy: float | None = -13.6, **info) -> Structure:
    return Structure(np.zeros((1, 3)), np.array([z]), properties=Properties(energy), info=info)


def dimers(n: int) -> list[Structure]:
    x = lambda i: np.array([[0.0, 0, 0], [0, 0, 0.7 + 0.01 * i]])
    return [
        Structure(x(i), np.array([1, 1]), properties=Properties(-30.0 - i), info={"number": i})
        for i in range(n)
    ]


def numbers(part) -> list[int]:
    return [s.info["number"] for s in part]


def test_all_data_sets_have_names():
    names = ("3bpa", "acac", "ethanol", "furniture", "mlearn", "nbody", "qm9", "rmd17-ethanol")
    clouds = ("outdoor-scans", "partial-overlap", "broken-shapes", "tetris")
    assert {*names, *clouds} <= set(DATASETS)


def test_load_passes_options_and_refuses_others():
    assert len(load("tetris", copies=2).test) == 16
    with pytest.raises(KeyError, match="'tetris' has no option 'copy'; did you mean 'copies'"):
        load("tetris", copy=2)
    with pytest.raises(KeyError, match="there is no dataset 'ethanl'; did you mean 'ethanol'"):
        load("ethanl")


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ([-1, 3], (7, 3)),
        ([0.5, 0.25], (5, 2)),
        ([-1, 0.1, 0], (9, 1, 0)),
        ([4, -1, 2], (4, 4, 2)),
        ([1.0], (10,)),
    ],
)
def test_parts_have_their_sizes_and_share_nothing(sizes, counts):
    parts = split(dimers(10), sizes)
    assert tuple(map(len, parts)) == counts
    found = [n for part in parts for n in numbers(part)]
    assert len(found) == len(set(found))
    assert all(numbers(part) == sorted(numbers(part)) for part in parts)


def test_splits_follow_the_seed_alone():
    every = dimers(20)
    valid = lambda seed: numbers(split(every, [-1, 5], seed)[1])
    assert valid(0) == valid(0)
    assert len({tuple(valid(seed)) for seed in range(4)}) == 4


@pytest.mark.parametrize("sizes", [[-1, 10], [-1, -1], [11], [0.001], [-2, 3]])
def test_parts_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match=r"parts are counts or fractions.* of 10 structures"):
        split(dimers(10), sizes)


def test_a_data_set_has_training_structures():
    with pytest.raises(ValueError, match="has training structures; 'mine' has none"):
        Dataset("mine", ())


def test_files_make_a_data_set(tmp_path):
    write(tmp_path / "mine.xyz", [*dimers(10), atom(config_type="IsolatedAtom")])
    write(tmp_path / "test.xyz", dimers(3))
    data = from_files(tmp_path / "mine.xyz", valid=2, test=tmp_path / "test.xyz")
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 2, 3)
    assert data.name == "mine" and data.card["E0s"] == {1: -13.6}
    assert [report.source for report in data.reports] == ["mine.xyz", "test.xyz"]
    assert not set(numbers(data.train)) & set(numbers(data.valid))


def test_folders_of_classes_make_a_data_set(tmp_path):
    for part, kinds in (("train", "abc"), ("test", "cb")):
        for kind in kinds:
            folder = tmp_path / "shapes" / kind / part
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.xyz").write_text("0 0 0\n2 0 0\n")
    pattern = str(tmp_path / "shapes" / "*" / "{}" / "*.xyz")
    data = from_files(
        pattern.format("train"),
        test=pattern.format("test"),
        valid=0,
        keys={"targets.label": "*"},
        unit_ball=True,
    )
    assert data.name == "shapes" and data.card["classes"] == ["a", "b", "c"]
    assert [int(s.properties.targets["label"]) for s in data.test] == [1, 1, 2, 2]
    assert data.train[0].positions[0, 0] == -1 and data.card["unit_ball"] is True


def test_several_files_make_a_data_set(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.xyz", dimers(4))
    data = from_files([tmp_path / "a.xyz", tmp_path / "b.xyz"], valid=[tmp_path / "c.xyz"])
    assert (len(data.train), len(data.valid), data.name) == (8, 4, "a")


def test_a_file_may_give_the_isolated_atoms(tmp_path):
    write(tmp_path / "mine.xyz", dimers(10))
    write(tmp_path / "atoms.xyz", [atom(energy=-13.5)])
    data = from_files(tmp_path / "mine.xyz", E0s=tmp_path / "atoms.xyz", name="hydrogen")
    assert data.card["E0s"] == {1: -13.5} and data.name == "hydrogen"
    assert from_files(tmp_path / "mine.xyz").card["E0s"] is None
    with pytest.raises(
        ValueError, match="file of isolated atoms; got 'average'; .* \\[train\\] E0s"
    ):
        from_files(tmp_path / "mine.xyz", E0s="average")


def test_keys_and_units_are_those_of_the_isolated_atoms_too(tmp_path):
    lines = "1\nProperties=species:S:1:pos:R:3 dft={}\nH 0 0 0\n"
    (tmp_path / "mine.xyz").write_text("".join(lines.format(e) for e in (-0.5, -0.4, -0.3)))
    (tmp_path / "atoms.xyz").write_text(lines.format(-0.5))
    data = from_files(
        tmp_path / "mine.xyz",
        valid=1,
        E0s=tmp_path / "atoms.xyz",
        keys={"energy": "dft"},
        units={"energy": "Ha"},
    )
    assert data.card["E0s"] == {1: pytest.approx(-0.5 * HARTREE)}


def test_single_atoms_that_are_not_marked_are_trained_on(tmp_path):
    write(tmp_path / "mine.xyz", [*dimers(3), atom(number=3)])
    data = from_files(tmp_path / "mine.xyz", valid=0)
    assert len(data.train) == 4 and data.card["E0s"] is None


def test_isolated_atoms_have_one_energy_each():
    assert isolated_energies([atom(1, -13.6), atom(8, -2041.0)]) == {1: -13.6, 8: -2041.0}
    with pytest.raises(ValueError, match="one energy; H has -13.6 and -13.5 eV"):
        isolated_energies([atom(1, -13.6), atom(1, -13.5)])
    with pytest.raises(ValueError, match="got 2 atoms, energy -30.0"):
        isolated_energies(dimers(1))
    with pytest.raises(ValueError, match=r"got 1 atoms, energy None \(a.xyz:4\)"):
        isolated_energies([atom(energy=None, origin="a.xyz:4")])


def test_the_folder_of_public_data(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("GEOJAX_DATA", str(tmp_path))
    assert folder("mine") == tmp_path / "mine"
    with pytest.raises(FileNotFoundError, match="there is no 'yours' in .*set GEOJAX_DATA to the"):
        folder("yours")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GEOJAX_DATA", "~")
    assert folder("mine") == tmp_path / "mine"
    monkeypatch.delenv("GEOJAX_DATA")
    with pytest.raises(FileNotFoundError, match="GEOJAX_DATA is not set"):
        folder("no data set has this name")


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    (tmp_path / "train.xyz").touch()
    assert existing(tmp_path / "train.xyz", "why") == tmp_path / "train.xyz"
    with pytest.raises(FileNotFoundError, match="no test.xyz in .*; ask for it; there: train.xyz"):
        existing(tmp_path / "test.xyz", "ask for it")


def test_every_number_and_the_order_are_in_the_fingerprint():
    frames = dimers(3)
    changed = [
        frames[::-1],
        frames[:2],
        [*frames[:2], frames[2].replace(positions=frames[2].positions + 1e-12)],
        [*frames[:2], frames[2].replace(species=np.array([1, 2]))],
        [*frames[:2], frames[2].replace(properties=Properties(-31.0))],
        [*frames[:2], frames[2].replace(inputs={"charges": np.zeros(2)})],
        [*frames[:2], frames[2].replace(cell=np.eye(3) * 9, pbc=(True, True, True))],
    ]
    assert fingerprint(frames) == fingerprint(dimers(3))
    assert len({fingerprint(frames), *map(fingerprint, changed)}) == 1 + len(changed)


def test_structures_are_of_a_file_or_of_a_split(tmp_path):
    write(tmp_path / "a.xyz", dimers(3))
    found, to_fit = structures_of(str(tmp_path / "a.xyz"), "valid")
    assert numbers(found) == numbers(to_fit) == [0, 1, 2]
    assert structure_of(str(tmp_path / "a.xyz"), -1).info["number"] == 2
    found, to_fit = structures_of("tetris", "valid")
    assert len(found) == len(load("tetris").valid)
    assert len(to_fit) == len(load("tetris").train)
    with pytest.raises(ValueError, match="a.xyz has 3 structures; got index 3"):
        structure_of(str(tmp_path / "a.xyz"), 3)
    with pytest.raises(FileNotFoundError, match="there is none at none.xyz"):
        structure_of("none.xyz", 0)
    with pytest.raises(KeyError, match="no split 'tset'; did you mean 'test'"):
        structures_of("tetris", "tset")
    with pytest.raises(ValueError, match="says itself how it is read; got points for 'tetris'"):
        structures_of("tetris", "valid", inputs={}, points=5)
    with pytest.raises(KeyError, match="there is no dataset 'tetriss'"):
        structures_of("tetriss")
