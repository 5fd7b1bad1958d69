"""What became of the keys of a file: found, used, ignored, rejected, suspicious."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from geojax.datasets.formats.labels import KEPT, Use
from geojax.graphs import Structure

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["KeyCount", "LabelReport", "suspicions", "tally"]

LARGE_FORCE = 100.0  # [eV/Å], median component
LARGE_RANGE = 100.0  # [eV/atom], between structures of one composition
LARGE_STRESS = 10.0  # [eV/Å³], 1600 GPa
MOST_NOTES = 8  # that are shown
CLOSE = 0.3  # [Å], no two nuclei in matter come nearer
NAMES = {  # pieces of the names that people give to labels
    "energy": ("energy", "energ", "e_tot", "etot"),
    "forces": ("force", "frc", "grad"),
    "stress": ("stress", "virial"),
}


class KeyCount(NamedTuple):
    """A key, where it stood, what it was used as (None: ignored), in how many frames, a remark."""

    key: str
    kind: str
    label: str | None
    frames: int
    remark: str = ""


@dataclass(frozen=True)
class LabelReport:
    """The account of one file.

    Attributes:
        source: the file.
        frames: how many structures were read.
        rows: one for each key and what became of it.
        rejected: why frames were left out, one line each; empty unless `skip_bad` was given.
        suspicions: what looks like a wrong unit or a wrong label; nothing was changed for it.
        notes: how the file was read, where it could have been read in another way.
        classes: the words that targets have in the file, in the order of their numbers.
    """

    source: str
    frames: int
    rows: tuple[KeyCount, ...] = ()
    rejected: tuple[str, ...] = ()
    suspicions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def used(self) -> Mapping[str, int]:
        """Label or input -> number of structures that have it."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if row.label is not None:
                counts[row.label] = max(counts.get(row.label, 0), row.frames)
        return counts

    @property
    def ignored(self) -> tuple[str, ...]:
        """Keys that are no label in any frame."""
        used = {row.key for row in self.rows if row.label is not None}
        return tuple(sorted({row.key for row in self.rows} - used))

    def table(self) -> "Table":
        """For people; printed by rich."""
        from rich.table import Table
        from rich.text import Text

        title = f"{self.source}: {self.frames} structures"
        table = Table("key", "in", "frames", "used as", "remark", title=title, title_justify="left")
        for row in sorted(self.rows, key=lambda row: (row.label is None, row.label or "", row.key)):
            used = row.label or "ignored"
            style = None if row.label else "dim"
            cells = (row.key, row.kind, str(row.frames), used, row.remark)
            table.add_row(*map(Text, cells), style=style)  # as text: brackets are no markup
        if self.classes:
            words = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
            table.add_row("", "", "", "classes", Text(words))
        for text in self.notes[:MOST_NOTES]:
            table.add_row("", "", "", "read as", Text(text))
        if len(self.notes) > MOST_NOTES:
            table.add_row("", "", "", "read as", f"{len(self.notes) - MOST_NOTES} other ways")
        for text in self.suspicions:
            table.add_row("", "", "", "suspicious", Text(text), style="bold yellow")
        for text in self.rejected:
            table.add_row("", "", "", "left out", Text(text), style="red")
        return table


def tally(
    source: str,
    structures: Sequence[Structure],
    uses: Iterable[Sequence[Use]],
    rejected: Sequence[str] = (),
    notes: Iterable[str] = (),
) -> LabelReport:
    """The account of a file from what became of each key of each frame."""
    counts = Counter(use for frame in uses for use in frame)
    labels = {use.label for use in counts}
    rows = [
        KeyCount(u.key, u.kind, u.label, n, _hint(u, labels) or u.remark) for u, n in counts.items()
    ]
    return LabelReport(
        source,
        len(structures),
        tuple(rows),
        tuple(rejected),
        tuple(suspicions(structures)),
        tuple(dict.fromkeys(notes)),
    )


def _hint(use: Use, labels: set[str | None]) -> str:
    """What an ignored key may have been meant for."""
    if use.label is not None or use.remark not in ("", KEPT):
        return ""
    for label, pieces in NAMES.items():
        if label not in labels and any(piece in use.key.lower() for piece in pieces):
            named = "virials" if "virial" in use.key.lower() else label
            return f"did you mean {named}? keys={{'{named}': '{use.key}'}}"
    return ""


def suspicions(structures: Sequence[Structure]) -> list[str]:
    """Plain sentences about values that no unit of geojax makes likely."""
    found = []
    forces = [s.properties.forces for s in structures if s.properties.forces is not None]
    if forces:
        median = float(np.median(np.abs(np.concatenate(forces))))
        if median > LARGE_FORCE:
            found.append(f"half of the force components exceed {median:.3g} eV/Å: other units?")
    spread = _energy_range(structures)
    if spread > LARGE_RANGE:
        found.append(
            f"energies of one composition differ by {spread:.3g} eV per atom: other units, or "
            "different methods in one file?"
        )
    stress = [np.abs(s.properties.stress).max() for s in structures if _stressed(s)]
    if stress and max(stress) > LARGE_STRESS:
        found.append(f"the largest stress is {max(stress):.3g} eV/Å³: is it kbar or GPa?")
    close = [s.info.get("origin", "") for s in structures if _closest(s) < CLOSE]
    if close:
        found.append(
            f"{len(close)} structures have atoms nearer than {CLOSE} Å; first: {close[0]}; remove "
            "them, or let the energy have its pair repulsion: Output(zbl=True)"
        )
    return found


def _stressed(structure: Structure) -> bool:
    return structure.properties.stress is not None


def _energy_range(structures: Sequence[Structure]) -> float:
    """The widest range of the energy per atom [eV] among structures of one composition."""
    groups = defaultdict(list)
    for s in structures:
        if s.properties.energy is not None:
            groups[tuple(np.bincount(s.species))].append(float(s.properties.energy) / len(s))
    return max((float(np.ptp(values)) for values in groups.values()), default=0.0)


def _closest(structure: Structure) -> float:
    """The least distance [Å] between atoms, periodic images left aside; infinite for points."""
    if len(structure) < 2 or not structure.species.any():
        return float("inf")
    return float(KDTree(structure.positions).query(structure.positions, k=2)[0][:, 1].min())
