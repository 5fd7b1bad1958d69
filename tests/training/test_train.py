"""From data to a model: its card, resuming by the same call, other labels, and what is refused."""

import importlib
import itertools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import Dataset, fingerprint, load
from geojax.graphs import Properties, Structure
from geojax.inference import predict
from geojax.metrics import compare
from geojax.model import Model
from geojax.networks import EGNN, HIP, NequIP
from geojax.outputs import Output
from geojax.signals import Stopped
from geojax.training import loop
from geojax.training.loop import Options
from geojax.training.optimizer import Optimizer
from geojax.training.train import train
from tests.training.conftest import springs

NETWORK = EGNN(cutoff=6.0, channels=4, layers=1)
QUIET, ENERGIES = Console(quiet=True), {1: -10.0, 8: -400.0}


def with_energies(structures: list[Structure]) -> tuple[Structure, ...]:
    """Total energies, as a calculation of all electrons gives."""
    found = []
    for s in structures:
        alone = sum(ENERGIES[int(z)] for z in s.species)
        labels = s.properties._replace(energy=s.properties.energy + alone)
        found.append(s.replace(properties=labels))
    return tuple(found)


URANIUM = Structure(
    np.zeros((1, 3)),
    np.array([92]),
    properties=Properties(energy=-1e6, forces=np.zeros((1, 3))),
)
DATA = Dataset(
    "springs",
    train=with_energies(springs(11)),
    valid=with_energies(springs(4, seed=1)),
    test=(URANIUM,),  # whatever looks at it has to say that it does not know the element
    card={"licence": "none needed", "level": "exact", "E0s": ENERGIES, "private": "x"},
)


@pytest.mark.slow
def test_hessians_are_trained_on_beside_energies_and_forces(tmp_path):
    """Slots for the largest structure, which is in the validation set; scale from the labels."""
    parts = {"train": springs(12, sizes=(2, 3)), "valid": springs(4, seed=1, sizes=(3, 4))}
    known = {part: tuple(with_hessian(s) for s in found) for part, found in parts.items()}
    data = Dataset("springs", **known)
    backbone = NequIP(cutoff=6.0, channels=4, lmax=2, layers=1, parity=False, radial_width=8)
    network = HIP(backbone=backbone, cutoff=6.0, channels=4, n_basis=6, radial_width=16)
    outputs = [Output(), Output("hessian")]
    more = {"network": network, "outputs": outputs, "E0s": "ridge", "folder": tmp_path}
    model = run(data, epochs=200, learning_rate=0.02, **more)
    output = model.card.outputs[1]
    every = np.concatenate([s.properties.hessian.ravel() for s in data.train])
    np.testing.assert_allclose(output.scale, np.sqrt(np.mean(every**2)))
    assert output.slots is None and output.shift == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    errors = [line["valid.hessian.mae"] for line in lines]
    assert min(errors) < 0.6 * errors[0]
    assert {"energy", "forces", "hessian"} == {t["property"] for t in model.card.training["loss"]}
    found = predict(model, data.valid)
    np.testing.assert_allclose(
        compare(found, data.valid)["hessian.mae"],
        model.card.metrics["valid.hessian.mae"],
        rtol=1e-3,
    )


def with_hessian(structure: Structure) -> Structure:
    """With that of E = sum over pairs of (r - 1)² / 2."""
    x, n = structure.positions, len(structure)
    hessian = np.zeros((n, 3, n, 3))
    for i, j in itertools.permutations(range(n), 2):
        r = np.linalg.norm(x[i] - x[j])
        along = np.outer(x[i] - x[j], x[i] - x[j]) / r**2
        block = along + (1 - 1 / r) * (np.eye(3) - along)
        hessian[i, :, j] -= block
        hessian[i, :, i] += block
    return structure.replace(properties=structure.properties._replace(hessian=hessian))


def run(data: Dataset = DATA, network=NETWORK, **options) -> Model:
    settings = {"epochs": 4, "batch_size": 4, "learning_rate": 0.01, "console": QUIET}
    return train(network, data, **(settings | options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs") / "springs"


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return run(folder=folder)


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(left: Model, right: Model) -> bool:
    pairs = zip(jax.tree.leaves(left.params), jax.tree.leaves(right.params), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# What comes back


def test_a_model_has_learnt(model, folder):
    lines = history(folder)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["valid.loss"] < lines[0]["valid.loss"]
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(model.params))


def test_the_network_is_fitted_to_the_training_data(model):
    assert model.network.elements == (1, 8)
    edges = sum(len(s) * (len(s) - 1) for s in DATA.train)
    assert model.network.average_neighbors == pytest.approx(edges / sum(map(len, DATA.train)))


def test_the_card_says_what_the_model_is(model):
    card = model.card
    assert card.name == "springs" and card.licence == "none needed"
    assert card.elements == (1, 8) and card.dtype == "float32"
    assert card.forces and not card.stress
    assert card.E0s == ENERGIES
    assert card.data == {
        "name": "springs",
        "counts": {"train": 11, "valid": 4, "test": 1},
        "sha256": {"train": fingerprint(DATA.train), "valid": fingerprint(DATA.valid)},
        "licence": "none needed",
        "level": "exact",
    }


def test_an_energy_is_scaled_by_the_forces_and_shifted_by_the_mean(model):
    (output,) = model.card.outputs
    forces = np.concatenate([s.properties.forces for s in springs(11)])
    shift = np.mean([s.properties.energy / len(s) for s in springs(11)])
    assert output.scale == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert output.shift == pytest.approx(shift, abs=1e-9)


def test_the_record_of_the_training(model, folder):
    record = model.card.training
    assert record["steps"] == history(folder)[-1]["step"] == 4 * 3
    assert record["compilations"] == 3 and record["seconds"] > 0
    assert record["network"]["name"] == "egnn" and record["layout"] == "list"
    assert record["E0s"] == {"H": -10.0, "O": -400.0}
    assert {term["property"]: term["weight"] for term in record["loss"]} == {
        "energy": 1.0,
        "forces": 10.0,
    }
    assert record["options"]["epochs"] == 4 and record["optimizer"]["learning_rate"] == 0.01
    assert record["versions"]["jax"] == jax.__version__
    assert json.loads(json.dumps(record)) == json.loads((folder / "settings.json").read_text()) | {
        key: record[key]
        for key in ("seconds", "compilations", "steps", "plan", "device", "versions")
    }


def test_the_metrics_are_those_of_the_parameters_that_are_kept(model, folder):
    best = min(history(folder), key=lambda line: line["valid.loss"])
    assert model.card.metrics == {k: v for k, v in best.items() if k.startswith("valid.")}
    assert {"valid.loss", "valid.energy.mae", "valid.forces.rmse"} <= set(model.card.metrics)


@pytest.mark.slow
def test_the_metrics_follow_what_is_watched(model, tmp_path, monkeypatch):
    """Here a figure that is best when the loss is worst."""
    validate = loop._validate

    def measured(*arguments):
        found = validate(*arguments)
        return found | {"valid.contrary": -found["valid.loss"]}

    monkeypatch.setattr(loop, "_validate", measured)
    found = run(options=Options(watch="contrary"), folder=tmp_path)
    worst = max(history(tmp_path), key=lambda line: line["valid.loss"])
    assert found.card.metrics["valid.loss"] == worst["valid.loss"]
    assert not same(found, model)


# Resuming


def test_the_same_call_on_a_finished_run_gives_the_same_model(model, folder):
    """How often it is saved is no part of what a run is."""
    again = run(folder=folder, options=Options(checkpoint_seconds=1.0))
    assert same(again, model)
    assert again.card.metrics == model.card.metrics
    assert again.card.training["steps"] == model.card.training["steps"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(model, tmp_path, monkeypatch):
    validate = loop._validate

    def interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments)

    monkeypatch.setattr(loop, "_validate", interrupt)
    with pytest.raises(Stopped):
        run(folder=tmp_path)
    assert len(history(tmp_path)) == 1
    monkeypatch.setattr(loop, "_validate", validate)
    assert same(run(folder=tmp_path), model)
    assert len(history(tmp_path)) == 4


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (dict(epochs=5), "options"),
        (dict(learning_rate=0.02), "optimizer"),
        (dict(loss={"forces": 1.0}), "loss"),
        (dict(network=replace(NETWORK, layers=2)), "network"),
        (dict(E0s={"H": -10.0, "O": -401.0}), "outputs, E0s"),
        (dict(layout="table"), "layout"),
        (dict(data=replace(DATA, train=DATA.train[:-1])), "data"),
        (dict(data=replace(DATA, train=DATA.train[::-1])), "data"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_folder_holds_one_run(change, part, model, folder):
    before = (folder / "settings.json").read_text()
    with pytest.raises(ValueError, match=f"started with other settings for .*{part}.*; choose"):
        run(folder=folder, **change)
    assert (folder / "settings.json").read_text() == before


# Other data and settings


@pytest.mark.slow
def test_both_layouts_of_edges_train_alike(model):
    found = run(layout="table")
    assert found.card.training["layout"] == "table"
    for name, value in found.card.metrics.items():
        assert value == pytest.approx(model.card.metrics[name], rel=1e-3), name


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Callable[..., dict]:
    """What a run would be, as it is written down before anything is compiled."""

    class Ready(Exception):
        pass

    def halt(*arguments, **options):
        raise Ready

    def make(*arguments, **options) -> dict:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(Ready):
            run(*arguments, folder=folder, **options)
        return json.loads((folder / "settings.json").read_text())

    monkeypatch.setattr(importlib.import_module("geojax.training.train"), "prepare", halt)
    return make


def test_scales_that_are_given_are_kept(settings):
    given = Output(scale=3.0, shift=-0.5)
    assert settings(outputs=[given])["outputs"] == [asdict(given)]
    assert settings(normalise=False)["outputs"] == [asdict(Output())]
    assert settings()["outputs"][0]["scale"] not in (1.0, 3.0)


def test_energies_of_atoms_by_least_squares_where_there_are_no_isolated_ones(settings):
    data = replace(DATA, card={})
    found = settings(data)["E0s"]
    assert found == {"H": pytest.approx(-10, abs=5), "O": pytest.approx(-400, abs=5)}
    assert found != settings()["E0s"] == {"H": -10.0, "O": -400.0}
    assert settings(data, E0s={"H": -1.0, 8: -2.0})["E0s"] == {"H": -1.0, "O": -2.0}


def test_the_account_of_E0s_is_shown_and_far_ones_are_suspicious(settings):
    console = Console(record=True, width=200)
    settings(console=console)
    per_atom = [s.properties.energy / len(s) for s in springs(11)]
    text = console.export_text()
    assert "E0s H -10.000, O -400.000 eV" in text and "suspicious" not in text
    assert f"are {np.mean(per_atom):.3g} ± {np.std(per_atom):.2g} eV per atom above them" in text
    settings(console=console, E0s={"H": -10.0 / 27.2, "O": -400.0 / 27.2})
    assert "suspicious: no matter binds by more than 20 eV per atom" in console.export_text()


def test_without_forces_the_scale_is_that_of_the_energies_per_atom(settings):
    bare = lambda s: s.replace(properties=Properties(energy=s.properties.energy))
    data = replace(DATA, train=tuple(map(bare, DATA.train)), valid=tuple(map(bare, DATA.valid)))
    found = settings(data)
    per_atom = [s.properties.energy / len(s) for s in springs(11)]
    assert found["outputs"][0]["scale"] == pytest.approx(np.std(per_atom))
    assert [term["property"] for term in found["loss"]] == ["energy"]


def test_vectors_are_scaled_but_not_shifted(settings):
    """A shift of a vector would prefer a direction."""
    rng = np.random.default_rng(0)
    targets = lambda: {"gap": 5.0 + rng.normal(), "dipole": 3 + rng.normal(size=3)}
    structures = tuple(s.replace(properties=Properties(targets=targets())) for s in springs(8))
    network = replace(NETWORK, update_positions=True, irreps_out="0e+1o")
    outputs = [Output("targets.gap", pool="mean"), Output("targets.dipole", irreps="1o")]
    found = settings(Dataset("x", structures, structures[:2]), network, outputs=outputs)
    gap, dipole = found["outputs"]
    gaps, dipoles = (
        np.array([s.properties.targets[name] for s in structures]) for name in ("gap", "dipole")
    )
    assert dipole["shift"] == 0
    assert dipole["scale"] == pytest.approx(np.sqrt(np.mean(dipoles**2)))
    assert gap["shift"] == pytest.approx(gaps.mean())
    assert gap["scale"] == pytest.approx(gaps.std())


@pytest.mark.slow
def test_partial_labels_and_no_validation():
    """Every other structure has forces, and nothing is validated on."""
    bare = lambda s: s.replace(properties=Properties(energy=s.properties.energy))
    mixed = tuple(bare(s) if i % 2 else s for i, s in enumerate(DATA.train))
    found = run(replace(DATA, train=mixed, valid=()), epochs=2)
    assert found.card.forces and found.card.metrics == {}
    assert found.card.training["compilations"] == 2


@pytest.mark.slow
def test_classes_of_clouds_are_learnt_by_cross_entropy():
    """Without energies there are no E0s, no scale, and no forces."""
    network = EGNN(cutoff=9.0, channels=4, layers=1, irreps_out="8x0e")
    output = Output("targets.label", irreps="8x0e", pool="mean")
    found = run(load("tetris", copies=1), network, epochs=2, outputs=[output], batch_size=8)
    assert found.card.outputs == (output,) and found.card.E0s == {} and not found.card.forces
    assert found.card.training["loss"][0]["kind"] == "cross-entropy"
    assert "valid.targets.label.accuracy" in found.card.metrics


# Refusals

UNLABELLED = tuple(Structure(s.positions, s.species) for s in springs(3))
SLAB = DATA.train[0].replace(
    cell=np.eye(3) * 9,
    pbc=(True, True, False),
    properties=Properties(energy=0.0, stress=np.zeros((3, 3))),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(loss={"stress": 1.0}), "no training structure has 'stress'; there are: energy, f"),
        (dict(loss={"targets.mu": 1.0}), "no training structure has 'targets.mu'"),
        (dict(loss={"energy": {"kind": "msee"}}), "no loss 'msee'; did you mean 'mse'"),
        (dict(loss={"energy": {"wait": 2.0}}), "has no 'wait'; did you mean 'weight'"),
        (dict(loss={"energi": 1.0}), "a property is one of energy"),
        (
            dict(outputs=[Output("targets.mu")], loss={"energy": 1.0}),
            "'energy' is no output of the model; there are: targets.mu",
        ),
        (
            dict(data=replace(DATA, train=(SLAB,), valid=(SLAB,)), loss={"stress": 1.0}),
            "where three lattice vectors repeat; training structure 0 has a stress label",
        ),
        (
            dict(data=replace(DATA, train=UNLABELLED)),
            "a loss has at least one term; got none",
        ),
        (
            dict(data=replace(DATA, valid=(URANIUM,)), E0s={"H": 0.0, "O": 0.0, "U": 0.0}),
            "structure 0 holds U and 'springs' supports H, O",
        ),
        (dict(E0s="isolatd"), "did you mean 'isolated'"),
        (dict(E0s={"H": 1.0}), "every element has its E0; the table of E0s have none for O"),
        (dict(network=replace(NETWORK, elements=(1, 6))), r"the data hold \[8\] as well"),
        (dict(optimizer=Optimizer(name="adm")), "no optimizer 'adm'; did you mean 'adam'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_is_refused(change, message):
    with pytest.raises((ValueError, KeyError), match=message):
        run(**change)
