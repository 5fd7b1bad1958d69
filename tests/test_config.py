"""Experiments from TOML: overrides, types, and everything unknown refused with a suggestion."""

import tomllib
from pathlib import Path

import pytest

from geojax import config
from geojax.model import Model
from geojax.networks.egnn import EGNN
from geojax.outputs import Output
from geojax.training import Optimizer, Options

STUDY = """
[data]
name = "tetris"
[network]
name = "egnn"
channels = 8
irreps_out = "8x0e"
[[outputs]]
name = "targets.label"
irreps = "8x0e"
pool = "mean"
[loss]
"targets.label" = { kind = "cross-entropy" }
[optimizer]
learning_rate = 0.01
[train]
epochs = 3
E0s = "average"
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.toml"
    path.write_text(STUDY)
    return path


def test_tables_become_their_types(study: Path):
    found = config.read(study)
    assert found.name == "shapes"
    assert found.network == EGNN(channels=8, irreps_out="8x0e")
    assert found.outputs == (Output("targets.label", "8x0e", pool="mean"),)
    assert found.optimizer == Optimizer(learning_rate=0.01)
    assert (found.options.epochs, found.E0s, found.layout) == (3, "average", "list")


@pytest.mark.parametrize("table", ["optimizer", "train"])
def test_what_can_be_set_can_be_set_to_its_default(study: Path, table: str):
    told = [s for s in config.tables()[table] if s.default]
    assert len(told) > 8 and all(s.meaning for s in told)
    config.read(study, [f"{table}.{s.name}={s.default}" for s in told])


def test_what_can_be_set_is_told_of_in_full():
    tables = {name: {s.name for s in rows} for name, rows in config.tables().items()}
    assert tables.keys() == set(config.TABLES) - {"name", "description"}
    assert {"train", "valid", "keys", "points", "classes"} <= tables["data"]
    assert {"weight", "kind", "per_atom"} <= tables["loss"] and "property" not in tables["loss"]
    assert {"start", "E0s", "layout", "epochs"} <= tables["train"]


def test_overrides_go_before_the_file(study: Path):
    changes = ["train.epochs=7", "optimizer.name=amsgrad", "network.axes=['normals']", "name=x"]
    found = config.read(study, changes)
    assert found.options.epochs == 7
    assert found.optimizer == Optimizer("amsgrad", 0.01)
    assert found.network.axes == ("normals",)
    assert found.name == "x"


START = '[data]\nname = "ethanol"\n[train]\nstart = "nequip-ethanol"\nE0s = "kept"\n'


def test_a_study_starts_with_a_model_in_place_of_a_network():
    found = config.from_tables({"name": "more"} | tomllib.loads(START))
    assert isinstance(found.network, Model) and found.network.card.elements == (1, 6, 8)
    assert found.E0s == "kept" and found.options == Options()
    both = tomllib.loads(START + '[network]\nname = "egnn"')
    with pytest.raises(ValueError, match="start = 'nequip-ethanol' and a table .network.; leave"):
        config.from_tables({"name": "more"} | both)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("train.epohcs=7", KeyError, "epochs"),
        ("optimiser.name=adam", KeyError, "optimizer"),
        ("network.chanels=7", KeyError, "channels"),
        ("network.name=egnm", KeyError, "egnn"),
        ("loss.forces.knid=mae", KeyError, "kind"),
        ("train.epochs", ValueError, "table.key=value"),
        ("data.name.first=1", ValueError, "is a value, not a table"),
        ("name.first=1", ValueError, "name takes a value of kind str"),
        (
            "train.epochs=three",
            ValueError,
            "train.epochs takes a value of kind integer; got 'three'",
        ),
        (
            "optimizer.learning_rate=true",
            ValueError,
            "learning_rate takes a value of kind number; got True",
        ),
        (
            "train.normalise=False",
            ValueError,
            "train.normalise takes a value of kind boolean, true or false; got 'False'",
        ),
        ("train.E0s=0", ValueError, "train.E0s takes a value of kind string or table; got 0"),
        ("train.layout=3", ValueError, "train.layout takes a value of kind string; got 3"),
        ("train.patience=soon", ValueError, "train.patience takes a value of kind integer"),
        ("train.devices=2.5", ValueError, "train.devices takes a value of kind integer; got 2.5"),
        ("train.patience=0", ValueError, "patience is a number of validations, 1 or more; got 0"),
        ("train.data_limit=0.0", ValueError, "data_limit is a number of bytes; got 0"),
        ("optimizer.clip=0.0", ValueError, "clip is the largest norm of a gradient; got 0"),
        ("optimizer.learning_rate=-1.0", ValueError, "learning_rate is zero or more; got -1"),
        ("optimizer.plateau=0", ValueError, "plateau is a number of validations, 1 or more; got 0"),
        ("optimizer.b2=1.0", ValueError, "b1 and b2 are below 1; got 0.9 and 1"),
        ("optimizer.plateau_factor=2.0", ValueError, "above 0, at most 1; got 2"),
        ("network.name=3", KeyError, "3"),
        ("network.channels=many", ValueError, "network.channels takes a value of kind integer"),
    ],
)
def test_typos_are_refused_with_a_suggestion(study: Path, override, error, message):
    with pytest.raises(error, match=message):
        config.read(study, [override])


def test_a_missing_table_and_bad_toml_are_refused(tmp_path: Path):
    path = tmp_path / "x.toml"
    path.write_text("[data]\nname = 'tetris'\n")
    with pytest.raises(ValueError, match=r"has a table \[network\]"):
        config.read(path)
    path.write_text("[data\n")
    with pytest.raises(ValueError, match="x.toml"):
        config.read(path)
    with pytest.raises(FileNotFoundError):
        config.read(tmp_path / "none.toml")


@pytest.mark.slow
def test_running_trains_tests_and_writes(study: Path, tmp_path: Path):
    from rich.console import Console

    model, results = config.run(config.read(study), tmp_path / "run", Console(quiet=True))
    assert {"command", "machine", "date", "steps", "parameters"} <= set(results)
    assert set(results["test"]) == {"targets.label.accuracy"}
    assert (tmp_path / "run" / "results.json").exists()
    assert (
        model.card.metrics["test.targets.label.accuracy"]
        == results["test"]["targets.label.accuracy"]
    )
    again, _ = config.run(config.read(study), tmp_path / "run", Console(quiet=True))
    assert again.card.training["steps"] == model.card.training["steps"]
    with pytest.raises(ValueError, match="other settings for network"):
        config.run(
            config.read(study, ["network.channels=9"]), tmp_path / "run", Console(quiet=True)
        )


@pytest.mark.slow
def test_an_ensemble_is_trained_by_seed_and_draw(study: Path, tmp_path: Path):
    from rich.console import Console

    quiet, tables = Console(quiet=True), config.read(study, ["train.seed=5"])
    ensemble, results = config.run_ensemble(tables, tmp_path, 2, resample=True, console=quiet)
    records = [model.card.training for model in ensemble.models]
    assert [record["options"]["seed"] for record in records] == [5, 6]
    assert [record["resample"] for record in records] == [5, 6]
    assert len(results["members"]) == 2 and (tmp_path / "1" / "metrics.jsonl").exists()
    accuracy = results["test"]["targets.label.accuracy"]
    assert ensemble.card.metrics["test.targets.label.accuracy"] == accuracy
    with pytest.raises(ValueError, match="two members or more; got 1"):
        config.run_ensemble(tables, tmp_path, 1)
