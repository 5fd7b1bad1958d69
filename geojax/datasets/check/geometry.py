"""Lengths against covalent radii: unit of positions, atoms too near or gone, odd cells."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.shells import nearest
from geojax.elements import covalent_radius
from geojax.graphs import Structure
from geojax.graphs.neighbors import cell_heights
from geojax.units import factor

__all__ = ["Bonds", "bonds", "cells", "close_and_far", "length_unit"]

NOBLE = (2, 10, 18, 36, 54, 86)
UNITS = ("Bohr", "nm", "pm", "m")
USUAL = (0.72, 1.5)  # nearest distance over the sum of radii, median over atoms
CLOSE, TOUCHING = 0.5, 0.25  # of the sum of radii
LONELY, GONE = 3.0, 8.0  # of the sum of radii
FEWEST = 3  # structures that tell a unit
TURNS = 50  # lattice vectors away from the cell
FEW = 1000  # atoms, of which all pairs are compared
VACUUM = 6.0  # [Å] on every side: a molecule in a box


class Bonds(NamedTuple):
    """Of each structure: nearest distance over the sum of covalent radii, over its atoms.

    NaN where an element's radius is not known or a structure has one atom.
    """

    least: np.ndarray
    median: np.ndarray
    most: np.ndarray


def bonds(structures: Sequence[Structure]) -> Bonds:
    """How near atoms are to their nearest ones."""
    rows = [_ratios(s) for s in structures]
    figures = [
        (np.nan,) * 3 if not np.isfinite(r).any() else (r.min(), np.median(r), r.max())
        for r in rows
    ]
    table = np.array(figures, float).reshape(-1, 3)
    return Bonds(*table.T)


def _ratios(s: Structure) -> np.ndarray:
    radii = np.array([_radius(int(z)) for z in s.species])
    if len(s) < 2 and not any(s.pbc):
        return np.full(1, np.nan)
    distance, index = nearest(s, 1)
    ratios = distance[:, 0] / (radii + radii[index[:, 0]])
    return ratios[np.isfinite(ratios)]


def _radius(number: int) -> float:
    """NaN for points, noble gases and elements for which the table has no radius but 1 Å."""
    known = covalent_radius(number) != 1.0 and number not in NOBLE
    return covalent_radius(number) if known else np.nan


def length_unit(found: Bonds) -> tuple[list[Finding], float]:
    """Whether all bonds are too long or too short together; and how many Å the unit seems to be."""
    middle = found.median[np.isfinite(found.median)]
    if len(middle) < FEWEST:
        return [], 1.0
    ratio = float(np.median(middle))
    long = ratio > USUAL[1] and np.quantile(middle, 0.05) > 1.35
    short = ratio < USUAL[0] and np.quantile(middle, 0.95) < 0.8
    if not (long or short):
        return [], 1.0
    text = (
        f"nearest atoms are {ratio:.3g} times the sum of their covalent radii apart in the median "
        f"of {len(middle)} structures, where 0.8 to 1.3 is usual"
    )
    factors = {unit: factor(unit) for unit in UNITS}
    near = {u: abs(np.log(ratio * f)) for u, f in factors.items()}
    unit = min(near, key=lambda u: near[u])
    if near[unit] < 0.35:
        fix = f"positions (and cells) in {unit}: units={{'positions': '{unit}'}}"
        return [Finding("length unit", "error", f"{text}: {unit}", (), fix)], factors[unit]
    over = {u: abs(np.log(ratio / f)) for u, f in factors.items()}
    unit = min(over, key=lambda u: over[u])
    if over[unit] < 0.35:
        fix = f"positions were in Å and have been converted as if from {unit}: read them as Å"
        return [Finding("length unit", "error", text, (), fix)], 1 / factors[unit]
    fix = "check the units of positions and cells, and that both have one: units={'positions': …}"
    return [Finding("length unit", "error", text, (), fix)], 1.0


def close_and_far(
    structures: Sequence[Structure], found: Bonds, names: Callable[[np.ndarray], tuple[str, ...]]
) -> list[Finding]:
    """Atoms on top of each other, and atoms that have left."""
    result = []
    with np.errstate(invalid="ignore"):
        touching, close = found.least < TOUCHING, found.least < CLOSE
        many = np.array([len(s) > 2 for s in structures])
        gone, lonely = many & (found.most > GONE), many & (found.most > LONELY)
    if close.any():
        severity = "error" if touching.any() else "warning"
        text = (
            f"{int(close.sum())} structures have atoms nearer than half of the sum of their "
            f"covalent radii (least {np.nanmin(found.least):.2f} of it), images counted"
        )
        fix = "take them out (broken dynamics, a cell too small), or train with Output(zbl=True)"
        result.append(Finding("close atoms", severity, text, names(close), fix))
    if lonely.any():
        severity = "error" if gone.any() and gone.mean() < 0.2 else "warning"
        text = (
            f"{int(lonely.sum())} structures have an atom whose nearest other is farther than "
            f"{LONELY:g} times the sum of their covalent radii (most {np.nanmax(found.most):.3g})"
        )
        fix = "exploded dynamics, or positions across the border of a cell without pbc: remove them"
        result.append(Finding("exploded structures", severity, text, names(lonely), fix))
    return result


def cells(
    structures: Sequence[Structure], names: Callable[[np.ndarray], tuple[str, ...]]
) -> list[Finding]:
    """Cells without pbc that atoms fill, boxes around molecules, left-handed cells."""
    flags = [_cell_flags(s) for s in structures]
    table = np.array(flags, bool).reshape(-1, 5)
    forgotten, box, left, far, empty = table.T
    result = []

    def add(chosen: np.ndarray, kind: str, severity: str, text: str, fix: str) -> None:
        if chosen.any():
            said = f"{int(chosen.sum())} of {len(structures)} structures {text}"
            result.append(Finding(kind, severity, said, names(chosen), fix))

    add(
        forgotten,
        "pbc missing",
        "error",
        "have a cell without pbc, and atoms of which images would be at bonding distance",
        'write pbc="T T T" (extended xyz), or atoms.pbc = True',
    )
    add(
        box & ~forgotten,
        "cell without pbc",
        "note",
        "have a cell and do not repeat",
        "nothing if molecules in a box are meant; the cell is not used",
    )
    add(
        empty,
        "molecule in a periodic box",
        "note",
        f"repeat in three directions with more than {2 * VACUUM:g} Å of vacuum in each",
        "pbc=False where the box is a device of a plane-wave code; stress is of no use then",
    )
    add(
        left,
        "left-handed cell",
        "note",
        "have a left-handed cell (det < 0)",
        "geojax reads them right; other programs may not: swap two lattice vectors",
    )
    add(
        far,
        "atoms far from the cell",
        "warning",
        f"have atoms more than {TURNS} lattice vectors from the cell",
        "wrap the positions, or check that cell and positions have one unit",
    )
    if 0 < sum(any(s.pbc) for s in structures) < len(structures):
        larger = np.array([len(s) > 1 and not any(s.pbc) for s in structures])
        add(
            larger,
            "mixed pbc",
            "note",
            "are not periodic, the others are",
            "nothing if molecules and crystals are meant; write pbc else",
        )
    return result


def _cell_flags(s: Structure) -> tuple[bool, ...]:
    if s.cell is None or abs(np.linalg.det(s.cell)) < 1e-9:
        return (False,) * 5
    inside = s.positions @ np.linalg.inv(s.cell)
    box = not any(s.pbc) and 1 < len(s) <= FEW
    far = any(s.pbc) and np.abs(inside[:, list(s.pbc)]).max() > TURNS
    left = np.linalg.det(s.cell) < 0
    empty = all(s.pbc) and len(s) > 1 and _vacuum(s, inside) > 2 * VACUUM
    return box and _filled(s), box, bool(left), bool(far), empty


def _vacuum(s: Structure, inside: np.ndarray) -> float:
    """The least over the axes of the widest empty slice [Å]."""
    heights = cell_heights(np.asarray(s.cell))
    wrapped = np.sort(inside - np.floor(inside), axis=0)
    gaps = np.diff(wrapped, axis=0, append=wrapped[:1] + 1)
    return float((gaps.max(0) * heights).min())


def _filled(s: Structure) -> bool:
    """Whether images of atoms would be neighbours, and none too near, along each axis."""
    cell = s.replace(pbc=(True, True, True)).cell  # completed, where vectors are zero
    assert cell is not None
    ratios = []
    for axis in range(3):
        alone = s.positions.astype(float)
        moved = alone + cell[axis]
        gap = np.linalg.norm(alone[:, None] - moved[None], axis=2)
        radii = np.array([_radius(int(z)) for z in s.species])
        ratios.append(np.nanmin(gap / (radii[:, None] + radii[None]), initial=np.inf))
    return bool(all(0.6 < ratio < 1.5 for ratio in ratios))
