"""What people are shown of a data set or a file."""

import io

import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import inspect_data, write
from geojax.graphs import Properties, Structure


def shown(source, **options) -> list[str]:
    console = Console(width=180, file=io.StringIO(), record=True)
    console.print(inspect_data(source, **options))
    return console.export_text().splitlines()


def cells(lines: list[str], first: str) -> list[str]:
    """The one row of a table whose first cell is that."""
    rows = [[cell.strip() for cell in x.strip("│ ").split("│")] for x in lines if "│" in x]
    (row,) = [row for row in rows if row[0] == first]
    return row


def test_a_data_set_by_name():
    lines = shown("tetris", copies=2)
    assert cells(lines, "train") == ["train", "8", "4", "points", "FFF"]
    assert cells(lines, "valid")[1] == "16"
    assert cells(lines, "targets.label")[1:5] == ["40", "0", "3.5", "7"]
    assert any("Thomas et al." in line for line in lines)


def test_a_file(tmp_path):
    labels = [Properties(energy=e, forces=np.full((2, 3), f)) for e, f in ((-4.0, 1.0), (-8.0, -3))]
    x = np.array([[0.0, 0, 0], [0, 0, 1.1]])
    pair = [
        Structure(x, np.array([6, 8]), properties=p, info={"[odd]": 1}, cell=np.eye(3), pbc=pbc)
        for p, pbc in zip(labels, [(False,) * 3, (True,) * 3], strict=True)
    ]
    write(tmp_path / "a.xyz", [*pair, Structure(x[:1], np.array([1]))])
    lines = shown(tmp_path / "a.xyz")
    assert cells(lines, "structures") == ["structures", "3", "1 to 2", "H C O", "FFF, TTT"]
    energy = ["energy per atom", "2", "-4", "-3", "-2", "1", "eV"]
    assert cells(lines, "energy per atom") == energy
    assert cells(lines, "forces")[1:] == ["2", "-3", "-1", "1", "2", "eV/Å"]
    assert cells(lines, "[odd]")[3] == "ignored"
    assert cells(lines, "REF_forces")[:4] == ["REF_forces", "array", "2", "forces"]


def test_inputs_have_their_unit(real):
    real("nbody", n_train=10)  # skips where the set is not here
    lines = shown("nbody", n_train=10)
    assert cells(lines, "inputs.charges")[2] == "-1"
    assert any("frame 30 to frame 40" in line for line in lines)


def test_names_and_files_that_are_not_there():
    with pytest.raises(KeyError, match="there is no dataset 'ethanl'; did you mean 'ethanol'"):
        inspect_data("ethanl")
    with pytest.raises(FileNotFoundError, match=r"there is none at .*ethanol.xyz; check the path"):
        inspect_data("folder/ethanol.xyz")


def test_a_cloud(tmp_path):
    """A grid of 4 × 3 × 2 points half a unit apart, with a field of its own."""
    grid = np.stack(np.meshgrid(*(np.arange(n) / 2 for n in (4, 3, 2)), indexing="ij"), -1)
    x = grid.reshape(-1, 3)
    write(tmp_path / "a.ply", [Structure(x, np.zeros(24, int), inputs={"ring": x[:, 0]})])
    lines = shown(tmp_path / "a.ply")
    assert cells(lines, "structures") == ["structures", "1", "24", "points", "FFF"]
    assert cells(lines, "extent") == ["extent", "1.5", "1", "0.5"]
    assert cells(lines, "spacing")[1] == "0.5"
    assert cells(lines, "inputs.ring")[1:5] == ["1", "0", "0.75", "1.5"]
    assert cells(lines, "ring")[3] == "inputs.ring"
    assert any("points of the vertex fields x y z" in line for line in lines)


def test_atoms_have_no_spacing(tmp_path):
    write(tmp_path / "a.xyz", [Structure(np.eye(3), np.ones(3, int))])
    assert not any("extent" in line for line in shown(tmp_path / "a.xyz"))
