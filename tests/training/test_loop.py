"""Resume is exact, signals save, a bad batch is named, nothing is compiled beyond the plan."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from geojax.signals import Stopped
from geojax.training.checkpoint import Checkpoints
from geojax.training.optimizer import Optimizer


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(left: Path, right: Path):
    assert [x["valid.loss"] for x in lines(left)] == [x["valid.loss"] for x in lines(right)]


def test_a_run_lowers_the_error_and_writes_its_folder(problem: Callable, tmp_path: Path):
    found = problem().fit(tmp_path, epochs=6)
    assert found.history[-1]["valid.loss"] < found.history[0]["valid.loss"]
    assert found.history == lines(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["compilations"] == 3 == found.compilations
    assert Checkpoints(tmp_path / "checkpoints").steps("last") == [found.history[-1]["step"]]


def test_resuming_gives_the_run_that_would_have_been(problem: Callable, tmp_path: Path):
    whole = problem().fit(tmp_path / "whole", epochs=5)

    class Interrupted(Exception):
        pass

    p = problem()
    prepared = p.prepare(epochs=5)
    epoch = prepared.plan.programs["epoch"]
    calls = []

    def run(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return epoch.run(*arguments)

    from rich.console import Console

    from geojax.training.loop import fit
    from geojax.training.plan import Compilations, Program

    prepared.plan.programs["epoch"] = Program(run, 0.0, 0, 0, 0.0)
    options, quiet = p.options(epochs=5), Console(quiet=True)
    with pytest.raises(Stopped) as stopped:
        fit(prepared, options, tmp_path / "parts", quiet, Compilations())
    assert stopped.value.code == 128 + signal.SIGTERM
    assert len(lines(tmp_path / "parts")) < 5
    parts = problem().fit(tmp_path / "parts", epochs=5)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_chunks_train_on_everything_and_resume_exactly(problem: Callable, tmp_path: Path):
    size = sum(x.nbytes for s in problem().train for x in jax.tree.leaves(s)) / 2
    found = problem().fit(tmp_path / "whole", epochs=3, data_limit=size)
    assert found.plan.chunks > 1
    assert found.compilations == 3
    assert found.history[-1]["step"] == 3 * found.plan.order.steps * found.plan.chunks
    problem().fit(tmp_path / "parts", epochs=2, data_limit=size)
    state = json.loads((tmp_path / "parts" / "plan.json").read_text())
    assert state["chunks"] == found.plan.chunks


@pytest.mark.slow
def test_a_batch_that_is_not_finite_is_named(problem: Callable, tmp_path: Path):
    p = problem()
    labels = p.train[7].labels._replace(energy=np.float64("nan"))
    p.train[7] = p.train[7]._replace(labels=labels)
    with jax.debug_nans(False), pytest.raises(FloatingPointError, match="structures .*7"):
        p.fit(tmp_path)
    record = json.loads((tmp_path / "not-finite.json").read_text())
    assert 7 in record["structures"]
    assert Checkpoints(tmp_path / "checkpoints").steps("last")  # the last good state


@pytest.mark.slow
def test_patience_ends_a_run(problem: Callable, tmp_path: Path):
    p = problem()
    p.optimizer = Optimizer(learning_rate=0.0)
    found = p.fit(tmp_path, epochs=50, patience=2, ema=0.0)
    assert len(found.history) == 3


@pytest.mark.slow
def test_a_plateau_lowers_the_rate(problem: Callable, tmp_path: Path):
    p = problem()
    p.optimizer = Optimizer(learning_rate=0.0, plateau=1, plateau_factor=0.5)
    found = p.fit(tmp_path, epochs=3, ema=0.0)
    like = {"state": None, "best": None}
    del like
    assert found.compilations == 3


@pytest.mark.slow
def test_validation_every_few_epochs_is_one_call(problem: Callable, tmp_path: Path):
    found = problem().fit(tmp_path, epochs=5, validate_every=2)
    assert [line["epoch"] for line in found.history] == [2.0, 4.0, 5.0]


def test_without_validation_data_the_training_loss_decides(problem: Callable, tmp_path: Path):
    p = problem()
    p.valid = []
    found = p.fit(tmp_path, epochs=2)
    assert "valid.loss" not in found.history[0]
    assert found.compilations == 2


def test_compiling_beside_the_plan_is_an_error(problem: Callable, tmp_path: Path):
    p = problem()
    prepared = p.prepare(epochs=2)
    epoch = prepared.plan.programs["epoch"]

    def run(*arguments):
        jax.jit(lambda x: x * 17.25 + 3)(np.float32(1))
        return epoch.run(*arguments)

    from rich.console import Console

    from geojax.training.loop import fit
    from geojax.training.plan import Compilations, Program

    prepared.plan.programs["epoch"] = Program(run, 0.0, 0, 0, 0.0)
    with Compilations() as seen:
        seen.count = 3
        with pytest.raises(RuntimeError, match="the plan names 3 programs"):
            fit(prepared, p.options(epochs=2), tmp_path, Console(quiet=True), seen)


@pytest.mark.slow
def test_damaged_checkpoints_are_passed_over(problem: Callable, tmp_path: Path):
    problem().fit(tmp_path, epochs=2, checkpoint_seconds=0.0)
    saves = Checkpoints(tmp_path / "checkpoints")
    newest = saves.steps("last")[-1]
    record = tmp_path / "checkpoints" / "last" / str(newest) / "record.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"sha256": "0" * 64}))
    whole = problem().fit(tmp_path / "whole", epochs=3)
    again = problem().fit(tmp_path, epochs=3)
    assert again.history[-1]["valid.loss"] == whole.history[-1]["valid.loss"]
