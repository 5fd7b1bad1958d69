"""`train`: from a network and labelled structures to a `Model`."""

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np
from e3nn_jax import Irreps
from rich.console import Console

from geojax.assets import compile_cache
from geojax.datasets import Dataset, fingerprint, reference_energies
from geojax.elements import symbol
from geojax.graphs import Sample, Structure, leaf, leaves
from geojax.model import Card, Model, check_elements, weights_hash
from geojax.networks import fit_to_data, to_table
from geojax.networks.network import input_shapes
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.registry import did_you_mean
from geojax.training.augment import augmenter
from geojax.training.history import History
from geojax.training.lock import only_run
from geojax.training.loop import Options, fit
from geojax.training.normalise import normalised, with_atomrefs
from geojax.training.optimizer import Optimizer
from geojax.training.plan import Compilations
from geojax.training.prepare import prepare
from geojax.training.processes import is_first, refuse_difference
from geojax.training.resample import drawn
from geojax.training.samples import make_samples, most_neighbors
from geojax.training.settings import remember
from geojax.training.start import outputs_of, shifted_E0s
from geojax.training.terms import (
    DESCRIPTORS,
    DEVIATIONS,
    Term,
    check_deviations,
    terms_from_table,
)

__all__ = ["train"]

T = TypeVar("T")

LAYOUTS = ("list", "table")
DERIVED = ("forces", "stress")
FORCE_FIELD_LOSS = {"energy": 1.0, "forces": 10.0, "stress": 10.0}
LARGEST_BINDING = 20  # [eV/atom], twice that of the strongest crystals


def train(
    network: Any,
    data: Dataset,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    loss: Mapping[str, Any] | None = None,
    outputs: Sequence[Output] | None = None,
    E0s: str | Mapping[Any, float] = "auto",
    normalise: bool = True,
    optimizer: Optimizer | None = None,
    options: Options | None = None,
    layout: str = "list",
    folder: str | Path | None = None,
    name: str | None = None,
    console: Console | None = None,
    resample: int | None = None,
) -> Model:
    """A trained model; the test set is not touched.

    Args:
        network: fields that wait for the data are filled in (`networks.fit_to_data`). Or a model:
            training begins with its parameters and keeps its outputs and their scales.
        data: `train` and `valid` structures, and a card.
        epochs, batch_size, learning_rate: in place of those in `options` and `optimizer`.
        loss: as `losses.terms_from_table`; the labelled energy, forces and stress by default.
        outputs: what the network's output means; an energy by default.
        E0s: "isolated", "average", "ridge", an explicit table (see `reference_energies`), or
            "auto": isolated where the data bring them, otherwise average. Where training begins
            with a model also "kept", its own, or "shifted" (see `start.shifted_E0s`), which is
            "auto" then where the data bring none.
        normalise: set scale and shift of outputs that have none from the training labels, and
            atomrefs of summed targets; those of a model that training begins with stay as they are.
        layout: of the edges, "list" or "table" (see `graphs.messages`).
        folder: of the run; a run that is there already is continued. A temporary one by default.
        name: of the model; the data's name by default.
        resample: a seed: steps see a draw of the training structures (see `training.resample`);
            what is set from the data is set from all of them.

    Raises:
        KeyError: another layout.
        ValueError: the loss needs labels that no training structure has; a structure is unsound or
            has an element that no training structure has; the folder holds a run with other
            settings, or one that is going on; a model has other outputs, or was not trained on an
            element; and whatever `prepare` and `fit` refuse.
        OSError: the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise KeyError(f"there is no edge layout {layout!r}; {did_you_mean(layout, LAYOUTS)}")
    compile_cache()
    console = console or Console(stderr=True)
    options = _changed(options or Options(), epochs=epochs, batch_size=batch_size)
    optimizer = _changed(optimizer or Optimizer(), learning_rate=learning_rate)
    start = network if isinstance(network, Model) else None
    if start is not None:
        network, outputs, normalise = start.network, outputs_of(start, outputs), False
        check_elements(start.card, data.train)
    outputs = tuple(outputs or (Output(),))
    terms = terms_from_table(loss or _default_loss(data.train, outputs))
    _check_labels(terms, data, outputs)
    check_deviations(terms, outputs)
    outputs = with_atomrefs(outputs, data) if normalise else outputs
    wanted = {term.property for term in terms}
    forces, stress = (name in wanted for name in DERIVED)
    card = Card(
        name=name or data.name,
        licence=str(data.card.get("licence", "")),
        outputs=outputs,
        E0s=_E0s(E0s, data, outputs, start),
        elements=tuple(sorted({int(z) for s in data.train for z in np.unique(s.species)})),
        forces=forces,
        stress=stress,
        dtype=options.dtype,
        data=_data_record(data, network),
    )
    check_elements(card, data.valid)
    splits = {"train": data.train, "valid": data.valid}
    slots = None if layout == "list" else most_neighbors(splits, network)
    whole = any(term.kind in DESCRIPTORS for term in terms)
    samples = make_samples(splits, network, card, wanted, slots=slots, members=whole, folder=folder)
    _show_E0s(card, samples["train"], console)
    network = fit_to_data(network, samples["train"])
    if normalise:
        card = replace(card, outputs=normalised(card.outputs, terms, samples["train"]))
    settings = _settings(network, card, terms, optimizer, options, layout) | {"resample": resample}
    if start is not None:
        settings |= {"start": {"model": start.card.name, "weights": weights_hash(start.params)}}
    samples["train"] = drawn(samples["train"], resample)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _held(where := Path(folder or scratch).expanduser()),
        jax.enable_x64(options.dtype == "float64"),
        Compilations() as seen,
    ):
        if is_first():
            remember(where, settings)
        outputs = _slotted(card.outputs, splits)
        spread = any(term.kind in DEVIATIONS and term.property in DERIVED for term in terms)
        predict = predict_fn(network, outputs, forces=forces, stress=stress, deviations=spread)
        run = prepare(
            network.init if start is None else lambda key, graph: start.params,
            predict,
            samples["train"],
            samples["valid"],
            terms,
            optimizer,
            options,
            slots=slots,
            augment=augmenter(options.augment, network, outputs),
        )
        refuse_difference(run.plan.programs.get("agree"), _digest(settings), "settings and data")
        console.print(run.plan.table())
        found = fit(run, options, where, console, seen)
    record = settings | {
        "seconds": found.seconds,
        "compilations": found.compilations,
        "steps": found.history[-1]["step"] if found.history else 0,
        "plan": found.plan.record(),
        "device": jax.devices()[0].device_kind,
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "optax")},
    }
    watched = History(where / "metrics.jsonl", options.watch).value
    best = min(found.history, key=watched, default={})
    metrics = {k: v for k, v in best.items() if k.startswith("valid.")}
    return Model(network, found.params, replace(card, training=record, metrics=metrics))


def _changed(settings: T, **changes: Any) -> T:
    return replace(cast(Any, settings), **{k: v for k, v in changes.items() if v is not None})


def _default_loss(structures: Sequence[Structure], outputs: Sequence[Output]) -> dict[str, Any]:
    """Labelled energy, forces and stress of an energy model; the square error of other outputs."""
    table: dict[str, Any] = {}
    for output in outputs:
        if output.name != "energy":
            if output.name == "hessian":
                table["hessian"] = {"kind": "mae"}
                continue
            labels = (leaf(s.properties, output.name) for s in structures)
            label = next((known for known in labels if known is not None), None)
            classes = label is not None and np.asarray(label).dtype.kind in "iu"
            table[output.name] = {"kind": "cross-entropy" if classes else "mse"}
            continue
        for name, weight in FORCE_FIELD_LOSS.items():
            if any(leaf(s.properties, name) is not None for s in structures):
                table[name] = weight
    return table


def _check_labels(terms: Sequence[Term], data: Dataset, outputs: Sequence[Output]) -> None:
    structures = data.train
    predicted = {output.name for output in outputs}
    if "energy" in predicted:
        predicted |= {"energies", *DERIVED}
    labelled = {name for s in structures for name in leaves(s.properties)}
    validated = {name for s in data.valid for name in leaves(s.properties)}
    for term in terms:
        if term.property not in labelled:
            raise ValueError(
                f"the loss needs labels; no training structure has {term.property!r}; there are: "
                f"{', '.join(sorted(labelled)) or 'none'}; take it out of the loss, or name the "
                "key that holds it when the data are read"
            )
        if data.valid and term.property not in validated:
            raise ValueError(
                f"the loss is measured on the validation set; no structure in it has "
                f"{term.property!r}; there are: {', '.join(sorted(validated)) or 'none'}; hold out "
                "labelled structures, or none"
            )
        if term.property not in predicted:
            raise ValueError(
                f"the loss needs predictions; {term.property!r} is no output of the model; "
                f"there are: {', '.join(sorted(predicted))}"
            )
        if term.kind == "cross-entropy":
            (output,) = (output for output in outputs if output.name == term.property)
            _check_classes(output, [("training", structures), ("validation", data.valid)])
    if "stress" in {term.property for term in terms}:
        for number, s in enumerate(structures):
            if s.properties.stress is not None and not (all(s.pbc) and s.cell is not None):
                raise ValueError(
                    "stress exists where three lattice vectors repeat; training structure "
                    f"{number} has a stress label and pbc {s.pbc}; take the label out"
                )


def _check_classes(output: Output, parts: Any) -> None:
    """Refuse labels that are not the number of a class."""
    size = Irreps(output.irreps).dim
    for part, structures in parts:
        for number, s in enumerate(structures):
            label = leaf(s.properties, output.name)
            if label is None:
                continue
            label = np.asarray(label)
            if label.dtype.kind not in "iu" or label.min() < 0 or label.max() >= size:
                raise ValueError(
                    f"cross-entropy takes classes, whole numbers from 0 to {size - 1} for an "
                    f"output of irreps {output.irreps!r}; {output.name} of {part} structure "
                    f"{number} is {label.min():g} to {label.max():g} ({label.dtype}); classes=[…] "
                    "names them where data are read, a structure without the label is left out"
                )


def _E0s(
    how: Any, data: Dataset, outputs: Sequence[Output], start: Model | None
) -> dict[int, float]:
    if not any(output.name == "energy" for output in outputs):
        return {}
    if how == "auto":
        other = "average" if start is None else "shifted"
        how = "isolated" if data.card.get("E0s") else other
    if start is not None and how in ("kept", "shifted"):
        return dict(start.card.E0s) if how == "kept" else shifted_E0s(start, data.train)
    return reference_energies(data, how)


def _show_E0s(card: Card, train: Sequence[Sample], console: Console) -> None:
    """One line: the E0s, and what energies are left above them."""
    above = np.array(
        [
            float(s.labels.energy) / len(s.graph.nodes["species"])
            for s in train
            if s.labels.energy is not None
        ]
    )
    if not card.E0s or not len(above):
        return
    table = ", ".join(f"{symbol(z)} {e:.3f}" for z, e in card.E0s.items())
    left = f"{above.mean():.3g} ± {above.std():.2g} eV per atom"
    console.print(f"E0s {table} eV; training energies are {left} above them")
    if abs(above.mean()) > LARGEST_BINDING:
        console.print(
            f"[yellow]suspicious[/]: no matter binds by more than {LARGEST_BINDING} eV per atom; "
            "are the E0s of another method, or in another unit?"
        )


def _slotted(outputs: Sequence[Output], splits: Mapping[str, Sequence[Structure]]) -> list[Output]:
    """The outputs, with as many slots for Hessians as the largest structure has nodes."""
    largest = max(len(s) for structures in splits.values() for s in structures)
    slotted = lambda o: replace(o, slots=largest) if o.name == "hessian" and not o.slots else o
    return [slotted(output) for output in outputs]


def _data_record(data: Dataset, network: Any) -> dict[str, Any]:
    keep = ("licence", "level", "citation", "source", "units", "classes", "points", "unit_ball")
    given = {name: np.shape(value)[1:] for name, value in data.train[0].inputs.items()}
    usual = input_shapes(network)
    unusual = {n: list(s) for n, s in given.items() if n in usual and s != usual[n]}
    return {
        "name": data.name,
        "counts": {split: len(getattr(data, split)) for split in ("train", "valid", "test")},
        "sha256": {split: fingerprint(getattr(data, split)) for split in ("train", "valid")},
        **{key: data.card[key] for key in keep if key in data.card},
        **({"inputs": unusual} if unusual else {}),
    }


def _settings(network, card, terms, optimizer, options, layout) -> dict[str, Any]:
    settings = {
        "network": to_table(network),
        "outputs": [asdict(output) for output in card.outputs],
        "E0s": {symbol(z): e for z, e in card.E0s.items()},
        "loss": [asdict(term) for term in terms],
        "optimizer": asdict(optimizer),
        "options": asdict(options),
        "layout": layout,
        "data": dict(card.data),
    }
    return json.loads(json.dumps(settings))


def _held(folder: Path) -> AbstractContextManager[None]:
    """The folder of the run, which only its first process makes, locks and writes to."""
    return only_run(_made(folder)) if is_first() else nullcontext()


def _digest(settings: Mapping[str, Any]) -> float:
    """A number below 2²⁴ that settings with other values do not share, but by chance."""
    text = json.dumps(settings, sort_keys=True)
    return float(int(hashlib.sha256(text.encode()).hexdigest()[:6], 16))


def _made(folder: Path) -> Path:
    """The folder, which is there and can be written to afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
    except OSError as error:
        raise OSError(
            f"a run writes to a folder; {folder} cannot be one ({error.strerror}); choose another"
        ) from error
    return folder
