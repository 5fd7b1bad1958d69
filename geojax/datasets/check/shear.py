"""The order of the shear entries of a stress, told by the work along shear strains."""

from collections.abc import Sequence

import numpy as np

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.work import Fit, fit, near_pairs
from geojax.graphs import Structure

__all__ = ["shear_order"]

PLACES = ((1, 2), (0, 2), (0, 1))  # yz, xz, xy: how six numbers are read
# Which of these places the three belong to, if they were written in the order of another program
ORDERS = {"xy yz xz (VASP)": (2, 0, 1), "xy xz yz (LAMMPS)": (2, 1, 0)}
FEWEST = 15  # pairs
BETTER, LOOSE = 0.5, 0.3  # of the spread as read; the largest spread


def shear_order(structures: Sequence[Structure]) -> list[Finding]:
    """Whether energies fit the stress better with its shear entries in another order."""
    given = [s for s in structures if s.properties.stress is not None and len(s) > 1]
    own = _fitted(given)
    if own.count < FEWEST or not np.isfinite(own.spread):
        return []
    spreads = {name: _fitted([_moved(s, o) for s in given]) for name, o in ORDERS.items()}
    name = min(spreads, key=lambda order: spreads[order].spread)
    best = spreads[name]
    if best.spread > min(BETTER * own.spread, LOOSE):
        return []
    text = (
        f"over {own.count} pairs of strained cells energies fit the stress to {own.spread:.0%} as "
        f"it was read (xx yy zz yz xz xy), and to {best.spread:.0%} with shear in the order {name}"
    )
    fix = "write nine numbers, or six in the order xx yy zz yz xz xy"
    return [Finding("stress order", "error", text, (), fix)]


def _fitted(structures: Sequence[Structure]) -> Fit:
    pairs = near_pairs(structures)
    bent = pairs.where((pairs.strain > 1e-4) & np.isfinite(pairs.pull))
    return fit([bent.pull, np.nan_to_num(bent.work), bent.volume], bent.energy)


def _moved(s: Structure, order: tuple[int, int, int]) -> Structure:
    """Shear entries in their right places, where they stood in another order."""
    stress = np.array(s.properties.stress, float)
    shear = [stress[place] for place in PLACES]
    for value, place in zip(shear, order, strict=True):
        i, j = PLACES[place]
        stress[i, j] = stress[j, i] = value
    return s.replace(properties=s.properties._replace(stress=stress))
