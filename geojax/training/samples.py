"""From structures to the samples of a run: graphs, and labels without their references."""

import tempfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np

from geojax.datasets.packed import Chosen, Packed
from geojax.graphs import Properties, Sample, Structure, leaves, replace_leaves, sample
from geojax.model import Card, references
from geojax.training.spool import Spool

__all__ = ["make_samples", "most_neighbors"]

Splits = Mapping[str, Sequence[Structure]]


def make_samples(
    splits: Splits,
    network: Any,
    card: Card,
    wanted: AbstractSet[str],
    *,
    slots: int | None = None,
    members: bool = False,
    folder: str | Path | None = None,
) -> dict[str, Sequence[Sample]]:
    """The samples of each split; those of structures that stay in a file stay in a file, too.

    Args:
        splits: structures by the name of their split.
        network: its `cutoff`, and `nearest` and `reads_members` where it has them, make the graphs.
        card: whose references are taken from the labels.
        wanted: the labels that are kept.
        slots: of each receiver in a table of edges; None for a list.
        members: graphs know their nodes, also where the network does not read them.
        folder: on the disk that holds samples that do not stay in memory.

    Raises:
        ValueError: a structure is unsound; says its split, its number and its file.
    """
    whole = members or getattr(network, "reads_members", False)
    options = {
        "cutoff": network.cutoff,
        "nearest": getattr(network, "nearest", None),
        "slots": slots,
        "members": _largest(splits) if whole else None,
    }
    return {
        split: _samples(split, structures, card, wanted, options, folder)
        for split, structures in splits.items()
    }


def most_neighbors(splits: Splits, network: Any) -> int:
    """The most neighbours that any node has, at least one."""
    most = 1
    for structures in splits.values():
        for structure in structures:
            receivers = sample(structure, network.cutoff).graph.receivers
            most = max(most, int(np.bincount(receivers, minlength=1).max()))
    return most


def _largest(splits: Splits) -> int:
    return max(len(structure) for structures in splits.values() for structure in structures)


def _samples(
    split: str,
    structures: Sequence[Structure],
    card: Card,
    wanted: AbstractSet[str],
    options: Mapping[str, Any],
    folder: str | Path | None,
) -> Sequence[Sample]:
    samples = _spool(folder) if isinstance(structures, Packed | Chosen) else []
    for number, structure in enumerate(structures):
        try:
            labels = _labels(structure, card, wanted)
            samples.append(sample(structure, **options, labels=labels))
        except ValueError as error:
            origin = structure.info.get("origin")
            place = f"{split} structure {number}" + (f" ({origin})" if origin else "")
            raise ValueError(f"{place}: {error}") from error
    return samples


def _labels(structure: Structure, card: Card, wanted: AbstractSet[str]) -> Properties:
    """What is wanted, relative to its references."""
    own = leaves(references(card, structure))
    labels = {
        name: value - own[name] if name in own else value
        for name, value in leaves(structure.properties).items()
        if name in wanted
    }
    return replace_leaves(Properties(), labels)


def _spool(folder: str | Path | None) -> Spool:
    place = Path(folder or tempfile.gettempdir()).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    return Spool(place)
