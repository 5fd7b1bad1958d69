"""The calculator against ASE's own finite differences, and its neighbour list."""

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from geojax.datasets import to_ase
from geojax.inference import calculator, predict
from geojax.model import Card
from geojax.potential import Output

from .conftest import crystal, molecule


def atoms_of(structure, model, **options):
    atoms = to_ase(structure)
    atoms.calc = calculator(model, **options)
    return atoms


@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_forces_and_stress_are_derivatives_of_the_energy(energy_model, structure):
    atoms = atoms_of(structure, energy_model("float64"))
    forces = calculate_numerical_forces(atoms, eps=1e-5, iatoms=[0, 3])
    np.testing.assert_allclose(atoms.get_forces()[[0, 3]], forces, atol=1e-7)
    if any(structure.pbc):
        stress = calculate_numerical_stress(atoms, eps=1e-6)
        np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-7)


def test_everything_comes_from_one_evaluation_and_is_the_callers_own(energy_model):
    atoms = atoms_of(crystal(), energy_model())
    calls = []
    run = atoms.calc.predictor.with_edges
    atoms.calc.predictor.with_edges = lambda *a: (calls.append(1), run(*a))[1]
    energy = atoms.get_potential_energy()
    assert energy == atoms.get_potential_energy(force_consistent=True)
    atoms.get_forces()[:] = 7
    assert not (atoms.get_forces() == 7).any()
    assert atoms.get_stress().shape == (6,)
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), energy, rtol=1e-6)
    assert len(calls) == 1


def test_without_a_cell_there_is_no_stress(energy_model):
    with pytest.raises(PropertyNotImplementedError):
        atoms_of(molecule(), energy_model()).get_stress()


@pytest.mark.parametrize("structure", [molecule(), crystal()], ids=["molecule", "crystal"])
def test_the_skin_changes_no_number(energy_model, structure):
    model = energy_model("float64")
    atoms = atoms_of(structure, model, skin=1.0)
    rng = np.random.default_rng(0)
    listed = set()
    for _ in range(6):
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.06
        moved = structure.replace(positions=atoms.positions.copy())
        (fresh,) = predict(model, [moved])
        np.testing.assert_allclose(atoms.get_forces(), fresh.forces, atol=1e-10)
        listed.add(id(atoms.calc._listed))
    assert len(listed) < 6  # the list was used again at least once


def test_unknown_elements_are_refused(energy_model):
    atoms = atoms_of(molecule(), energy_model())
    atoms.numbers[0] = 79
    with pytest.raises(ValueError, match="Au"):
        atoms.get_potential_energy()


def test_a_model_without_an_energy_is_no_calculator(energy_model):
    model = energy_model()
    other = model.replace_card(**vars(Card(outputs=(Output("targets.mu"),))))
    with pytest.raises(ValueError, match=r"predicts targets\.mu"):
        calculator(other)
