"""Lengths that are usual in matter of many kinds; what is not is tried in `test_faults`."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from geojax.datasets import from_ase
from geojax.datasets.check.geometry import bonds, cells, close_and_far, length_unit
from geojax.graphs import Structure

CRYSTALS = {
    "NaCl": lambda: bulk("NaCl", "rocksalt", a=5.64),
    "diamond": lambda: bulk("C"),
    "Na": lambda: bulk("Na"),
    "Pb": lambda: bulk("Pb"),
    "Ar": lambda: bulk("Ar", "fcc", a=5.26),  # its atoms are as far apart as if in Bohr
    "La": lambda: bulk("La", "fcc", a=5.31),
    "slab": lambda: fcc111("Cu", (2, 2, 3), vacuum=8.0),
    "water": lambda: molecule("H2O"),
    "hydrogen": lambda: molecule("H2"),
    "methyl": lambda: molecule("CH3"),
}


def named(mask: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, np.flatnonzero(mask)))


def structures(atoms: Atoms) -> list[Structure]:
    return [from_ase(atoms)] * 4


@pytest.mark.parametrize("name", CRYSTALS)
def test_matter_is_let_through(name):
    given = structures(CRYSTALS[name]())
    found = bonds(given)
    assert length_unit(found) == ([], 1.0)
    assert close_and_far(given, found, named) == [] and cells(given, named) == []


@pytest.mark.parametrize("unit", ["Bohr", "nm", "pm"])
@pytest.mark.parametrize("name", ["NaCl", "diamond", "Na", "Pb", "water", "methyl"])
def test_other_units_are_told(name, unit):
    from geojax.units import factor

    atoms = CRYSTALS[name]()
    atoms.set_cell(atoms.cell[:] / factor(unit), scale_atoms=True)
    if not atoms.pbc.any():
        atoms.positions /= factor(unit)
    findings, length = length_unit(bonds(structures(atoms)))
    assert [f.kind for f in findings] == ["length unit"] and length == factor(unit)
    assert f"units={{'positions': '{unit}'}}" in findings[0].fix


def test_a_molecule_in_a_box_is_told_of():
    atoms = molecule("H2O", vacuum=9.0)
    atoms.pbc = True
    assert [f.kind for f in cells(structures(atoms), named)] == ["molecule in a periodic box"]
    atoms.pbc = False
    (one,) = cells(structures(atoms), named)
    assert one.kind == "cell without pbc" and one.severity == "note"


def test_close_images_count():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(np.asarray(atoms.cell) * [1, 1, 0.3])
    given = structures(atoms)
    (one,) = close_and_far(given, bonds(given), named)
    assert one.kind == "close atoms" and len(one.structures) == 4


def test_atoms_far_from_their_cell_and_mixed_periodicity_are_told_of():
    crystal = from_ase(bulk("Cu", cubic=True))
    away = crystal.replace(positions=crystal.positions + 400.0)
    water = from_ase(molecule("H2O"))
    kinds = {f.kind: f.structures for f in cells([crystal, away, water], named)}
    assert kinds == {"atoms far from the cell": ("1",), "mixed pbc": ("2",)}
