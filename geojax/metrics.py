"""How wrong predictions are: sums that add up over batches and devices, and their report."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.graphs import Batch, Properties, Structure, leaf, leaves

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "as_predicted",
    "compare",
    "constant_baseline",
    "entries",
    "error_sums",
    "errors_table",
    "in_words",
    "summary",
]

# What people read in thousandths.
MILLI = {
    "energy": "meV",
    "energy_per_atom": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
    "hessian": "meV/Å²",
}


def error_sums(predicted: Properties, batch: Batch) -> dict[str, Float[Array, "sum"]]:
    """For each labelled property: sums of |error|, error², right classes, and the count.

    Components of vectors and tensors count one by one. Descriptors have no error by themselves.
    Classes have three more for each class: where it is right, where it is said, where it is.
    """
    sums = {}
    for name in leaves(batch.labels):
        value, label, mask = (leaf(p, name) for p in (predicted, batch.labels, batch.masks))
        if value is None:
            continue
        label = as_predicted(label, value)
        if _classes(value, label):
            sums[name] = _class_sums(value, label, mask)
            continue
        if mask.ndim > 1:
            value, label, mask = entries(value, label, mask)
        if value.shape != label.shape:  # a descriptor, whose label is a place
            continue
        sums[name] = _sums(value - label, mask)
        if name == "energy":
            atoms = jnp.maximum(batch.graph.n_node, 1).astype(value.dtype)
            sums["energy_per_atom"] = _sums((value - label) / atoms, mask)
    return sums


def entries(
    value: Float[Array, "row places *d"], label: Float[Array, "row slot *d"], mask: Array
) -> tuple[Float[Array, "entry *d"], Float[Array, "entry *d"], Array]:
    """Rows that are masked place by place (those of Hessians) as one row for each place.

    Args:
        value: predicted; places beyond those of the label are left out, nothing real is there.
        mask: `[row, slot]`.

    Raises:
        ValueError: the prediction has fewer places than the label.
    """
    slots = mask.shape[1]
    if value.shape[1] < slots:
        raise ValueError(
            f"predicted rows have a place for every entry of the label; got {value.shape[1]} and "
            f"{slots}; give the output as many slots as the largest structure has nodes"
        )
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    return flat(value[:, :slots]), flat(label), mask.reshape(-1)


def as_predicted(label: Any, value: Any) -> Any:
    """The label in the shape of the prediction, where it is the same numbers in columns of one.

    A file may say `[frame, 1]` where a model says `[frame]`; their difference would be a matrix.
    """
    column = label.reshape(label.shape[:-1]) if label.shape[-1:] == (1,) else label
    return column if column.shape == value.shape or _classes(value, column) else label


def _classes(value: Any, label: Any) -> bool:
    return label.dtype.kind in "iu" and value.ndim == label.ndim + 1


def _class_sums(value: Array, label: Array, mask: Array) -> Float[Array, "sum"]:
    classes = jnp.arange(value.shape[-1]).reshape(-1, *[1] * label.ndim)
    said = (jnp.argmax(value, -1)[None] == classes) & mask[None]
    there = (label[None] == classes) & mask[None]
    each = [a.reshape(len(classes), -1).sum(1) for a in (said & there, said, there)]
    sums = [jnp.zeros(2, int), each[0].sum()[None], mask.sum()[None], *each]
    return jnp.concatenate(sums).astype(value.dtype)


def _sums(error: Float[Array, "row *d"], mask: Array) -> Float[Array, "4"]:
    rows = error.reshape(len(error), -1)
    rows = jnp.where(mask[:, None], rows, 0)
    count = mask.sum().astype(error.dtype) * rows.shape[1]
    return jnp.stack([jnp.abs(rows).sum(), jnp.square(rows).sum(), jnp.zeros_like(count), count])


def summary(sums: Mapping[str, Any]) -> dict[str, float]:
    """Means from the sums: "forces.mae", "forces.rmse", "targets.label.accuracy", …

    In geojax's units, as everything that is computed with. "miou", of classes of nodes, is the mean
    over the classes that are there or are said to be, of right nodes among those that are either.
    """
    found = {}
    for name, value in sums.items():
        (absolute, square, right, count), classes = np.split(np.asarray(value, np.float64), [4])
        if count == 0:
            continue
        if not len(classes):
            found[f"{name}.mae"] = float(absolute / count)
            found[f"{name}.rmse"] = float(np.sqrt(square / count))
            continue
        found[f"{name}.accuracy"] = float(right / count)
        if name.startswith("node_targets."):
            both, said, there = classes.reshape(3, -1)
            either = said + there - both
            found[f"{name}.miou"] = float((both / np.maximum(either, 1))[either > 0].mean())
    return found


def compare(predicted: Sequence[Properties], structures: Sequence[Structure]) -> dict[str, float]:
    """Errors of predictions on the host, in float64; named as in `summary`.

    Only what is predicted and labelled is compared, structure by structure.
    """
    sums: dict[str, np.ndarray] = {}

    def add(name: str, *parts: Any) -> None:
        sums[name] = sums.get(name, 0) + np.array(parts, np.float64)

    for value, structure in zip(predicted, structures, strict=True):
        for name, label in leaves(structure.properties).items():
            mine = leaf(value, name)
            if mine is None:
                continue
            mine = np.asarray(mine)
            label = as_predicted(np.asarray(label), mine)
            if _classes(mine, label):
                add(
                    name, *_class_sums(*map(jnp.asarray, (mine, label, np.ones(label.shape, bool))))
                )
                continue
            if mine.shape != label.shape:  # a descriptor, whose label is a place
                continue
            error = mine.astype(np.float64) - label
            add(name, np.abs(error).sum(), np.square(error).sum(), 0, error.size)
            if name == "energy":
                error = error / len(structure)
                add("energy_per_atom", abs(float(error)), float(error) ** 2, 0, 1)
    return summary(sums)


def constant_baseline(
    train: Sequence[Structure], structures: Sequence[Structure]
) -> dict[str, float]:
    """Errors of the best guess that looks at no geometry, to compare a model with.

    Energies from a least-squares fit on the composition, and for everything else the mean over
    the training labels (for forces, zero).
    """
    counts = lambda s: np.bincount(s.species, minlength=119)[:119]
    every = ((counts(s), s.properties.energy) for s in train)
    labelled = [(count, energy) for count, energy in every if energy is not None]
    weights = None
    if labelled:
        composition = np.array([count for count, _ in labelled], np.float64)
        energies = np.array([energy for _, energy in labelled], np.float64)
        weights = np.linalg.lstsq(composition, energies, rcond=None)[0]
    means = {}
    for name in {name for s in train for name in leaves(s.properties)} - {"energy", "forces"}:
        values = [leaf(s.properties, name) for s in train]
        values = [np.asarray(v) for v in values if v is not None]
        if values[0].dtype.kind == "f" and len({v.shape for v in values}) == 1:
            means[name] = np.mean(values, 0)
    guesses = []
    for s in structures:
        energy = None if weights is None else float(counts(s) @ weights)
        stress = means.get("stress")
        targets = {k[8:]: v for k, v in means.items() if k.startswith("targets.")}
        forces = np.zeros((len(s), 3))
        guesses.append(Properties(energy, forces, stress, targets=targets))
    return compare(guesses, structures)


def in_words(metrics: Mapping[str, float]) -> dict[str, str]:
    """Each metric as people read it: meV, meV/atom, meV/Å; three digits."""
    words = {}
    for name, value in metrics.items():
        unit = MILLI.get(re.sub(r"^(train|valid|test)\.", "", name).rsplit(".", 1)[0])
        words[name] = f"{1e3 * value:.3g} {unit}" if unit else f"{value:.4g}"
    return words


def errors_table(
    title: str, errors: Mapping[str, float], baseline: Mapping[str, float] | None = None
) -> "Table":
    """Errors of a model in words, beside those of a baseline; printed by rich."""
    from rich.table import Table

    table = Table("", "model", *["no geometry"] * bool(baseline), title=title)
    other = in_words(baseline or {})
    for name, value in in_words(errors).items():
        table.add_row(name, value, *[other.get(name, "")] * bool(baseline))
    return table
