"""The calculator against ASE's own finite differences, and its neighbour list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from geojax.datasets import to_ase
from geojax.graphs import Budget, pad, sample
from geojax.inference import calculator, predict
from geojax.model import Card, Model
from geojax.networks import EGNN, fit_to_data
from geojax.outputs import Output

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


@pytest.mark.parametrize(
    "structure",
    [pytest.param(molecule(), marks=pytest.mark.slow), crystal()],
    ids=["molecule", "crystal"],
)
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


def test_inputs_are_read_and_their_changes_seen():
    """The charge of the whole molecule stands in `info`, which ASE does not watch."""
    network = EGNN(cutoff=5.0, channels=4, layers=1, scalars=("charge",), elements=(1, 6, 8))
    structure = molecule().replace(inputs={"charge": np.zeros(len(molecule()))})
    network = fit_to_data(network, [sample(structure, 5.0)])
    graph = jax.tree.map(jnp.asarray, pad([sample(structure, 5.0)], Budget(16, 128, 2)).graph)
    card = Card(elements=(1, 6, 8), E0s={1: 0.0, 6: 0.0, 8: 0.0})
    model = Model(network, jax.jit(network.init)(jax.random.key(0), graph), card)
    atoms = atoms_of(molecule(), model, inputs={"charge": "total"})
    with pytest.raises(ValueError, match="'charge' is read from 'total'; there are"):
        atoms.get_potential_energy()
    energies = []
    for charge in (0, 1):
        atoms.info["total"] = charge
        energies.append(atoms.get_potential_energy())
        (expected,) = predict(
            model, [structure.replace(inputs={"charge": np.full(len(structure), float(charge))})]
        )
        np.testing.assert_allclose(energies[-1], expected.energy, rtol=1e-6)
    assert energies[0] != energies[1]
