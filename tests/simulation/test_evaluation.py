"""Energies and forces are those of the calculator, virials those of finite strains."""

import numpy as np
import pytest
from ase import Atoms

from geojax.datasets import from_ase
from geojax.inference import calculator
from geojax.simulation.evaluation import Evaluator
from tests.inference.test_elasticity import springs
from tests.test_potential import Springs

CELL = np.array([[4.1, 0, 0], [0.5, 4.3, 0], [-0.7, 1.1, 3.9]])
PLACES = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def model():
    """Springs between atoms of elements 8 and 14, in float64."""
    return springs(Springs())


def crystal(offset: float = 0.0) -> Atoms:
    """Four moving atoms in a triclinic cell, with their calculator."""
    atoms = Atoms([8, 14, 8, 14], scaled_positions=PLACES, cell=CELL, pbc=True)
    atoms.rattle(0.1, seed=1)
    atoms.positions += offset
    atoms.set_velocities(np.random.default_rng(0).normal(size=(4, 3)) * 0.05)
    atoms.calc = calculator(model())
    return atoms


def molecule() -> Atoms:
    atoms = Atoms([8, 14, 14, 8], [[0, 0, 0], [1.2, 0.1, 0], [1.3, 1, 0.4], [0.3, 0.9, 1.4]])
    atoms.calc = calculator(model())
    return atoms


def strained(structure, i: int, j: int, size: float):
    strain = np.eye(3)
    strain[i, j] += size / 2
    strain[j, i] += size / 2
    return structure.replace(positions=structure.positions @ strain, cell=structure.cell @ strain)


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, True, False), (False, True, False)])
def test_the_virial_is_that_of_finite_strains(pbc):
    atoms, evaluate, h = crystal(), Evaluator(model(), skin=0.0), 1e-5
    atoms.pbc = pbc
    structure = from_ase(atoms)
    found = evaluate(structure)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-12)
    for i in range(3):
        for j in range(3):
            up, down = (evaluate(strained(structure, i, j, d)).energy for d in (h, -h))
            assert found.virial[i, j] == pytest.approx((down - up) / (2 * h), abs=1e-8)
    if all(pbc):
        virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
        np.testing.assert_allclose(found.virial, virial, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_virial_of_a_molecule_is_that_of_its_forces(offset):
    atoms = molecule()
    atoms.positions += offset
    found = Evaluator(model())(from_ase(atoms))
    expected = (atoms.positions - offset).T @ atoms.get_forces()
    np.testing.assert_allclose(found.virial, expected, atol=1e-10)
    assert np.abs(expected).max() > 0.1


def test_one_atom_and_a_cell_that_is_flat():
    single = from_ase(molecule()[:1])
    np.testing.assert_array_equal(Evaluator(model())(single).virial, 0)
    atoms = molecule()
    atoms.cell, atoms.pbc = np.diag([5.0, 5, 0]), (True, True, False)
    found = Evaluator(model())(from_ase(atoms))
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-12)
