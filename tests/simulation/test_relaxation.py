"""Minima of positions and cells, by a potential that ASE brings."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from geojax.datasets.formats import read
from geojax.simulation import relax


def copper(scale: float = 1.03) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.positions[0] += 0.1
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs", "fire"])
def test_positions_move_and_the_cell_stays(optimizer, tmp_path):
    atoms = copper()
    cell, before = np.array(atoms.cell), atoms.get_potential_energy()
    path = tmp_path / "steps.xyz"
    found = relax(atoms, force=0.001, optimizer=optimizer, trajectory=path)
    assert found.converged and found.force < 0.001 and found.pressure is None
    assert found.energy < before
    np.testing.assert_array_equal(np.array(atoms.cell), cell)
    frames = read(path).structures
    assert len(frames) == found.steps + 1
    np.testing.assert_array_equal(frames[-1].positions, atoms.positions)


def test_the_cell_moves_until_its_pressure_is_that_outside():
    free = copper()
    found = relax(free, force=0.001, cell=True)
    assert found.converged and abs(found.pressure) < 0.05
    assert free.get_volume() ** (1 / 3) == pytest.approx(3.59, abs=0.01)  # EMT's copper
    pressed = copper()
    assert relax(pressed, force=0.001, cell=True, pressure=10.0).pressure == pytest.approx(
        10, abs=0.1
    )
    assert pressed.get_volume() < free.get_volume()


def test_what_did_not_converge_says_so():
    assert not relax(copper(), force=1e-6, steps=1).converged


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(force=0.0), "force and steps are positive"),
        (dict(pressure=1.0), "acts on a cell; give cell=True"),
        (dict(optimizer="newton"), "no optimizer 'newton'"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises((ValueError, KeyError), match=message):
        relax(copper(), **change)
    molecule = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]], calculator=EMT())
    with pytest.raises(ValueError, match="periodic in three directions"):
        relax(molecule, cell=True)
