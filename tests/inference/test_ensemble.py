"""Means and standard deviations are those of separate predictions, from one program."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces
from ase.stress import full_3x3_to_voigt_6_stress

from geojax.datasets import to_ase
from geojax.deviations import std_name
from geojax.graphs import leaf, leaves
from geojax.inference import Ensemble, Predictor, calculator, predict
from geojax.model import Model
from geojax.networks import EGNN
from geojax.outputs import Output
from geojax.training import Compilations

from .conftest import crystal, molecule

EVERYTHING = ("energy", "energies", "forces", "stress")


def members(model: Model, count: int = 3, spread: float = 0.2) -> list[Model]:
    """Models whose parameters differ a little."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        moved = lambda x, rng=rng: x + (spread * rng.normal(size=x.shape)).astype(x.dtype)
        found.append(Model(model.network, jax.tree.map(moved, model.params), model.card))
    return found


def test_mean_and_std_are_those_of_separate_predictions(energy_model):
    models = members(energy_model("float64"))
    structures = [crystal(0), crystal(1)]
    names = [*EVERYTHING, *map(std_name, EVERYTHING)]
    together = predict(Ensemble(models), structures, names)
    apart = [predict(model, structures, EVERYTHING) for model in models]
    for number, found in enumerate(together):
        for name in EVERYTHING:
            every = np.stack([leaf(one[number], name) for one in apart])
            np.testing.assert_allclose(leaf(found, name), every.mean(0), rtol=1e-12, atol=1e-12)
            deviation = leaf(found, std_name(name))
            np.testing.assert_allclose(deviation, every.std(0, ddof=1), rtol=1e-6, atol=1e-9)
            assert deviation.shape == leaf(found, name).shape and deviation.max() > 1e-4


def test_one_program_evaluates_all_members(energy_model):
    predictor = Predictor(Ensemble(members(energy_model(), 4)))
    with Compilations() as seen:
        predictor([molecule(5)])
        predictor([molecule(4, 1)])
    assert seen.count == predictor.compilations == 1


def test_deviations_come_by_default_and_are_had_alone(energy_model):
    ensemble = Ensemble(members(energy_model("float64")))
    (default,) = predict(ensemble, [molecule()])
    expected = {"energy", "forces", "targets.energy_std", "node_targets.forces_std"}
    assert set(leaves(default)) == expected
    (alone,) = predict(ensemble, [molecule()], ["node_targets.forces_std"])
    assert set(leaves(alone)) == {"node_targets.forces_std"}
    np.testing.assert_allclose(
        alone.node_targets["forces_std"], default.node_targets["forces_std"], atol=1e-12
    )
    with pytest.raises(ValueError, match="stress exists where"):
        predict(ensemble, [molecule()], ["targets.stress_std"])
    with pytest.raises(ValueError, match=r"'targets.energy_std' was asked for"):
        predict(ensemble.models[0], [molecule()], ["targets.energy_std"])


def test_forces_are_derivatives_of_the_mean_energy(energy_model):
    atoms = to_ase(molecule())
    atoms.calc = calculator(Ensemble(members(energy_model("float64"))))
    forces = np.asarray(calculate_numerical_forces(atoms, eps=1e-5, iatoms=[0, 3]))
    np.testing.assert_allclose(np.asarray(atoms.get_forces())[[0, 3]], forces, atol=1e-7)


@pytest.mark.slow
def test_hessians_are_means_too(energy_model):
    models = members(energy_model("float64"))
    (found,) = predict(Ensemble(models), [molecule(3)], ["hessian"])
    apart = [predict(model, [molecule(3)], ["hessian"])[0].hessian for model in models]
    np.testing.assert_allclose(found.hessian, np.mean(apart, 0), atol=1e-10)


def test_ase_has_the_deviations_as_further_results(energy_model):
    ensemble = Ensemble(members(energy_model("float64")))
    atoms = to_ase(crystal())
    atoms.calc = calculator(ensemble)
    atoms.get_potential_energy()
    names = ["targets.energy_std", "node_targets.forces_std", "targets.stress_std"]
    (found,) = predict(ensemble, [crystal()], names)
    energy, forces, stress = (leaf(found, name) for name in names)
    np.testing.assert_allclose(atoms.calc.results["energy_std"], energy, rtol=1e-9)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], forces, atol=1e-9)
    assert np.array_equal(
        np.asarray(atoms.calc.get_property("forces_std")), atoms.calc.results["forces_std"]
    )
    assert atoms.calc.results["energies_std"].shape == (4,)
    stress = full_3x3_to_voigt_6_stress(stress)
    np.testing.assert_allclose(atoms.calc.results["stress_std"], stress, atol=1e-9)
    alone = calculator(ensemble.models[0])
    assert "forces_std" not in alone.implemented_properties


def test_a_calibration_multiplies_the_deviations_it_names(energy_model):
    ensemble = Ensemble(members(energy_model("float64")))
    scaled = ensemble.replace_card(calibration={"forces": {"factor": 3.0}})
    (before,), (after,) = (predict(e, [molecule()]) for e in (ensemble, scaled))
    forces = [p.node_targets["forces_std"] for p in (before, after)]
    np.testing.assert_allclose(3 * forces[0], forces[1], rtol=1e-12)
    assert before.targets["energy_std"] == after.targets["energy_std"]
    np.testing.assert_array_equal(before.forces, after.forces)
    with pytest.raises(ValueError, match=r"targets\.mu is none of energy"):
        ensemble.replace_card(calibration={"targets.mu": {"factor": 3.0}})


def changed_network(model: Model) -> Model:
    return replace(model, network=model.network.clone(cutoff=3.5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_network, r"member 1 differs from that of member 0 in cutoff: 3\.5, 3\.0"),
        (lambda m: replace(m, network=None), "its kind: NoneType, EGNN"),
        (lambda m: m.replace_card(E0s={1: -13.6, 6: 0.0}), "the same E0s; member 1 has"),
        (lambda m: m.replace_card(elements=(1, 6, 8)), "the same elements"),
        (lambda m: m.replace_card(outputs=(Output(shift=1.0),)), "the same outputs"),
        (lambda m: m.replace_card(dtype="float64"), "the same dtype"),
        (lambda m: replace(m, params={"params": {}}), "member 1 are others than"),
    ],
)
def test_members_that_do_not_match_are_refused(energy_model, change, says):
    first, second = members(energy_model(), 2)
    with pytest.raises(ValueError, match=says):
        Ensemble([first, change(second)])


def test_what_cannot_be_an_ensemble_is_refused(energy_model):
    (model,) = members(energy_model(), 1)
    with pytest.raises(ValueError, match="got 1; train more seeds"):
        Ensemble([model])
    with pytest.raises(TypeError):
        Ensemble([model, "egnn"])  # pyright: ignore[reportArgumentType]
    turned = EGNN(cutoff=3.0, channels=4, layers=1, irreps_out="6x0e")
    card = replace(model.card, outputs=(Output("targets.turn", "6x0e", rotation="6d"),))
    with pytest.raises(ValueError, match="the mean of rotations is no rotation"):
        Ensemble([Model(turned, {}, card)] * 2)
    both = replace(model.card, outputs=(Output(), Output("node_targets.forces", "1o")))
    with pytest.raises(ValueError, match="rename an output"):
        Ensemble([Model(model.network, {}, both)] * 2)
