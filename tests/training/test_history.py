"""What is best, and when to give up."""

import json
import math

import pytest

from geojax.training.history import History


def test_lower_is_better_but_for_accuracies(tmp_path):
    losses = History(tmp_path / "a.jsonl")
    assert [losses.add({"epoch": i, "loss": x}) for i, x in enumerate((3.0, 2.0, 2.5))] == [
        True,
        True,
        False,
    ]
    assert (losses.best, losses.best_epoch, losses.waited) == (2.0, 1, 1)
    right = History(tmp_path / "b.jsonl", "targets.kind.accuracy")
    name = "valid.targets.kind.accuracy"
    assert [right.add({"epoch": i, name: x}) for i, x in enumerate((0.3, 0.6, 0.5))] == [
        True,
        True,
        False,
    ]


def test_validation_loss_goes_before_training_loss(tmp_path):
    history = History(tmp_path / "a.jsonl")
    assert history.value({"loss": 1.0, "valid.loss": 2.0}) == 2.0


def test_a_nan_is_never_best(tmp_path):
    assert not History(tmp_path / "a.jsonl").add({"epoch": 0, "loss": math.nan})


def test_an_unmeasured_metric_is_named_with_those_measured(tmp_path):
    history = History(tmp_path / "a.jsonl", "forces.mea")
    with pytest.raises(KeyError, match=r"forces\.mea.*forces\.mae"):
        history.add({"epoch": 0, "loss": 1.0, "valid.forces.mae": 1.0})


def test_plateaus_come_once_every_patience(tmp_path):
    history = History(tmp_path / "a.jsonl")
    seen = []
    for epoch, loss in enumerate((1.0, 2.0, 2.0, 2.0, 2.0, 0.5, 2.0, 2.0)):
        history.add({"epoch": epoch, "loss": loss})
        seen.append(history.reached_plateau(2))
    assert seen == [False, False, True, False, True, False, False, True]
    assert not history.reached_plateau(None)


def test_restoring_forgets_what_came_after(tmp_path):
    path = tmp_path / "a.jsonl"
    history = History(path)
    history.add({"epoch": 0, "loss": 0.1})
    state = json.loads(json.dumps(history.state()))
    history.add({"epoch": 1, "loss": 0.05})
    other = History(path)
    other.restore(state)
    assert (
        other.lines
        == [{"epoch": 0, "loss": 0.1}]
        == [json.loads(line) for line in path.read_text().splitlines()]
    )
    assert other.best == 0.1
