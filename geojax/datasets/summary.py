"""What is in a data set or a file, as tables for people."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, load
from geojax.datasets.formats import read
from geojax.elements import symbol
from geojax.graphs import Structure, leaves

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["inspect_data"]

UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "energies": "eV"}


def inspect_data(source: str | Path, **options: Any) -> "Group":
    """Counts, elements, sizes, ranges of labels, and what became of the keys of the files.

    Args:
        source: a data set's name, or a file.
        options: of the data set, or of `formats.read`.

    Raises:
        KeyError, FileNotFoundError, ValueError: as `load` and `read`.
    """
    from rich.console import Group

    name = str(source)
    if name in DATASETS or not _is_file(name):
        data = load(name, **options)
        parts = {part: getattr(data, part) for part in ("train", "valid", "test")}
        rest = [_card(data), *(report.table() for report in data.reports)]
    else:
        found = read(name, **options)
        parts, rest = {"structures": found.structures}, [found.report.table()]
    every = [s for structures in parts.values() for s in structures]
    return Group(_sizes(name, parts), _ranges(every), *rest)


def _is_file(name: str) -> bool:
    """A path, also of a file that is not there: names of data sets have no dot or slash."""
    return Path(name).expanduser().exists() or "." in name or "/" in name


def _sizes(name: str, parts: dict[str, tuple[Structure, ...]]) -> "Table":
    from rich.table import Table

    table = Table(
        "", "structures", "nodes", "elements", "repeats", title=name, title_justify="left"
    )
    for part, structures in parts.items():
        sizes = [len(s) for s in structures]
        span = (
            f"{min(sizes)} to {max(sizes)}"
            if len(set(sizes)) > 1
            else f"{sizes[0]}"
            if sizes
            else ""
        )
        periodic = Counter("".join("FT"[p] for p in s.pbc) for s in structures)
        pbc = ", ".join(f"{flags}" for flags in sorted(periodic))
        table.add_row(part, str(len(sizes)), span, _elements(structures), pbc)
    return table


def _elements(structures: Sequence[Structure]) -> str:
    numbers = sorted({int(z) for s in structures for z in np.unique(s.species)})
    return " ".join("points" if z == 0 else symbol(z) for z in numbers)


def _ranges(structures: Sequence[Structure]) -> "Table":
    """Least, mean and largest value of each label; energies per atom."""
    from rich.table import Table

    values: dict[str, list[np.ndarray]] = {}
    for s in structures:
        for name, value in (leaves(s.properties) | _inputs(s)).items():
            per_atom = value / len(s) if name == "energy" else value
            key = "energy per atom" if name == "energy" else name
            values.setdefault(key, []).append(np.ravel(per_atom))
    table = Table("label or input", "structures", "least", "mean", "largest", "spread", "unit")
    for name, parts in values.items():
        every = np.concatenate(parts).astype(np.float64)
        figures = (every.min(), every.mean(), every.max(), every.std())
        unit = "eV" if name == "energy per atom" else UNITS.get(name, "")
        table.add_row(name, str(len(parts)), *(f"{figure:.5g}" for figure in figures), unit)
    return table


def _inputs(structure: Structure) -> dict[str, np.ndarray]:
    return {f"inputs.{name}": value for name, value in structure.inputs.items()}


def _card(data: Dataset) -> "Table":
    from rich.table import Table

    table = Table("card", "", show_header=False, title="card", title_justify="left")
    for key, value in data.card.items():
        if key == "E0s" and value:
            value = ", ".join(f"{symbol(z)} {energy:.6f} eV" for z, energy in value.items())
        elif isinstance(value, dict):
            value = ", ".join(f"{name}: {unit}" for name, unit in value.items())
        table.add_row(key, str(value))
    return table
