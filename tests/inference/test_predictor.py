"""Predictions in batches equal the potential itself, whatever the order and size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference import Predictor, predict
from geojax.model import Card, Model
from geojax.networks import EGNN
from geojax.outputs import Output
from geojax.potential import predict_fn

from .conftest import crystal, molecule


def test_predictions_are_those_of_the_potential_plus_E0s(energy_model):
    model, structure = energy_model(), molecule()
    (found,) = predict(model, [structure], ["energy", "energies", "forces"])
    graph = pad([sample(structure, 3.0)], Budget(8, 64, 2)).graph
    graph = jax.tree.map(jnp.asarray, graph)
    run = predict_fn(model.network, model.card.outputs, forces=True)
    direct = run(model.params, graph)
    E0s = sum(model.card.E0s[z] for z in structure.species.tolist())
    np.testing.assert_allclose(found.energy - E0s, direct.energy[0], rtol=1e-5)
    np.testing.assert_allclose(found.forces, direct.forces[:5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.energies.sum(), found.energy, rtol=1e-12)
    assert found.energy.dtype == found.forces.dtype == np.float64


def test_batches_equal_single_structures_in_the_order_given(energy_model):
    model = energy_model("float64")
    structures = [molecule(n, seed) for seed, n in enumerate((5, 2, 8, 3, 7))]
    together = Predictor(model, batch_size=3)(structures)
    for structure, found in zip(structures, together, strict=True):
        (alone,) = predict(model, [structure])
        np.testing.assert_allclose(found.energy, alone.energy, rtol=1e-12)
        np.testing.assert_allclose(found.forces, alone.forces, atol=1e-12)


def test_few_programs_serve_many_sizes(energy_model):
    predictor = Predictor(energy_model(), batch_size=4)
    rng = np.random.default_rng(0)
    predictor([molecule(int(n), i) for i, n in enumerate(rng.integers(2, 9, 120))])
    assert predictor.compilations <= 9  # of 30 batches
    before = predictor.compilations
    predictor([molecule(5, 99), molecule(6, 98)])
    assert predictor.compilations <= before + 1


def test_stress_is_given_where_it_exists(energy_model):
    model = energy_model("float64")
    (found,) = predict(model, [crystal()])
    assert found.stress.shape == (3, 3)
    np.testing.assert_allclose(found.stress, found.stress.T, atol=1e-14)
    assert predict(model, [crystal(), molecule()])[0].stress is None
    with pytest.raises(ValueError, match="structure 1 has pbc"):
        predict(model, [crystal(), molecule()], ["stress"])


def test_hessians_are_symmetric_derivatives_of_forces(energy_model):
    structure = molecule(4)
    model = energy_model("float64")
    (found,) = predict(model, [structure], ["hessian"])
    flat = found.hessian.reshape(12, 12)
    np.testing.assert_allclose(flat, flat.T, atol=1e-10)
    step = np.zeros((4, 3))
    step[1, 2] = 1e-5
    up, down = (
        predict(model, [structure.replace(positions=structure.positions + s)], ["forces"])[0].forces
        for s in (step, -step)
    )
    np.testing.assert_allclose(found.hessian[1, 2], -(up - down) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_direct_hessians_are_the_heads_and_others_derivatives(hessian_model):
    """And those of a batch are those of its structures one by one."""
    structures = [molecule(n, n) for n in (4, 2, 5)]
    found = predict(hessian_model, structures)
    (alone,) = predict(hessian_model, structures[2:], ["hessian"])
    assert [f.hessian.shape for f in found] == [(n, 3, n, 3) for n in (4, 2, 5)]
    assert found[0].forces is not None and alone.energy is None
    np.testing.assert_allclose(found[2].hessian, alone.hessian, atol=1e-12)
    for f in found:
        np.testing.assert_array_equal(f.hessian, f.hessian.transpose(2, 3, 0, 1))
    with jax.enable_x64(True):
        graph = pad([sample(structures[2], 4.0)], Budget(6, 32, 2), np.float64).graph
        graph = jax.tree.map(jnp.asarray, graph)
        network = hessian_model.network
        run = jax.jit(lambda params, graph: network.apply(params, graph, method="hessian"))
        rows = run(hessian_model.params, graph)
    rows = np.asarray(rows)[:5, :5].transpose(0, 2, 1, 3)
    np.testing.assert_allclose(5 * rows, alone.hessian, atol=1e-12)
    assert np.abs(alone.hessian).max() > 1e-3


@pytest.mark.slow
def test_without_its_output_the_hessian_is_that_of_the_energy(hessian_model):
    plain = hessian_model.replace_card(outputs=hessian_model.card.outputs[:1])
    (derived,) = predict(plain, [molecule(4)], ["hessian"])
    (direct,) = predict(hessian_model, [molecule(4)], ["hessian"])
    assert np.abs(derived.hessian - direct.hessian).max() > 1e-3


def test_unknown_elements_properties_and_things_are_refused(energy_model):
    gold = Structure(np.zeros((1, 3)), np.array([79]))
    with pytest.raises(ValueError, match="Au"):
        predict(energy_model(), [gold])
    with pytest.raises(ValueError, match="'dipole' was asked for"):
        predict(energy_model(), [molecule()], ["dipole"])
    with pytest.raises(TypeError, match=r"geojax\.load"):
        predict("nequip", [molecule()])


def test_a_prediction_that_is_not_finite_is_refused(energy_model):
    model = energy_model()
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), model.params)
    with jax.debug_nans(False), pytest.raises(ValueError, match="energy of structure 0 is not"):
        predict(Model(model.network, broken, model.card), [molecule()])


def test_other_outputs_come_with_their_references():
    network = EGNN(channels=4, layers=1, velocity="v", update_positions=True, irreps_out="1o")
    output = Output("node_targets.next", "1o", relative_to="positions")
    points = Structure(np.eye(3) + 100, np.zeros(3, int), inputs={"v": np.zeros((3, 3))})
    graph = pad([sample(points, np.inf)], Budget(4, 6, 2)).graph
    graph = jax.tree.map(jnp.asarray, graph)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    (found,) = predict(Model(network, params, Card(outputs=(output,))), [points])
    np.testing.assert_allclose(found.node_targets["next"], points.positions, atol=0.5)
    assert found.energy is None
