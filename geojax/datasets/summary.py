"""What is in a data set or a file, as tables for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import KDTree

from geojax.datasets.dataset import DATASETS, Dataset, is_file, load
from geojax.datasets.formats import read
from geojax.elements import symbol
from geojax.graphs import Structure, leaves

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["inspect_data"]

MOST_CLOUDS, MOST_POINTS = 100, 2000  # looked at for a summary
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
    if name in DATASETS or not is_file(name):
        data = load(name, **options)
        parts = {part: getattr(data, part) for part in ("train", "valid", "test")}
        rest = [_card(data), *(report.table() for report in data.reports)]
        units = data.card.get("units", {})
    else:
        found = read(name, **options)
        parts, rest, units = {"structures": found.structures}, [found.report.table()], {}
    every = [s for structures in parts.values() for s in structures]
    clouds = [s for s in every if not s.species.any()]
    return Group(_sizes(name, parts), *_extents(clouds), _ranges(every, units), *rest)


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


def _extents(clouds: Sequence[Structure]) -> "list[Table]":
    """Where points are and how near to each other, of one cloud or of the first hundred."""
    from rich.table import Table

    clouds = [s for s in clouds if len(s) > 1][:MOST_CLOUDS]
    if not clouds:
        return []
    low, high = (np.array([f(s.positions, axis=0) for s in clouds]) for f in (np.min, np.max))
    step = [_spacing(s.positions) for s in clouds]
    title = "points" if len(clouds) == 1 else f"points, means over {len(clouds)} clouds"
    table = Table("", "x", "y", "z", title=title, title_justify="left")
    for name, values in {"least": low, "largest": high, "extent": high - low}.items():
        table.add_row(name, *(f"{value:.5g}" for value in values.mean(0)))
    table.add_row("spacing", f"{np.mean(step):.3g}", "", "")
    return [table]


def _spacing(positions: np.ndarray) -> float:
    """The median distance from a point to the nearest other, over two thousand points."""
    some = positions[:: max(len(positions) // MOST_POINTS, 1)]
    return float(np.median(KDTree(positions).query(some, k=2)[0][:, 1]))


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
