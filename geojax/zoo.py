"""Models as folders: `README.md` (the card), `model.toml`, `weights.safetensors`.

An ensemble is a folder of such folders, `0`, `1`, …, with `README.md` and `ensemble.toml`. The
tables hold the SHA-256 of the weights and of their own content.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table
from rich.text import Text
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors

from geojax.assets import folder
from geojax.elements import symbol
from geojax.files import write_whole
from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference import Ensemble
from geojax.inference.artifact import card_of, open_artifact
from geojax.inference.export import flat_params, nested_params
from geojax.metrics import in_words
from geojax.model import Card, Model
from geojax.networks import from_table, to_table
from geojax.networks.network import input_shapes
from geojax.registry import did_you_mean

__all__ = ["describe", "descriptions", "load", "names", "save"]

WEIGHTS, MODEL, ENSEMBLE = "weights.safetensors", "model.toml", "ensemble.toml"
PARTS = {MODEL: {"weights_sha256", "network", "card"}, ENSEMBLE: {"weights_sha256", "card"}}


def names() -> list[str]:
    """The models that come with geojax."""
    return sorted(path.parent.name for path in folder("models").glob("*/model.toml"))


def descriptions() -> dict[str, str]:
    """What each of them says it is."""
    read = lambda name: tomllib.loads((folder("models") / name / MODEL).read_text())
    return {name: read(name)["card"]["description"] for name in names()}


def load(name: str | Path) -> Any:
    """A model by its name, a model or an ensemble by its folder, or an artifact by its file.

    Raises:
        KeyError: there is no model of that name.
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged or the weights do not fit the network; every mismatch is
            named. A member of an ensemble is not the one that was saved.
    """
    path = Path(name).expanduser()
    if path.suffix == ".geojax":
        return open_artifact(path)
    if (path / ENSEMBLE).exists():
        return _load_ensemble(path)
    if not (path / MODEL).exists():
        if str(name) not in names():
            if path.is_dir():
                raise FileNotFoundError(
                    f"a model's folder holds {MODEL} and an ensemble's {ENSEMBLE}; {path} holds "
                    "neither; save the model again, or get it again"
                )
            raise KeyError(
                f"a model has a name, a folder or a .geojax file; there is no {str(name)!r}; "
                f"{did_you_mean(str(name), names())}"
            )
        path = folder("models") / str(name)
    table = _read(path / MODEL)
    data = _weights(path)
    if hashlib.sha256(data).hexdigest() != table["weights_sha256"]:
        raise ValueError(
            f"{path / WEIGHTS} is damaged: its SHA-256 is not the one in {MODEL}; get it again"
        )
    network = from_table(table["network"])
    try:
        card = card_of(table["card"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path / MODEL} is not whole: its card does not have all entries ({error}); get it "
            "again"
        ) from error
    params = nested_params(read_tensors(data))
    _check_fit(network, card, params)
    return Model(network, params, card)


def _load_ensemble(path: Path) -> Ensemble:
    table = _read(path / ENSEMBLE)
    models = []
    for number, digest in enumerate(table["weights_sha256"]):
        models.append(load(path / str(number)))
        if hashlib.sha256(_weights(path / str(number))).hexdigest() != digest:
            raise ValueError(
                f"{path / str(number)} is another model than the member that {path / ENSEMBLE} "
                "names by its SHA-256; put the right one there, or save the ensemble again"
            )
    return Ensemble(models, card_of(table["card"]))


def _weights(path: Path) -> bytes:
    try:
        return (path / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not a whole model: {WEIGHTS} is missing; get it again"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """The table in a file, compared with the hash of it, which is optional."""
    try:
        table = tomllib.loads(path.read_bytes().decode())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is no TOML ({error}); get it again") from error
    digest = table.pop("contents_sha256", None)
    if wrong := sorted(set(table) ^ PARTS[path.name]):
        raise ValueError(
            f"{path} is damaged: {', '.join(wrong)} is missing or unknown; get it again"
        )
    if digest not in (None, _digest(table)):
        raise ValueError(
            f"{path} is damaged: its content is not what its contents_sha256 says; get it again, "
            "or take that line out if you have changed the file"
        )
    return table


def _digest(table: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _table_file(table: Mapping[str, Any]) -> bytes:
    """The table as TOML, with the hash of what reading it gives."""
    text = to_toml(table)
    return f'contents_sha256 = "{_digest(tomllib.loads(text))}"\n{text}'.encode()


def save(model: Model | Ensemble, where: str | Path) -> Path:
    """Write the folder of a model or an ensemble; what was there of its files is replaced.

    Raises:
        ValueError: a model's folder cannot be an ensemble's, nor the other way around.
        OSError: it cannot be written; the files of a model that were there are untouched.
    """
    where = Path(where).expanduser()
    other = where / (MODEL if isinstance(model, Ensemble) else ENSEMBLE)
    if other.exists():
        raise ValueError(
            f"a folder holds one model or one ensemble; {other} is there and a "
            f"{type(model).__name__} was to be saved; choose another folder"
        )
    where.mkdir(parents=True, exist_ok=True)
    if isinstance(model, Ensemble):
        return _save_ensemble(model, where)
    weights = tensors(flat_params(model.params, model.card.dtype))
    table = {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "network": to_table(model.network),
        "card": _card_table(model.card),
    }
    card = _readme(model.card).encode()
    files = {WEIGHTS: weights, MODEL: _table_file(table), "README.md": card}
    write_whole({where / name: content for name, content in files.items()})
    return where


def _save_ensemble(ensemble: Ensemble, where: Path) -> Path:
    digests = []
    for number, model in enumerate(ensemble.models):
        member = save(model, where / str(number))
        digests.append(hashlib.sha256(_weights(member)).hexdigest())
    table = {"weights_sha256": digests, "card": _card_table(ensemble.card)}
    card = _readme(ensemble.card, f"{len(ensemble)} members").encode()
    write_whole({where / ENSEMBLE: _table_file(table), where / "README.md": card})
    return where


def _card_table(card: Card) -> dict[str, Any]:
    """The card in plain values; see `card_of`."""
    table = asdict(card) | {"E0s": {str(z): e for z, e in card.E0s.items()}}
    return json.loads(json.dumps(table, default=_plain))


def describe(path: str) -> list[Any]:
    """What is in a model, an artifact or the folder of a run, as things to print.

    Raises:
        KeyError: it is none of them.
    """
    place = Path(path)
    if (place / "plan.json").exists():
        return _describe_run(place)
    thing = load(path)
    card, network, facts = thing.card, thing.network, {}
    if isinstance(thing, Model | Ensemble):
        network = to_table(network)
    else:
        shown = ("date", "versions", "members")
        facts = {key: thing.facts[key] for key in shown if key in thing.facts}
    if isinstance(thing, Ensemble):
        facts = {"members": len(thing)}
    parts: list[Any] = [_table(card.name, _card_rows(card) | facts), _table("network", network)]
    if card.metrics:
        parts.append(_table("errors", in_words(card.metrics)))
    if card.calibration:
        parts.append(_table("calibration", calibration_in_words(card.calibration)))
    if card.certificate:
        checks = card.certificate["checks"]
        failed = [c["name"] for c in checks if not c["passed"]]
        verdict = f"FAILED: {', '.join(failed)}" if failed else f"{len(checks)} checks passed"
        parts.append(_table("certificate", {"verdict": verdict, "date": card.certificate["date"]}))
    return parts


def _describe_run(place: Path) -> list[Any]:
    plan = _json(place / "plan.json", (place / "plan.json").read_text())
    parts = [_table("plan", {k: v for k, v in plan.items() if k != "programs"})]
    path = place / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    if lines:
        last = {k: v for k, v in _json(path, lines[-1]).items() if "." in k}
        parts.append(_table("last validation", in_words(last)))
    return parts


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); the command that began the run writes it again"
        ) from error


def _table(title: str, rows: Mapping[str, Any]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(Text(str(name)), Text(str(value)))  # as text: brackets are no markup
    return table


def _card_rows(card: Card) -> dict[str, Any]:
    data = card.data
    return {
        "description": card.description,
        "licence": card.licence,
        "outputs": ", ".join(f"{o.name} [{o.unit}]" for o in card.outputs),
        "elements": " ".join(symbol(z) for z in card.elements),
        "E0s [eV]": ", ".join(f"{symbol(z)} {e:.6f}" for z, e in card.E0s.items()),
        "precision": card.dtype,
        "data": f"{data.get('name', '')} {data.get('counts', '')} {data.get('level', '')}",
        **({"classes": ", ".join(data["classes"])} if "classes" in data else {}),
    }


def _check_fit(network: Any, card: Card, params: Any) -> None:
    """Compare with the shapes that the network would start with; names every mismatch."""
    inputs = {name: np.zeros((1, *shape)) for name, shape in _inputs(network, card).items()}
    species = np.array([card.elements[0] if card.elements else 0])
    atom = Structure(np.zeros((1, 3)), species, inputs=inputs)
    graph = pad([sample(atom, 1.0)], Budget(2, 1, 2)).graph
    want = jax.eval_shape(network.init, jax.random.key(0), graph)
    want, found = (_shapes(tree) for tree in (want, params))
    wrong = [f"{name}: missing" for name in sorted(want.keys() - found.keys())]
    wrong += [f"{name}: unknown" for name in sorted(found.keys() - want.keys())]
    wrong += [
        f"{name}: file {found[name]}, network {want[name]}"
        for name in sorted(want.keys() & found.keys())
        if want[name] != found[name]
    ]
    if wrong:
        raise ValueError("weights do not fit this network: " + "; ".join(wrong))


def _inputs(network: Any, card: Card) -> dict[str, tuple[int, ...]]:
    """The node inputs that a network's fields name, with their shapes; see `input_shapes`."""
    recorded = card.data.get("inputs", {})
    return input_shapes(network) | {name: tuple(shape) for name, shape in recorded.items()}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    rows = jax.tree_util.tree_leaves_with_path(tree)
    join = lambda path: "/".join(str(getattr(key, "key", key)) for key in path)
    return {join(path): tuple(value.shape) for path, value in rows}


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """The table as TOML, which `tomllib` turns back; None is left out."""
    plain = {k: v for k, v in table.items() if v is not None and not isinstance(v, Mapping)}
    nested = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    head = [f"[{'.'.join(map(_key, path))}]"] if path else []
    text = "\n".join([*head, *(f"{_key(k)} = {_value(v)}" for k, v in plain.items())]) + "\n"
    return text + "".join("\n" + to_toml(v, (*path, k)) for k, v in nested.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a card holds plain values; got {type(value).__name__}")


def calibration_in_words(calibration: Mapping[str, Any]) -> dict[str, str]:
    """What a calibration (see `inference.calibration`) did to each property."""
    words = {}
    for name, row in calibration.items():
        nll, area = ("{:.3g} to {:.3g}".format(*row[key]) for key in ("nll", "area"))
        words[name] = (
            f"deviations times {row['factor']:.4g}, from {row['count']} labels: mean negative "
            f"log-likelihood {nll}, miscalibration area {area}"
        )
    return words


def _readme(card: Card, *more: str) -> str:
    """The card for people."""
    lines = [f"# {card.name}", "", card.description, "", *(f"- {line}" for line in more)]
    rows = {name: value for name, value in _card_rows(card).items() if value}
    lines += [f"- {name}: {value}" for name, value in rows.items() if name != "description"]
    lines += ["", "| error | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in in_words(card.metrics).items()]
    if card.calibration:
        words = calibration_in_words(card.calibration)
        lines += ["", *(f"- calibration, {name}: {text}" for name, text in words.items())]
    if card.certificate:
        lines += ["", "| check | figure | precision | measured | limit |", "|---|---|---|---|---|"]
        lines += [
            f"| {c['name']} | {c['figure']} | {c['dtype']} | {c['value']:.1e} | {c['limit']:.0e} |"
            for c in card.certificate["checks"]
        ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
