import gzip
import json

import ase
import ase.io
import numpy as np
import pytest

from geojax.datasets.formats.extxyz import frame_text, records
from geojax.datasets.formats.labels import Record
from geojax.graphs import Structure

WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3:fixed:L:1 energy=-14.5 run=7 name="two words" pbc="F F F"
O 0.0 0.0 0.1 0.1 0.2 0.3 T
H 0.0 0.8 -0.5 0.0 0.0 0.0 F
H 0.0 -0.8 -0.5 -0.1 -0.2 -0.3 F
"""


def frames(tmp_path, text: str, name: str = "a.xyz") -> list[Record]:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = list(records(path))
    assert all(isinstance(record, Record) for record in found), found
    return found


def values(record: Record) -> dict:
    return {entry.key: entry.value for entry in record.entries}


def test_a_frame_is_read(tmp_path):
    (record,) = frames(tmp_path, WATER)
    assert record.where == f"{tmp_path}/a.xyz:1 (frame 0)"
    assert record.species.tolist() == [8, 1, 1]
    assert record.positions[1].tolist() == [0.0, 0.8, -0.5]
    found = values(record)
    assert found["energy"] == -14.5 and found["run"] == 7 and found["name"] == "two words"
    assert found["forces"][2].tolist() == [-0.1, -0.2, -0.3]
    assert found["fixed"].tolist() == [True, False, False]
    assert {e.key: e.kind for e in record.entries}["forces"] == "array"
    assert record.cell is None and not np.any(record.pbc)


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.replace("\n", "\r\n")])
@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz.gz"])
def test_windows_line_ends_and_gzip_change_nothing(tmp_path, change, name):
    first, second = frames(tmp_path, change(WATER + WATER), name)
    assert np.array_equal(first.positions, second.positions)
    assert values(second)["name"] == "two words"
    assert second.where.endswith(f"{name}:6 (frame 1)")


def test_empty_lines_between_frames_hide_nothing(tmp_path):
    assert len(frames(tmp_path, WATER + "\n\n" + WATER + "\n")) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a = -2e-3", -2e-3),
        ("a=T", True),
        ("a", True),
        ("a=false", False),
        ("a=300K_MD", "300K_MD"),
        ("a=1_0", "1_0"),
        ('a="1 2 3"', [1, 2, 3]),
        ("a=[1.5, 2.5]", [1.5, 2.5]),
        ("a={T F T}", [True, False, True]),
        ('a="_JSON [[1, 2], [3, 4]]"', [[1, 2], [3, 4]]),
        ("a=[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (r'a="say \"no\""', 'say "no"'),
        ("a='x=y z'", "x=y z"),
        ("a=1.0D+00", "1.0D+00"),
        ('"my key"=3', None),
    ],
)
def test_values_have_their_types(tmp_path, text, value):
    (record,) = frames(tmp_path, f"1\n{text} b=0\nHe 0 0 0\n")
    found = values(record)
    if value is None:
        assert found["my key"] == 3
        return
    assert np.array_equal(found["a"], value)
    assert np.asarray(found["a"]).dtype.kind == np.asarray(value).dtype.kind
    assert found["b"] == 0


def test_a_plain_remark_is_a_remark(tmp_path):
    (record,) = frames(tmp_path, "1\nit's converged, E = -5 Ha\nHe 0 0 0\n")
    assert values(record) == {"comment": "it's converged, E = -5 Ha"}


def test_a_lattice_alone_repeats_and_its_rows_are_vectors(tmp_path):
    (record,) = frames(tmp_path, '1\nLattice="1 2 3 4 5 6 7 8 10"\nHe 0 0 0\n')
    assert record.cell.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 10]]
    assert np.all(record.pbc)


def test_elements_are_symbols_in_any_case_or_numbers(tmp_path):
    (record,) = frames(tmp_path, "3\nx=1\nCL 0 0 0\nna 1 0 0\n6 2 0 0\n")
    assert record.species.tolist() == [17, 11, 6]
    (record,) = frames(tmp_path, "1\nProperties=Z:I:1:pos:R:3\n26 0 0 0\n")
    assert record.species.tolist() == [26]


def rattled(seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(
        rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-12, 6, (4, 3)),
        np.array([1, 6, 8, 0]),
        cell=np.eye(3) * 7 + rng.normal(size=(3, 3)),
        pbc=(True, True, False),
    )


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    structure = rattled()
    rng = np.random.default_rng(1)
    columns = {"v": rng.normal(size=(4, 3)), "q": np.arange(4), "single": np.float32([0.1] * 4)}
    pairs = {
        "e": rng.normal(),
        "text": 'quote " and \\ and [bracket]',
        "looks like a number": "007",
        "empty": "",
        "matrix": rng.normal(size=(2, 2)),
        "flag": True,
        "list": [1.5, 2.5],
    }
    (record,) = frames(tmp_path, frame_text(structure, columns, pairs))
    assert np.array_equal(record.positions, structure.positions)
    assert np.array_equal(record.species, structure.species)
    assert np.array_equal(record.cell, structure.cell)
    assert tuple(record.pbc) == structure.pbc
    found = values(record)
    for key, value in (columns | pairs).items():
        assert np.array_equal(found[key], value), key
        assert isinstance(found[key], str) == isinstance(value, str)


def test_ase_reads_what_is_written(tmp_path):
    structure = rattled(2)
    path = tmp_path / "a.xyz"
    path.write_text(frame_text(structure, {"v": structure.positions * 2}, {"e": 1.25, "s": "a b"}))
    atoms = ase.io.read(path)
    assert isinstance(atoms, ase.Atoms)
    assert np.array_equal(atoms.positions, structure.positions)
    assert np.array_equal(atoms.arrays["v"], structure.positions * 2)
    assert np.array_equal(atoms.cell[:], structure.cell)
    assert tuple(atoms.pbc) == structure.pbc
    assert atoms.info == {"e": 1.25, "s": "a b"}


def test_what_ase_writes_is_read(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 3)).round(8)
    atoms = ase.Atoms("CuO2", x, cell=np.eye(3) * 5, pbc=(True, False, True))
    atoms.info |= {"n": 3, "x": 0.1, "s": "a b", "v": np.arange(3), "m": rng.normal(size=(2, 2))}
    atoms.info |= {"j": {"deep": [1, 2]}, "flag": True}
    atoms.set_array("charge", np.array([1.0, -0.5, -0.5]))
    ase.io.write(tmp_path / "a.xyz", [atoms, atoms], format="extxyz")
    for record in frames(tmp_path, (tmp_path / "a.xyz").read_text()):
        assert np.array_equal(record.positions, atoms.positions)
        assert record.species.tolist() == [29, 8, 8]
        assert list(record.pbc) == [True, False, True]
        found = values(record)
        assert found["j"] == {"deep": [1, 2]}
        for key in ("n", "x", "s", "v", "m", "flag"):
            assert np.array_equal(found[key], atoms.info[key]), key
        assert found["charge"].tolist() == [1.0, -0.5, -0.5]


def test_json_with_text_is_kept(tmp_path):
    text = json.dumps({"a": "b"}).replace('"', '\\"')
    (record,) = frames(tmp_path, f'1\nPROV="_JSON {text}"\nHe 0 0 0\n')
    assert values(record) == {"PROV": {"a": "b"}}
