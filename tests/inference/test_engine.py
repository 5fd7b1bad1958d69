"""A shallow ensemble predicts as its members would one by one, wherever models do."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_stress
from e3nn_jax import IrrepsArray

import geojax
from geojax.datasets import to_ase
from geojax.deviations import std_name
from geojax.graphs import Budget, Properties, leaf, leaves, pad, sample
from geojax.inference import Ensemble, Predictor, calculator, calibrate, predict
from geojax.inference.engine import deviating, engine_of
from geojax.model import Model
from geojax.networks import EGNN
from geojax.outputs import Output

from .conftest import crystal, energy_card, molecule

COUNT = 4
EVERYTHING = ("energy", "energies", "forces", "stress", "targets.gap")


def shallow(dtype="float64", **changes) -> Model:
    """An energy and a target, of four members each."""
    outputs = (
        Output(scale=0.7, shift=-2.0, members=COUNT),
        Output("targets.gap", pool="mean", members=COUNT),
    )
    network = EGNN(
        *(3.0,), channels=6, layers=2, elements=(1, 6), average_neighbors=4.0, irreps_out="8x0e"
    )
    graph = jax.tree.map(jax.numpy.asarray, pad([sample(molecule(), 3.0)], Budget(6, 32, 2)).graph)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape), shapes)
    card = energy_card(name="shallow", outputs=outputs, dtype=dtype)
    return Model(network, params, card).replace_card(**changes)


def alone(model: Model, member: int) -> Model:
    """The model of one member."""

    def apply(params, graph):
        values = model.network.apply(params, graph).array
        return IrrepsArray("2x0e", values[:, [member, COUNT + member]])

    network = SimpleNamespace(apply=apply, cutoff=3.0, irreps_out="2x0e")
    outputs = (Output(scale=0.7, shift=-2.0), Output("targets.gap", pool="mean"))
    return Model(network, model.params, model.replace_card(outputs=outputs).card)


def test_means_and_deviations_are_those_of_the_members():
    model, structures = shallow(), [crystal(0), crystal(1)]
    found = predict(model, structures)
    apart = [predict(alone(model, k), structures, EVERYTHING) for k in range(COUNT)]
    assert set(leaves(found[0])) >= {"targets.energy_std", "node_targets.forces_std"}
    for number, mine in enumerate(
        predict(model, structures, [*EVERYTHING, *map(std_name, EVERYTHING)])
    ):
        for name in EVERYTHING:
            every = np.stack([leaf(one[number], name) for one in apart])
            np.testing.assert_allclose(leaf(mine, name), every.mean(0), rtol=1e-11, atol=1e-11)
            deviation = leaf(mine, std_name(name))
            np.testing.assert_allclose(deviation, every.std(0, ddof=1), rtol=1e-7, atol=1e-10)
            assert np.max(deviation) > 1e-3


def test_mean_forces_need_one_backward_pass():
    """Deviations of forces cost one for each member, and are computed where they are asked for."""
    program = engine_of(shallow()).program
    graph = Predictor(shallow()).padded([sample(molecule(), 3.0)])
    with jax.enable_x64(True):
        cheap, dear = (leaves(program(True, False, spread)(graph)) for spread in (False, True))
    assert set(dear) - set(cheap) == {"node_targets.forces_std"}
    for name, value in cheap.items():
        np.testing.assert_allclose(value, dear[name], rtol=1e-10, atol=1e-10)


def test_calculators_have_deviations_and_compute_the_dear_ones_when_asked():
    atoms = to_ase(crystal())
    atoms.calc = calculator(shallow())
    atoms.get_forces()
    assert {"energy_std", "energies_std"} <= set(atoms.calc.results)
    assert "forces_std" not in atoms.calc.results
    stress_std = atoms.calc.get_property("stress_std", atoms)
    (expected,) = predict(shallow(), [crystal()], ["stress", "targets.stress_std"])
    np.testing.assert_allclose(
        stress_std, full_3x3_to_voigt_6_stress(expected.targets["stress_std"]), rtol=1e-9
    )
    assert atoms.calc.results["forces_std"].shape == (4, 3)


def test_calibration_and_selection_take_a_shallow_ensemble():
    model = shallow()
    structures = [molecule(5, seed) for seed in range(6)]
    (rng, values) = (
        np.random.default_rng(0),
        predict(model, structures, ["energy", "targets.energy_std"]),
    )
    labelled = [
        s.replace(
            properties=Properties(energy=p.energy + 3.0 * p.targets["energy_std"] * rng.normal())
        )
        for s, p in zip(structures, values, strict=True)
    ]
    record = calibrate(model, labelled).record()
    assert 1.0 < record["energy"]["factor"] < 6.0
    ready = model.replace_card(calibration=record)
    (after,) = predict(ready, structures[:1], ["targets.energy_std", "node_targets.forces_std"])
    (before,) = predict(model, structures[:1], ["targets.energy_std", "node_targets.forces_std"])
    ratio = after.targets["energy_std"] / before.targets["energy_std"]
    np.testing.assert_allclose(ratio, record["energy"]["factor"], rtol=1e-9)
    np.testing.assert_allclose(after.node_targets["forces_std"], before.node_targets["forces_std"])
    assert len(geojax.select(model, structures, 2).indices) == 2
    with pytest.raises(ValueError, match="none of energy, targets.gap"):
        Predictor(model.replace_card(calibration={"targets.mu": {"factor": 2.0}}))([molecule()])


@pytest.mark.slow
def test_a_file_holds_the_programs_of_the_deviations(tmp_path):
    model = shallow()
    path = geojax.export(model, tmp_path / "shallow.geojax", platforms=["cpu"])
    names = [*EVERYTHING, *map(std_name, EVERYTHING)]
    (mine,), (its,) = (
        run([crystal()], names) for run in (Predictor(model), geojax.open_artifact(path))
    )
    for name in names:
        np.testing.assert_allclose(leaf(its, name), leaf(mine, name), rtol=1e-12, atol=1e-12)


def test_what_has_deviations(energy_model):
    card = shallow().card
    assert deviating(card, every=False) == (
        *("energy", "targets.gap"),
        *("energies", "forces", "stress"),
    )
    assert deviating(energy_model().card, every=False) == ()
    assert deviating(energy_model().card, every=True)[0] == "energy"
    with pytest.raises(ValueError, match="one opinion each"):
        Ensemble([shallow(), shallow()])
    with pytest.raises(TypeError, match="'small' is one model"):
        calibrate(energy_model(), [])
