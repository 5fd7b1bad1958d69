"""Energies against isolated atoms and against each other: references, levels, outliers."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.units import Scale, all_electron
from geojax.datasets.check.work import Pairs, fit
from geojax.datasets.e0s import average_energies
from geojax.elements import symbol
from geojax.graphs import Structure

__all__ = ["composition", "isolated_atoms", "levels", "outliers"]

Names = Callable[[np.ndarray], tuple[str, ...]]

BOUND = (-15.0, 1.0)  # [eV/atom], of matter against its atoms
RELATIVE = (-15.0, 1.0)  # [eV/atom], energies that are already against the atoms
ATOM = 0.03  # of the theory of all electrons
FEWEST = 6  # structures of one composition
JUMP = 0.3  # [eV] between two levels, in pairs of near structures
GAP = 1.0  # [eV/atom] between two levels, in structures of one composition
FAR, LEAST = 12.0, 0.3  # times the spread; [eV/atom]


def isolated_atoms(
    structures: Sequence[Structure], E0s: Mapping[int, float] | None, scale: Scale, energy: float
) -> list[Finding]:
    """Energies of isolated atoms that are missing or do not belong to the structures.

    Args:
        structures: with energies.
        E0s: of isolated atoms [eV] by atomic number.
        scale: of the energies of the structures.
        energy: how many eV the unit of the energies is.
    """
    labelled = [s for s in structures if s.properties.energy is not None and len(s) > 1]
    if not labelled:
        return []
    elements = sorted({int(z) for s in labelled for z in np.unique(s.species)})
    table = E0s or {}
    absent = [symbol(z) for z in elements if z not in table]
    if absent:
        severity = "warning" if table else "note"
        text = f"there are no energies of isolated atoms of {', '.join(absent)}"
        fix = (
            "add frames of one atom with config_type=IsolatedAtom; without them E0s='average' "
            "(or 'ridge'), and energies of bonds mean nothing"
        )
        return [Finding("no isolated atoms", severity, text, (), fix)]
    if scale.unit is not None:
        wrong = {
            z: table[z]
            for z in elements
            if z <= 36 and abs(table[z] * energy / all_electron(z) - 1) > 2 * ATOM
        }
        if wrong:
            told = ", ".join(
                f"{symbol(z)} {e:.6g} (near {all_electron(z) / energy:.4g} expected)"
                for z, e in wrong.items()
            )
            text = f"structures have energies of all electrons, isolated atoms have not: {told}"
            fix = "compute the atoms at the level of the structures, in one unit"
            return [Finding("isolated atoms", "error", text, (), fix)]
    own = np.array([float(s.properties.energy) / len(s) for s in labelled]) * energy
    free = np.array([sum(table[int(z)] for z in s.species) / len(s) for s in labelled]) * energy
    bound = float(np.median(own - free))
    if BOUND[0] < bound < BOUND[1]:
        return []
    text = (
        f"{len(labelled)} structures are bound by {-bound:.4g} eV/atom against their isolated "
        f"atoms in the median, where {-BOUND[1]:g} to {-BOUND[0]:g} is possible"
    )
    relative = RELATIVE[0] < np.median(own) < RELATIVE[1] and abs(np.median(free)) > -BOUND[0]
    fix = (
        f"energies are {np.median(own):.3g} eV/atom: already against the atoms? E0s of zero then"
        if relative
        else "atoms of another level, pseudopotential or unit: compute them as the structures"
    )
    return [Finding("isolated atoms", "error", text, (), fix)]


def composition(structures: Sequence[Structure], E0s: Mapping[int, float] | None) -> list[Finding]:
    """Elements that compositions cannot tell apart."""
    labelled = [s for s in structures if s.properties.energy is not None and len(s) > 1]
    if not labelled:
        return []
    found = average_energies(labelled, ridge=True)
    if found.rank == len(found.E0s):
        return []
    names = ", ".join(symbol(z) for z in found.E0s)
    text = (
        f"{len(labelled)} structures have {found.rank} independent compositions for "
        f"{len(found.E0s)} elements ({names}): E0s cannot be told apart by least squares"
    )
    covered = E0s is not None and set(found.E0s) <= set(E0s)
    fix = "E0s='isolated'" if covered else "add isolated atoms, or E0s='ridge' if they do not count"
    return [Finding("E0s not determined", "note" if covered else "warning", text, (), fix)]


def levels(structures: Sequence[Structure], pairs: Pairs, names: Names) -> list[Finding]:
    """Two baselines in one set: near structures whose energies differ by a constant that no force
    explains, or a gap in the energies of one composition."""
    gaps = _gaps(structures, JUMP / 10)
    same = pairs.where((pairs.strain < 1e-9) & np.isfinite(pairs.work) & np.isfinite(pairs.energy))
    found = fit([same.work], same.energy)
    if found.count >= FEWEST and np.isfinite(found.values[0]):
        left = same.energy - found.values[0] * same.work
        usual = float(np.quantile(np.abs(left), 0.25))
        jumps = np.abs(left) > max(20 * usual, JUMP)
        size = np.abs(left[jumps])
        if jumps.sum() >= 3 and np.std(size) < 0.1 * size.mean() and len(same.way) > jumps.sum():
            text = (
                f"the energies of {int(jumps.sum())} of {found.count} pairs of near structures "
                f"differ by {size.mean():.5g} ± {np.std(size):.2g} eV more than their forces allow"
            )
            fix = "two levels of theory, basis sets or references in one set: keep one"
            return [Finding("two levels", "error", text, names(gaps), fix)]
    gaps = _gaps(structures, GAP)
    if gaps.any():
        text = (
            f"energies of one composition fall into two groups more than {GAP:g} eV/atom apart; "
            f"{int(gaps.sum())} structures are in the smaller ones"
        )
        fix = (
            "two levels of theory or references in one set? keep one; nothing if matter explains it"
        )
        return [Finding("two levels", "warning", text, names(gaps), fix)]
    return []


def _groups(structures: Sequence[Structure]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices and energies per atom [eV] of the structures of each composition."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, s in enumerate(structures):
        if s.properties.energy is not None and len(s) > 1:
            groups[tuple(np.bincount(s.species))].append(i)
    per_atom = lambda i: float(structures[i].properties.energy) / len(structures[i])
    every = [np.array(g) for g in groups.values() if len(g) >= FEWEST]
    return [(g, np.array([per_atom(i) for i in g])) for g in every]


def _gaps(structures: Sequence[Structure], least: float) -> np.ndarray:
    """Which structures are in the smaller of two groups `least` [eV/atom] apart."""
    smaller = np.zeros(len(structures), bool)
    for index, energies in _groups(structures):
        order = np.argsort(energies)
        steps = np.diff(energies[order])
        at = int(np.argmax(steps)) + 1
        low, high = order[:at], order[at:]
        wide = 4 * max(np.ptp(energies[low]), np.ptp(energies[high]))
        if min(len(low), len(high)) >= 3 and steps[at - 1] > max(wide, least):
            smaller[index[low if len(low) < len(high) else high]] = True
    return smaller


def outliers(structures: Sequence[Structure], names: Names) -> list[Finding]:
    """Energies per atom far from those of the same composition."""
    flagged, worst = np.zeros(len(structures), bool), 0.0
    for index, energies in _groups(structures):
        off = np.abs(energies - np.median(energies))
        spread = 1.4826 * float(np.median(off))
        far = off > max(FAR * spread, LEAST)
        if 0 < far.mean() < 0.1:
            flagged[index[far]] = True
            worst = max(worst, float(off[far].max()))
    if not flagged.any():
        return []
    text = (
        f"energies of {int(flagged.sum())} structures are far from those of the same composition; "
        f"the farthest by {worst:.4g} eV/atom"
    )
    fix = "look at them: another state, SCF that did not converge, a wrong unit? take them out"
    severity = "error" if worst > 20 else "warning"
    return [Finding("outlier energies", severity, text, names(flagged), fix)]
