"""What is in a data set or a file, as tables for people."""

from collections.abc import Mapping, Sequence
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

UNITS = {"energy per atom": "eV", "forces": "eV/Å", "stress": "eV/Å³", "energies": "eV"}


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
        units = data.card.get("units", {})
    else:
        found = read(name, **options)
        parts, rest, units = {"structures": found.structures}, [found.report.table()], {}
    every = [s for structures in parts.values() for s in structures]
    return Group(_sizes(name, parts), _ranges(every, units), *rest)


def _is_file(name: str) -> bool:
    """A path, also of a file that is not there: names of data sets have no dot or slash."""
    return Path(name).expanduser().exists() or "." in name or "/" in name


def _sizes(name: str, parts: dict[str, tuple[Structure, ...]]) -> "Table":
    from rich.table import Table

    columns = ("", "structures", "nodes", "elements", "repeats")
    table = Table(*columns, title=name, title_justify="left")
    for part, structures in parts.items():
        sizes = sorted({len(s) for s in structures})
        span = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "".join(map(str, sizes))
        repeats = {"".join("FT"[flag] for flag in s.pbc) for s in structures}
        found = (span, _elements(structures), ", ".join(sorted(repeats)))
        table.add_row(part, str(len(structures)), *found)
    return table


def _elements(structures: Sequence[Structure]) -> str:
    numbers = sorted({int(z) for s in structures for z in np.unique(s.species)})
    return " ".join("points" if z == 0 else symbol(z) for z in numbers)


def _ranges(structures: Sequence[Structure], units: Mapping[str, str]) -> "Table":
    """Least, mean and largest value of each label and input; of energies per atom."""
    from rich.table import Table

    values: dict[str, list[np.ndarray]] = {}
    for s in structures:
        inputs = {f"inputs.{name}": value for name, value in s.inputs.items()}
        for name, value in (leaves(s.properties) | inputs).items():
            own = ("energy per atom", value / len(s)) if name == "energy" else (name, value)
            values.setdefault(own[0], []).append(np.ravel(own[1]))
    table = Table("label or input", "structures", "least", "mean", "largest", "spread", "unit")
    for name, parts in values.items():
        every = np.concatenate(parts).astype(np.float64)
        figures = (every.min(), every.mean(), every.max(), every.std())
        unit = UNITS.get(name) or units.get(name.rpartition(".")[2], "")
        table.add_row(name, str(len(parts)), *(f"{figure:.5g}" for figure in figures), unit)
    return table


def _card(data: Dataset) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", show_header=False, title="card", title_justify="left")
    for key, value in data.card.items():
        if key == "E0s" and value:
            value = ", ".join(f"{symbol(z)} {energy:.6f} eV" for z, energy in value.items())
        elif isinstance(value, Mapping):
            value = ", ".join(f"{name}: {unit}" for name, unit in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        table.add_row(key, Text(str(value)))  # as text: brackets are no markup
    return table
