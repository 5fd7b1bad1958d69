"""Files: every bad input is refused in words, or read with what was wrong in the report.

Each row names its input; its pattern holds where it is, the rule, what was received and what to do.
"""

import gzip
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest

from geojax.datasets import from_ase, from_files, read

COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"
LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5" '
ROWS = ("O 0 0 0 0 0 0.1", "H 0 0 1 0 0 -0.1")


def xyz(*more: str, rows=ROWS, header: str = COLUMNS, count: int | None = None) -> str:
    """One frame; `more` stands at the end of its comment line."""
    comment = " ".join([header, *more])
    return "\n".join([str(len(rows) if count is None else count), comment, *rows]) + "\n"


def with_row(row: str) -> str:
    return xyz("energy=-1", rows=(ROWS[0], row))


def with_cell(numbers: str) -> str:
    return xyz(f'Lattice="{numbers}"')


FRAME = xyz("energy=-1.5")
# fmt: off
REFUSED: dict[str, tuple[str | bytes, str]] = {  # content of a.xyz, the message
    "NaN position": (
        FRAME + with_row("H 0 nan 1 0 0 0"),
        r"a.xyz:5 \(frame 1\): positions must be finite; .* is nan \(atom 1, axis y\); repair it"),
    "infinite position": (
        with_row("H inf 0 1 0 0 0"),
        r"a.xyz:1 \(frame 0\): positions must be finite; .* is inf \(atom 1, axis x\); repair it"),
    "NaN in an energy": (
        xyz("energy=nan"), r"a.xyz:1 .*a label is finite; energy has nan; .*skip_bad=True"),
    "NaN in forces": (
        with_row("H 0 0 1 0 nan 0"),
        r"a label is finite; forces has nan at \[1, 1\] \(atom 1, axis y\); take the frame out"),
    "empty Atoms": (
        FRAME + "0\nenergy=1\n",
        r"a.xyz:5 \(frame 1\): a structure has at least one atom; .*none; .* skip_bad=True"),
    "empty dataset": ("", "a.xyz: a file holds at least one structure; .* none; write it again"),
    "unknown element": (
        with_row("Xx 0 0 1 0 0 0"),
        "a.xyz:4: an element is given by its symbol or .*; got 'Xx'; write one of H to Og"),
    "pbc without cell": (
        xyz('pbc="T T T"'),
        r"needs its cell; got pbc \(True, True, True\) and no cell; give the lattice vectors"),
    "zero volume": (
        with_cell("5 0 0 10 0 0 0 0 5"), "the cell is singular: .*volume 0 Å³.*; give vectors"),
    "one zero vector with pbc in it": (
        with_cell("5 0 0 0 0 0 0 0 5"), "the cell is singular: .*volume 0 Å³.*or set pbc to False"),
    "NaN cell": (
        with_cell("5 0 0 0 nan 0 0 0 5"), r"cell must be finite; entry \[1, 1\] is nan; repair it"),
    "cell of eight numbers": (
        with_cell("5 0 0 0 5 0 0 0"), "a.xyz:2: a Lattice is 9 numbers; got array"),
    "stress against virials": (
        xyz(LATTICE, 'stress="1 1 1 0 0 0"', 'virials="125 125 125 0 0 0"'),
        r"one label has one value; stress is there twice \(stress and virials\).*; name the right"),
    "stress that is not symmetric": (
        xyz(LATTICE, 'stress="1 2 3 4 5 6 7 8 9"'),
        "a stress is symmetric; stress differs .* by 4; got .*; check the order of its entries"),
    "stress of five numbers": (
        xyz(LATTICE, 'stress="1 2 3 4 5"'),
        r"a stress is 6 numbers .*; stress has shape \[5\]; write it in one of these forms"),
    "truncated in the atoms": (
        FRAME + xyz(count=3),
        r"a.xyz:5 \(frame 1\): the frame says 3 atoms and the file ends after 2; .* restore it"),
    "truncated in the header": (
        "2\n", "the frame says 2 atoms and the file ends after 0; it was cut off; restore it, or"),
    "too many atoms for the count": (
        xyz(count=1),
        r"a.xyz:4 \(frame 1\): a frame begins with its number of atoms; got 'H 0 .* correct"),
    "too few atoms for the count": (
        xyz(count=3) + FRAME,
        "a.xyz:5: an atom has 7 columns .*; got 1: '2'; the frame of line 1 says 3 atoms; correct"),
    "binary file": (
        bytes(range(256)), "a.xyz: extended xyz is text .*; .*can't decode byte.*; the file"),
    "****": (
        with_row("H 0 0 ******** 0 0 0"),
        r"a.xyz:4: pos is a real number; got '\*{8}' \(atom 1\); .* repair what an overflowing"),
    "1.0D+00 in a column": (
        with_row("H 0 0 1.0D+00 0 0 0"),
        r"a.xyz:4: pos is a real number; got '1.0D\+00' \(atom 1\); write 1.0E\+00 for 1.0D\+00"),
    "1.0D+00 in a label": (
        xyz("energy=-1.0D+00"),
        r"energy must be numbers; got '-1.0D\+00'; write 1.0E\+00 for 1.0D\+00"),
    "duplicate keys": (
        xyz("energy=-1", "energy=-2"),
        "a.xyz:2: a key has one value; 'energy' is there with -1 and -2; keep one of them"),
    "duplicate columns": (
        xyz(header=COLUMNS + ":forces:R:3"),
        r"a.xyz:2: a column is there once; Properties have \['forces'\] twice; rename one"),
    "open quote": (
        xyz('name="two words'), "a comment line is key=value pairs; cannot read .*is a quote or"),
    "forces Nx2": (
        xyz(header="Properties=species:S:1:pos:R:3:forces:R:2", rows=["O 0 0 0 0 0"]),
        r"forces have shape \[1, 3\]; forces has \[1, 2\]; write three components"),
    "positions Nx2": (
        xyz(header="Properties=species:S:1:pos:R:2", rows=["O 0 0"]),
        "a.xyz:2: Properties need the positions; got species, pos; write them as pos:R:3"),
    "complex label": (xyz("energy=1+2j"), r"energy must be numbers; got '1\+2j'; write"),
    "energy of two numbers": (
        xyz('energy="1 2"'), r"an energy is one number; energy has shape \[2\]; name the key"),
    "a column is missing in a row": (
        with_row("H 0 0 1 0 0"), "a.xyz:4: an atom has 7 columns .*; got 6: 'H 0 0 1 0.*correct"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused(tmp_path, name):
    content, pattern = REFUSED[name]
    path = tmp_path / "a.xyz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=pattern):
        read(path)


# The frames of these files can be told apart, so the good ones can be kept.
SKIPPED = [
    "NaN position",
    "NaN in an energy",
    "NaN in forces",
    "empty Atoms",
    "unknown element",
    "pbc without cell",
    "zero volume",
    "NaN cell",
    "stress against virials",
    "truncated in the atoms",
    "****",
    "1.0D+00 in a column",
    "duplicate keys",
    "forces Nx2",
]


@pytest.mark.parametrize("name", SKIPPED)
def test_bad_frames_are_left_out_counted_and_listed_if_asked(tmp_path, name):
    content, pattern = REFUSED[name]
    bad = str(content).removeprefix(FRAME)
    (tmp_path / "a.xyz").write_text(FRAME + FRAME + bad)
    structures, report = read(tmp_path / "a.xyz", skip_bad=True)
    assert len(structures) == 2 == report.frames
    (reason,) = report.rejected
    line = int(reason.split("a.xyz:")[1].split()[0].split(":")[0])
    assert 9 <= line <= 12  # of the third frame


# fmt: off
OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "named key that is not there": (
        {"keys": {"energy": "REF_energy"}}, ValueError,
        "the key 'REF_energy' was named for 'energy' and no frame has it; did you mean 'energy'"),
    "named key of wrong case": (
        {"keys": {"energy": "Energy"}}, ValueError,
        "the key 'Energy' was named .*; did you mean 'energy'. known: energy, forces"),
    "unknown label": (
        {"keys": {"force": "forces"}}, KeyError,
        "there is no label 'force'; did you mean 'forces'"),
    "missing input": (
        {"inputs": {"charges": "q"}}, ValueError,
        "the input 'charges' is read from 'q'; there are: energy, forces"),
    "unknown unit": (
        {"units": {"energy": "kcal"}}, KeyError,
        "units are stated by a known name; got 'kcal'; did you mean 'kcal/mol'.*known: .*Ha"),
    "unit of another dimension": (
        {"units": {"energy": "kbar"}}, ValueError,
        r"of one dimension convert; got 'kbar' \(pressure\) and 'eV' .*; name a unit of energy"),
    "unit of what has none": (
        {"units": {"Forces": "eV/Å"}}, KeyError,
        "units are stated of positions and of labels.*; got 'Forces'; did you mean 'forces'"),
}
# fmt: on


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_fit_the_file_are_refused(tmp_path, name):
    options, kind, pattern = OPTIONS[name]
    (tmp_path / "a.xyz").write_text(FRAME)
    with pytest.raises(kind, match=pattern):
        read(tmp_path / "a.xyz", **options)


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


# fmt: off
KINDS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "truncated gzip": (
        "a.xyz.gz", lambda path: path.write_bytes(gzip.compress(FRAME.encode() * 99)[:90]),
        "extended xyz is text .*ended before the end-of-stream marker.*; the file is damaged"),
    "text named gzip": (
        "a.xyz.gz", lambda path: path.write_text(FRAME),
        "extended xyz is text .*; Not a gzipped file .*; the file is damaged or of another format"),
    "garbage named npz": (
        "a.npz", lambda path: path.write_bytes(bytes(range(256))),
        "this is no npz file of plain arrays; .*save plain arrays"),
    "pickle in npz": (
        "a.npz", lambda path: path.write_bytes(npz(z=[8], R=np.array([{"a": 1}], dtype=object))),
        "this is no npz file of plain arrays; .*pickled objects are not read, save plain arrays"),
    "pickle named npz": (
        "a.npz", lambda path: path.write_bytes(pickle.dumps({"R": [1]})),
        "this is no npz file of plain arrays; .*pickled objects are not read, save plain arrays"),
    "garbage named HDF5": (
        "a.h5", lambda path: path.write_bytes(bytes(range(256))),
        "this is no HDF5 file; .*; it is damaged or of another format"),
    "garbage named database": (
        "a.db", lambda path: path.write_bytes(bytes(range(256))),
        "this is no ASE database; .*; it is damaged or of another format"),
    "garbage named database on LMDB": (
        "a.aselmdb", lambda path: path.write_bytes(bytes(range(256))),
        "this is no ASE database; .*; it is damaged or of another format"),
    "unknown kind of file": (
        "a.xzy", lambda path: path.write_text(FRAME),
        "told by the end of its name; did you mean '.xyz'"),
    "units not stated": (
        "A.NPZ",  # also where the name is in capitals
        lambda path: path.write_bytes(npz(z=[8], R=np.zeros((1, 1, 3)), E=[1.0])),
        "files of arrays do not say their units and none is guessed; state those of energy, pos"),
}
# fmt: on


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_of_files_are_refused(tmp_path, name):
    file, make, pattern = KINDS[name]
    make(tmp_path / file)
    with pytest.raises(ValueError, match=pattern):
        read(tmp_path / file)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a.xyz", "structures are read from a file; there is none at .*a.xyz; check the path"),
        (".", r"structures are read from files; .* is a folder; name its files, .*/\*\.xyz"),
        ("*.xyz", r"structures are read from files; none matches .*\*\.xyz"),
    ],
)
def test_files_that_are_not_there_are_named(tmp_path, name, pattern):
    with pytest.raises(FileNotFoundError, match=pattern):
        read(tmp_path / name)


SEEN: dict[str, tuple[str, str]] = {  # content, what the report says
    "other key": (xyz("my_energy=-1"), "did you mean energy.*keys={'energy': 'my_energy'}"),
    "wrong case": (xyz("Energy=-1"), "did you mean energy.*keys={'energy': 'Energy'}"),
    "stress of a molecule": (
        xyz('stress="1 1 1 0 0 0"'),
        "not used: stress needs three lattice vectors that repeat",
    ),
    "kbar for eV/Å³": (
        xyz(LATTICE, 'stress="30 30 30 0 0 0"'),
        r"the largest stress is 30 eV/Å³: is it kbar or GPa",
    ),
    "forces in other units": (
        xyz(rows=["O 0 0 0 900 900 900", "H 0 0 1 -900 -900 -900"]),
        "half of the force components exceed 900 eV/Å: other units",
    ),
    "energies of two methods": (
        xyz("energy=-10") + xyz("energy=-2000"),
        "energies of one composition differ by 995 eV per atom: other units, or different methods",
    ),
    "very close atoms": (
        xyz(rows=["O 0 0 0 0 0 0", "H 0 0 0.2 0 0 0"]),
        r"1 structures have atoms nearer than 0.3 Å; first: .*a.xyz:1 \(frame 0\)",
    ),
    "two atoms at one place": (
        FRAME + xyz(rows=["O 0 0 0 0 0 0", "H 0 0 0 0 0 0"]),
        r"1 structures have atoms nearer than 0.3 Å; first: .*a.xyz:5 \(frame 1\)",
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_is_suspicious_is_read_as_it_is_and_reported(tmp_path, name):
    content, pattern = SEEN[name]
    (tmp_path / "a.xyz").write_text(content)
    _, report = read(tmp_path / "a.xyz")
    said = [*(row.remark for row in report.rows), *report.suspicions]
    assert len([text for text in said if re.search(pattern, text)]) == 1


ATOMS: dict[str, tuple[Callable[[], ase.Atoms], str]] = {
    "NaN position": (
        lambda: ase.Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]),
        r"ase.Atoms: positions must be finite; .* is nan \(atom 1, axis z\); repair it",
    ),
    "pbc without cell": (
        lambda: ase.Atoms("H", [[0, 0, 0]], pbc=True),
        "ase.Atoms: a periodic structure needs its cell; got pbc .* and no cell; give the lattice",
    ),
    "empty Atoms": (ase.Atoms, "ase.Atoms: a structure has at least one atom; this one has none"),
    "labels of wrong shape": (
        lambda: ase.Atoms("H", [[0, 0, 0]], info={"energy": np.ones(3)}),
        r"ase.Atoms: an energy is one number; energy has shape \[3\]; name the key",
    ),
}


@pytest.mark.parametrize("name", ATOMS)
def test_atoms_are_refused(name):
    make, pattern = ATOMS[name]
    with pytest.raises(ValueError, match=pattern):
        from_ase(make())


@pytest.mark.parametrize("valid", [1.0, 3, 7], ids=["all as fraction", "all", "more than all"])
def test_an_empty_split_is_refused(tmp_path, valid):
    (tmp_path / "a.xyz").write_text(FRAME * 3)
    with pytest.raises(ValueError, match=r"parts are counts .*, not empty.*; got .* of 3 structu"):
        from_files(tmp_path / "a.xyz", valid=valid)


# What looks bad and is not


def test_partial_labels_are_kept_frame_by_frame(tmp_path):
    bare = xyz(header="Properties=species:S:1:pos:R:3", rows=["O 0 0 0"])
    (tmp_path / "a.xyz").write_text(FRAME + bare + xyz())
    structures, report = read(tmp_path / "a.xyz")
    assert [s.properties.energy is None for s in structures] == [False, True, True]
    assert [s.properties.forces is None for s in structures] == [False, True, False]
    assert report.used == {"energy": 1, "forces": 2}


def test_single_atoms_and_slabs_are_structures(tmp_path):
    atom = xyz("energy=-1", rows=ROWS[:1])
    slab = xyz('Lattice="5 0 0 0 5 0 0 0 0"', 'pbc="T T F"')
    (tmp_path / "a.xyz").write_text(atom + slab)
    (one, flat), _ = read(tmp_path / "a.xyz")
    assert len(one) == 1 and one.cell is None
    assert flat.pbc == (True, True, False)
    assert flat.volume == pytest.approx(25.0)  # c has been completed


def test_equal_values_of_one_key_and_windows_line_ends_do_no_harm(tmp_path):
    text = xyz("energy=-1.5", "energy=-1.5").replace("\n", "\r\n")
    (tmp_path / "a.xyz").write_bytes(text.encode())
    assert read(tmp_path / "a.xyz").structures[0].properties.energy == -1.5


@pytest.mark.parametrize("name", ["with space.xyz", "wässrig-水.xyz", "link.xyz", "~/home.xyz"])
def test_any_path_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ("target.xyz" if name == "link.xyz" else name.removeprefix("~/"))).write_text(FRAME)
    if name == "link.xyz":
        (tmp_path / name).symlink_to(tmp_path / "target.xyz")
    path = name if name.startswith("~") else tmp_path / name
    assert len(read(path).structures) == 1


def test_the_locale_does_not_matter(tmp_path):
    """Text is UTF-8 and numbers have points, wherever the process runs."""
    (tmp_path / "a.xyz").write_text(xyz("energy=-1.5", 'name="Wässrig, 水"'), encoding="utf-8")
    code = (
        "import sys; from geojax.datasets.formats.extxyz import records\n"
        "from pathlib import Path; (frame,) = records(Path(sys.argv[1]))\n"
        "print([ascii(entry.value) for entry in frame.entries if entry.kind == 'info'])"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.xyz")],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == """['-1.5', "'W\\\\xe4ssrig, \\\\u6c34'"]"""
