"""Training: every bad input is refused in words, before anything is compiled where possible.

Each row names its input; its pattern holds the rule, what was received, and what to do.
"""

import json
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import Dataset
from geojax.graphs import Properties, Structure
from geojax.networks.egnn import EGNN
from geojax.outputs import Output
from geojax.training import Optimizer, Options, train
from geojax.training.checkpoint import Checkpoints
from geojax.training.history import History
from geojax.training.lock import only_run
from tests.training.conftest import springs

NETWORK = EGNN(cutoff=6.0, channels=4, layers=1)
GOOD, HELD_OUT = springs(4), springs(2, seed=1)
QUIET = Console(quiet=True)
# fmt: off
SETTINGS: dict[str, Any] = {
    "network": NETWORK, "E0s": {"H": 0.0, "O": 0.0}, "options": Options(devices=1),
    "epochs": 1, "batch_size": 2, "console": QUIET,
}
# fmt: on


def dataset(train: Sequence[Structure] = GOOD, valid: Sequence[Structure] = HELD_OUT) -> Dataset:
    return Dataset("mine", tuple(train), tuple(valid))


def attempt(data: Dataset | None = None, **changes: Any) -> Any:
    """A run on good data with good settings, but for the changes."""
    settings = SETTINGS | changes
    return train(settings.pop("network"), data or dataset(), **settings)


def relabelled(structures: Sequence[Structure], **labels: Any) -> list[Structure]:
    return [s.replace(properties=s.properties._replace(**labels)) for s in structures]


def classify(label: np.ndarray) -> Any:
    """A run on classes of three."""
    return attempt(
        dataset(relabelled(GOOD, targets={"kind": label}), []),
        network=NETWORK.clone(irreps_out="3x0e"),
        outputs=[Output("targets.kind", "3x0e", pool="mean", unit="")],
        loss={"targets.kind": {"kind": "cross-entropy"}},
    )


def with_species(structure: Structure, species: int) -> Structure:
    return structure.replace(species=np.full(len(structure), species))


def at_one_place(structure: Structure) -> Structure:
    return structure.replace(
        positions=structure.positions * 0, info={"origin": "a.xyz:9 (frame 1)"}
    )


def alike(count: int) -> list[Structure]:
    """Structures of one composition."""
    return [with_species(s, 8).replace(species=np.array([8, 1, 1])) for s in springs(count)[::3]]


ALL_ELEMENTS = {"H": 0.0, "O": 0.0, "C": 0.0}
STRESS = Properties(energy=0.0, stress=np.eye(3))
# fmt: off
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # data
    "empty training set": (
        lambda: dataset([]), ValueError, "has training structures; 'mine' has none"),
    "two atoms at one place": (
        lambda: attempt(dataset([GOOD[0], at_one_place(GOOD[1])])), ValueError,
        r"train structure 1 \(a.xyz:9 \(frame 1\)\): two atoms may not be at one place.* remove"),
    "two atoms at one place in validation": (
        lambda: attempt(dataset(valid=[at_one_place(GOOD[1])])), ValueError,
        r"valid structure 0 \(a.xyz:9 .*: two atoms may not be at one place; atoms .*; remove one"),
    "element that the network was not made for": (
        lambda: attempt(network=EGNN(cutoff=6.0, elements=(1,))), ValueError,
        r"made for \[1\] and the data hold \[8\] as well \(O\); give the network all elements, or"),
    "element in validation only": (
        lambda: attempt(dataset(valid=[with_species(GOOD[0], 6)]), E0s=ALL_ELEMENTS), ValueError,
        "the elements that it was trained on; structure 0 holds C and 'mine' supports H, O"),
    # labels
    "no labels": (
        lambda: attempt(dataset(relabelled(GOOD, energy=None, forces=None))), ValueError,
        "a loss has at least one term; got none; add loss.energy"),
    "no forces key": (
        lambda: attempt(dataset(relabelled(GOOD, forces=None)), loss={"forces": 1.0}), ValueError,
        "needs labels; no training structure has 'forces'; there are: energy; take it out .* or n"),
    "no stress key": (
        lambda: attempt(loss={"energy": 1.0, "stress": 1.0}), ValueError,
        "needs labels; no training structure has 'stress'; there are: energy, forces; take it out"),
    "no energies in validation": (
        lambda: attempt(dataset(valid=relabelled(HELD_OUT, energy=None))), ValueError,
        "measured on the validation set; .*'energy'; there are: forces; hold out labelled"),
    "stress without three axes that repeat": (
        lambda: attempt(dataset(relabelled(GOOD, stress=np.eye(3)), relabelled(HELD_OUT, **{
            "stress": np.eye(3)}))), ValueError,
        r"three lattice vectors repeat; training structure 0 .* pbc \(False, False, False\); take"),
    "a class that the output does not have": (
        lambda: classify(np.array(3)), ValueError,
        r"classes, whole numbers from 0 to 2 for .* '3x0e'; targets.kind of training structure 0 "
        r"is 3 to 3 \(int64\); classes="),
    "a class below zero": (
        lambda: classify(np.array(-1)), ValueError, "takes classes, .* is -1 to -1"),
    "a class that is no whole number": (
        lambda: classify(np.array(1.0)), ValueError, r"takes classes, .* is 1 to 1 \(float64\)"),
    # energies of the elements
    "E0s missing": (
        lambda: attempt(E0s="isolated"), ValueError,
        "need energies of isolated atoms; data set 'mine' brings none; give E0s='average' or a"),
    "E0s of some elements": (
        lambda: attempt(E0s={"H": -13.6}), ValueError,
        "every element has its E0; the table .* none for O, only for H; add the missing ones"),
    "E0s from singular compositions": (
        lambda: attempt(dataset(alike(9), []), E0s="average"), ValueError,
        "H, O cannot be told apart: 2 elements but only 1 .*; give .*'isolated' .* E0s='ridge'"),
    "E0 that is not finite": (
        lambda: attempt(E0s={"H": np.nan, "O": 0.0}), ValueError,
        r"an E0 is a finite energy \[eV\]; the table of E0s have another for \['H'\]"),
    # words
    "typo in E0s": (lambda: attempt(E0s="isolatd"), KeyError, "'isolatd'; did you mean 'isolated'"),
    "typo in a loss term": (
        lambda: attempt(loss={"enrgy": 1.0}), KeyError, "one of energy, forces, .*; got 'enrgy'"),
    "typo in a loss": (
        lambda: attempt(loss={"energy": {"kind": "mea"}}), KeyError,
        "there is no loss 'mea'; did you mean .*'mae'"),
    "typo in an option of a loss": (
        lambda: attempt(loss={"energy": {"wieght": 1.0}}), KeyError,
        "loss.energy has no 'wieght'; did you mean 'weight'"),
    "typo in the optimizer": (
        lambda: attempt(optimizer=Optimizer("adm")), KeyError,
        "there is no optimizer 'adm'; did you mean 'adam'"),
    "typo in the schedule": (
        lambda: attempt(optimizer=Optimizer(schedule="cosin")), KeyError,
        "there is no schedule 'cosin'; did you mean 'cosine'"),
    "typo in the layout": (
        lambda: attempt(layout="tabel"), KeyError,
        "there is no edge layout 'tabel'; did you mean 'table'"),
    "typo in the dtype": (
        lambda: Options(dtype="flaot32"), KeyError,
        "training has no dtype 'flaot32'; did you mean 'float32'"),
    "metric that is not measured": (
        lambda: History(Path("never written"), "forces_rmse").value({"valid.forces.rmse": 1.0}),
        KeyError, "must be measured; 'forces_rmse' is not: forces.rmse"),
    # numbers
    "no epochs": (lambda: attempt(epochs=0), ValueError, "epochs is a count; got 0; give a whole"),
    "empty batches": (
        lambda: attempt(batch_size=0), ValueError, "batch_size is a count; got 0; give a whole"),
    "no validation ever": (
        lambda: Options(validate_every=0), ValueError, "validate_every is a count; got 0; give"),
    "average that does not decay": (
        lambda: Options(ema=1.0), ValueError, "ema is from 0 .* to below 1; got 1.0; try 0.99"),
    "devices that are not there": (
        lambda: attempt(options=Options(devices=99)), ValueError,
        "a run uses devices that exist; 99 asked for, cpu has 1"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name):
    act, kind, pattern = REFUSED[name]
    with pytest.raises(kind, match=pattern):
        act()


# The run: numbers that are not finite, folders, disks, checkpoints


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path):
    """A label that only float32 cannot hold; the state before it is saved."""
    forces = GOOD[2].properties.forces.copy()
    forces[1, 0] = 1e38
    broken = [*GOOD[:2], *relabelled(GOOD[2:3], forces=forces), GOOD[3]]
    pattern = (
        r"not finite at step [01]; the batch holds the training structures \[.*2.*\]; the largest "
        r"force label is 1e\+38 eV/Å, in structure 2; the state before it is saved; look at these"
    )
    with jax.debug_nans(False), pytest.raises(FloatingPointError, match=pattern):
        attempt(dataset(broken), folder=tmp_path, normalise=False)
    assert 2 in json.loads((tmp_path / "not-finite.json").read_text())["structures"]
    assert Checkpoints(tmp_path / "checkpoints").steps("last")


@pytest.mark.slow
def test_partial_labels_are_masked():
    """Half of the structures have no forces: the force error counts the others alone."""
    half = [*GOOD[:2], *relabelled(GOOD[2:], forces=None)]
    model = attempt(dataset(half))
    assert np.isfinite(model.card.metrics["valid.loss"])


@pytest.mark.slow
def test_single_atoms_are_trained_on_without_any_edge():
    """No force, no edge, no NaN."""
    atom = Structure(np.zeros((1, 3)), np.array([1]), properties=Properties(energy=-13.6))
    model = attempt(dataset([atom], [atom]), E0s={"H": -13.0})
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(model.params))
    assert np.isfinite(model.card.metrics["valid.loss"])


@pytest.mark.slow
def test_double_precision_is_double():
    model = attempt(options=Options(devices=1, dtype="float64"))
    assert {x.dtype.name for x in jax.tree.leaves(model.params)} == {"float64"}
    assert jax.numpy.zeros(1).dtype == np.float32  # the setting went with the run


@pytest.mark.parametrize("name", ["a file", "below a file"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / ("run" if name == "below a file" else "")
    pattern = r"a run writes to a folder; .*file.* cannot be one \(.*\); choose another"
    with pytest.raises(OSError, match=pattern):
        attempt(folder=folder)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        (tmp_path / "run" / "probe").touch()
    except PermissionError:
        with pytest.raises(OSError, match="run cannot be one .Permission denied.; choose another"):
            attempt(folder=tmp_path / "run")
    else:
        pytest.skip("this user may write everywhere")


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (
        only_run(tmp_path),
        pytest.raises(ValueError, match="one run at a time; another process is wri.*; wait for"),
    ):
        attempt(folder=tmp_path)


@pytest.mark.slow
def test_another_run_in_the_folder_is_refused(tmp_path):
    attempt(folder=tmp_path)
    pattern = "holds one run; .* was started with other settings for optimizer; choose another"
    with pytest.raises(ValueError, match=pattern):
        attempt(folder=tmp_path, learning_rate=0.5)
    damage(tmp_path / "checkpoints")
    pattern = "checkpoint .* is damaged: its SHA-256 is not the one .*; start again in a new folder"
    with pytest.raises(ValueError, match=pattern):
        attempt(folder=tmp_path)


def damage(checkpoints: Path) -> None:
    """Replace the hash of every checkpoint, as a flipped bit in its arrays would."""
    for path in checkpoints.glob("last/*/record.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    saves = Checkpoints(tmp_path)
    saves.save("last", 1, {"a": np.zeros(10**6)}, {})
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    pattern = "needs 16 MB of free disk .*; .* has 1 MB; older checkpoints are untouched"
    with pytest.raises(OSError, match=pattern):
        saves.save("last", 2, {"a": np.zeros(10**6)}, {})
    assert saves.steps("last") == [1]
