"""Training that begins with a model: its parameters, its outputs, E0s that fit the new labels."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import Dataset
from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.model import Card, Model, weights_hash
from geojax.networks import EGNN
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training.optimizer import Optimizer
from geojax.training.start import outputs_of, shifted_E0s
from geojax.training.train import train
from tests.training.conftest import springs

NETWORK = EGNN(cutoff=6.0, channels=4, layers=1, elements=(1, 8), average_neighbors=3.0)
CARD = Card(
    name="springs",
    outputs=(Output(scale=0.5, shift=-1.0),),
    elements=(1, 8),
    E0s={1: -10.0, 8: -400.0},
)


def energies(model: Model, structures: list[Structure]) -> list[float]:
    """[eV] relative to isolated atoms, one structure at a time."""
    predict = jax.jit(predict_fn(model.network, model.card.outputs))
    found = []
    for s in structures:
        batch = pad([sample(s, NETWORK.cutoff)], Budget(6, 20, 2), np.dtype("float32"))
        found.append(float(predict(model.params, batch.graph).energy[0]))
    return found


@pytest.fixture(scope="module")
def model() -> Model:
    graph = pad([sample(springs(1)[0], 6.0)], Budget(6, 20, 2), np.dtype("float32")).graph
    return Model(
        NETWORK, jax.tree.map(np.asarray, jax.jit(NETWORK.init)(jax.random.key(5), graph)), CARD
    )


def relabelled(model: Model, structures: list[Structure], E0s: dict[int, float]) -> list[Structure]:
    """With the energies of the model and other E0s."""
    return [
        s.replace(properties=s.properties._replace(energy=e + sum(E0s[int(z)] for z in s.species)))
        for s, e in zip(structures, energies(model, structures), strict=True)
    ]


def test_other_energies_of_atoms_are_found(model):
    """From structures of 20 compositions; those without an energy do not count."""
    other = {1: -13.0, 8: -2041.5}
    structures = relabelled(model, springs(40), other)
    structures[3] = structures[3].replace(properties=Properties())
    found = shifted_E0s(model, structures)
    assert found == pytest.approx(other, abs=1e-3)
    assert shifted_E0s(model, [structures[3]]) == dict(CARD.E0s)


def test_of_one_formula_the_shift_is_the_smallest(model):
    water = [s.replace(species=np.array([8, 1, 1])) for s in springs(5, sizes=(3,))]
    structures = relabelled(model, water, {1: -11.0, 8: -400.0})
    found = shifted_E0s(model, structures)
    shifts = [found[z] - CARD.E0s[z] for z in (1, 8)]  # along (2, 1), and 2 of them make -2 eV
    np.testing.assert_allclose(shifts, [-0.8, -0.4], atol=1e-4)


def test_of_large_data_some_structures_are_read_and_every_element(model, monkeypatch):
    monkeypatch.setattr("geojax.training.start.ENOUGH", 2)
    monkeypatch.setattr("geojax.training.start.BATCH", 2)
    bare = [s.replace(species=np.ones_like(s.species)) for s in springs(12, sizes=(2, 3))]
    bare[7] = bare[7].replace(species=np.array([8, *bare[7].species[1:]]))
    structures = relabelled(model, bare, {1: -13.0, 8: -2041.5})
    for number in (4, 5):  # neither spread evenly, nor the first with an element
        structures[number] = structures[number].replace(properties=Properties(energy=1e6))
    found = shifted_E0s(model, structures)
    assert found == pytest.approx({1: -13.0, 8: -2041.5}, abs=1e-3)


def run(model: Model, folder=None, **options) -> Model:
    structures = relabelled(model, springs(8), {1: -13.0, 8: -2041.5})
    data = Dataset("others", tuple(structures[:6]), tuple(structures[6:]))
    settings = {"epochs": 1, "batch_size": 4, "optimizer": Optimizer(learning_rate=0.0)}
    return train(model, data, folder=folder, console=Console(quiet=True), **settings | options)


def test_it_begins_with_the_parameters_and_keeps_the_outputs(model, tmp_path):
    found = run(model, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, found.params, model.params)
    assert found.card.outputs == CARD.outputs and found.network == NETWORK
    assert found.card.E0s == pytest.approx({1: -13.0, 8: -2041.5}, abs=1e-3)
    assert found.card.metrics["valid.energy.mae"] < 1e-3
    assert found.card.training["start"] == {
        "model": "springs",
        "weights": weights_hash(model.params),
    }
    changed = replace(model, params=jax.tree.map(lambda x: x + 1, model.params))
    with pytest.raises(ValueError, match="started with other settings for .*start"):
        run(changed, tmp_path, E0s=dict(found.card.E0s))


def test_outputs_that_were_never_normalised_stay_so(model):
    """A scale of one and a shift of zero are the model's too, not a place to be filled."""
    plain = model.replace_card(outputs=(Output(),))
    found = run(plain, E0s={1: -13.0, 8: -2041.5}, optimizer=Optimizer(learning_rate=0.0))
    assert found.card.outputs == (Output(),)
    jax.tree.map(np.testing.assert_array_equal, found.params, model.params)


def test_it_keeps_what_it_is_told_and_moves_what_is_not_frozen(model):
    moving = Optimizer(learning_rate=0.01, weight_decay=0.1, freeze=("params/embedding*",))
    found = run(model, E0s="kept", optimizer=moving)
    assert found.card.E0s == dict(CARD.E0s)
    rows = jax.tree_util.tree_leaves_with_path(found.params)
    still = {
        jax.tree_util.keystr(path): bool(np.array_equal(value, before))
        for (path, value), before in zip(rows, jax.tree.leaves(model.params), strict=True)
    }
    assert any(still.values()) and not all(still.values())
    assert all(same == ("embedding" in name) for name, same in still.items())


def test_other_outputs_and_elements_are_refused(model):
    assert outputs_of(model, None) == outputs_of(model, CARD.outputs) == CARD.outputs
    with pytest.raises(ValueError, match="keeps its outputs; they are energy; got energy with oth"):
        outputs_of(model, [Output(scale=2.0)])
    uranium = springs(1)[0].replace(species=np.full(3, 92))
    with pytest.raises(ValueError, match="structure 0 holds U and 'springs' supports H, O"):
        train(model, Dataset("heavy", (uranium,), ()))
