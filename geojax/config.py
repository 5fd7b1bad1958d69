"""`Experiment`: a study as one TOML file, its overrides, and running it.

name = "…", description = "…"          (of the model; the name is the file's by default)
[data]       name = "ethanol"              or train = "train.xyz", valid = 0.1, …
[network]    name = "nequip", and fields of that network
[[outputs]]  name = "targets.mu", …        (an energy by default)
[loss]       energy = 1.0, forces = {weight = 10.0, kind = "huber"}
[optimizer]  learning_rate = 0.01, …
[train]      epochs = 100, …; E0s, layout and normalise too; start = "nequip-ethanol": in place
             of a network, a model to begin with, by its name or folder
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from geojax.checks.doctor import machine
from geojax.datasets import DATASETS, Dataset, from_files, load
from geojax.datasets import read as read_files
from geojax.inference import Ensemble, predict
from geojax.metrics import compare, constant_baseline
from geojax.model import Model
from geojax.networks import from_table
from geojax.outputs import Output
from geojax.registry import did_you_mean
from geojax.settings import REQUIRED, Setting, check_kinds, settings
from geojax.training import Optimizer, Options, Term, terms_from_table, train
from geojax.training.processes import is_first
from geojax.zoo import load as load_model

__all__ = ["Experiment", "evaluate", "read", "run", "run_ensemble", "tables"]

TABLES = ("name", "description", "data", "network", "outputs", "loss", "optimizer", "train")
OF_TRAIN = ("E0s", "layout", "normalise")  # arguments of `train` that are not in `Options`


@dataclass(frozen=True)
class Experiment:
    """A study, checked: every key is known and every value has been turned into its type.

    `network` is a model where training starts with one.
    """

    name: str
    data: Mapping[str, Any]
    network: Any
    outputs: tuple[Output, ...] | None = None
    loss: Mapping[str, Any] | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    options: Options = field(default_factory=Options)
    E0s: Any = "auto"
    layout: str = "list"
    normalise: bool = True
    description: str = ""
    command: str = ""


def read(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a TOML file, with `table.key=value` overrides (values in TOML).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, an override without "=", or a value of another kind than the field.
        KeyError: an unknown table or key; the nearest known one is named.
        OSError: the model to start with cannot be read.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"an experiment is a TOML file; {path}: {error}") from error
    for override in overrides:
        _override(table, override)
    study = from_tables({"name": path.stem} | table)
    return replace(study, command=" ".join(["geojax train", str(path), *overrides]))


def from_tables(table: Mapping[str, Any]) -> Experiment:
    """The experiment that the tables of a TOML file describe; raises as `read`."""
    _known(table, TABLES, "an experiment")
    options = dict(table.get("train", {}))
    start = options.pop("start", None)
    for name in ("data", "network") if start is None else ("data",):
        if name not in table:
            raise ValueError(f"an experiment has a table [{name}]; got {sorted(table)}")
    if start is not None and "network" in table:
        raise ValueError(
            f"a model to start with has its network; got start = {start!r} and a table [network]; "
            "leave one of them out"
        )
    more = {key: options.pop(key) for key in OF_TRAIN if key in options}
    check_kinds(table, Experiment, "the study")
    check_kinds(more, train, "train")
    outputs = table.get("outputs")
    loss = table.get("loss")
    if loss is not None:
        terms_from_table(loss)
    return Experiment(
        name=table["name"],
        description=table.get("description", ""),
        data=table["data"],
        network=from_table(table["network"]) if start is None else _model(start),
        outputs=None if outputs is None else tuple(_build(Output, o, "outputs") for o in outputs),
        loss=loss,
        optimizer=_build(Optimizer, table.get("optimizer", {}), "optimizer"),
        options=_build(Options, options, "train", extra=OF_TRAIN),
        **more,
    )


def _model(name: str) -> Model:
    found = load_model(name)
    if not isinstance(found, Model):
        raise ValueError(
            f"training starts with one model and its weights; {name!r} is of another kind "
            f"({type(found).__name__}); give the folder of a model, or of a member of an ensemble"
        )
    return found


def _known(table: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in table:
        if key not in known:
            raise KeyError(f"{what} has no {key!r}; {did_you_mean(key, known)}")


def _build(kind: type, table: Mapping[str, Any], what: str, extra: Sequence[str] = ()) -> Any:
    known = [f.name for f in fields(kind)]
    _known(table, [*known, *extra], f"[{what}]")
    check_kinds(table, kind, what)
    return kind(**table)


def _override(table: dict[str, Any], override: str) -> None:
    """Set one value: `network.channels=64`, `data.name="ethanol"`, also without the quotes."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"an override is table.key=value; got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.strip().split(".")
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{name!r} in the override {override!r} is a value, not a table")
    table[last] = value


def data_of(table: Mapping[str, Any]) -> Dataset:
    """The data set that a table names: `name` and its options, or files (`train`, `valid`, …)."""
    options = dict(table)
    if "name" in options and "train" not in options:
        name = options.pop("name")
        check_kinds(options, DATASETS[name], "data")
        return load(name, **options)
    check_kinds(options, from_files, "data")
    return from_files(**options)


def run(
    experiment: Experiment,
    folder: str | Path,
    console: Console | None = None,
    resample: int | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Train and test; the model and the results, which are also written to the folder.

    `results.json` holds the test errors of the model and of a baseline that looks at no geometry.
    Of several processes the first one tests and writes; the others return without test errors.

    Args:
        resample: see `train`.
    """
    folder = Path(folder)
    data = data_of(experiment.data)
    model = train(
        experiment.network,
        data,
        loss=experiment.loss,
        outputs=experiment.outputs,
        E0s=experiment.E0s,
        normalise=experiment.normalise,
        optimizer=experiment.optimizer,
        options=experiment.options,
        layout=experiment.layout,
        folder=folder,
        name=experiment.name,
        console=console,
        resample=resample,
    )
    model = model.replace_card(description=experiment.description)
    trained = model.card.training
    results = {
        "name": experiment.name,
        "command": experiment.command,
        "machine": machine(),
        "date": date.today().isoformat(),
        **{key: trained[key] for key in ("seconds", "steps", "compilations")},
        "counts": dict(model.card.data["counts"]),
        "parameters": trained["plan"]["parameters"],
        "valid": dict(model.card.metrics),
    }
    if not is_first():
        return model, results
    if data.test:
        results["test"] = evaluate(model, data.test)
        results["baseline"] = constant_baseline(data.train, data.test)
        tested = {f"test.{name}": value for name, value in results["test"].items()}
        model = model.replace_card(metrics={**model.card.metrics, **tested})
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    return model, results


def run_ensemble(
    experiment: Experiment,
    folder: str | Path,
    count: int,
    *,
    resample: bool = False,
    console: Console | None = None,
) -> tuple[Ensemble, dict[str, Any]]:
    """Train so many members, one after the other, and test them together.

    Each is a run in a folder of its own, `0`, `1`, …, with a seed one higher than the last.

    Args:
        resample: each member sees a draw of its own of the training structures (see `train`).

    Raises:
        ValueError: fewer than two members; and as `run`.
    """
    if count < 2:
        raise ValueError(f"an ensemble has two members or more; got {count}")
    folder, seed = Path(folder), experiment.options.seed
    models, members = [], []
    for number in range(count):
        study = replace(experiment, options=replace(experiment.options, seed=seed + number))
        draw = seed + number if resample else None
        model, results = run(study, folder / str(number), console, draw)
        models.append(model)
        members.append(results)
    ensemble, data = Ensemble(models), data_of(experiment.data)
    errors = {split: evaluate(ensemble, getattr(data, split)) for split in ("valid", "test")}
    errors = {split: found for split, found in errors.items() if found}
    shared = {key: members[0][key] for key in ("name", "command", "machine", "date", "counts")}
    baseline = {key: members[0][key] for key in ("baseline",) if key in members[0]}
    results = shared | errors | baseline | {"members": members}
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    named = {f"{split}.{k}": v for split, found in errors.items() for k, v in found.items()}
    return ensemble.replace_card(metrics=named), results


def tables() -> dict[str, list[Setting]]:
    """What the tables of a study may hold: all keys, what they take, defaults and meanings."""
    how = {s.name: s for s in settings(read_files, leave_out=["path", "seed"])}
    files = [how.get(s.name, s) for s in settings(from_files)]
    files = [s._replace(default="") if s.name == "train" else s for s in files]
    of_train = {s.name: s for s in settings(train)}
    start = "a model to begin with, by its name or folder, in place of [network]"
    named = "of a data set, whose options follow (geojax list datasets NAME); or of the files"
    network = "of a network, whose fields follow (geojax list networks NAME)"
    return {
        "data": [s._replace(meaning=named) if s.name == "name" else s for s in files],
        "network": [Setting("name", "string", REQUIRED, network)],
        "outputs": settings(Output),
        "loss": settings(Term, leave_out=["property"]),
        "optimizer": settings(Optimizer),
        "train": [
            *settings(Options),
            *(of_train[name] for name in OF_TRAIN),
            Setting("start", "string", "", start),
        ],
    }


def evaluate(model: Any, structures: Sequence[Any]) -> dict[str, float]:
    """Errors of a model (or an opened artifact) on labelled structures."""
    return compare(predict(model, structures), structures)
