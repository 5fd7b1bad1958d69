"""Forces of one structure: their sum, their torque, and those far beyond the rest."""

from collections.abc import Callable, Sequence

import numpy as np

from geojax.datasets.check.findings import Finding
from geojax.graphs import Structure

__all__ = ["large_forces", "net_forces"]

Names = Callable[[np.ndarray], tuple[str, ...]]

NET, TURN = 0.03, 0.05  # of the root sum of squares: rounding and grids of DFT stay below
NOISE = 5e-3  # [eV/Å] on each atom
OFTEN = 0.5  # of the structures: a systematic fault
BEYOND, LEAST = 8.0, 20.0  # times the median of the largest forces; [eV/Å]
EXPLODED = 300.0  # [eV/Å]


def net_forces(structures: Sequence[Structure], names: Names) -> list[Finding]:
    """Net force, and net torque where nothing repeats, as no energy of positions alone has it."""
    net = np.array([_share(s, turning=False) for s in structures])
    turn = np.array([_share(s, turning=True) for s in structures])
    pulled = net > NET
    turned = (turn > TURN) & ~pulled
    found = []
    if pulled.any():
        text = (
            f"{int(pulled.sum())} of {int(np.isfinite(net).sum())} structures have a net force; it "
            f"is {np.median(net[pulled]):.2g} of √Σ|F|² in their median"
        )
        fix = (
            "forces of fixed atoms set to zero, an external field, a mean that was subtracted of "
            "the wrong atoms, or another column? write the forces that the program computed"
        )
        severity = "error" if _systematic(pulled, net, 10 * NET) else "warning"
        found.append(Finding("net force", severity, text, names(pulled), fix))
    if turned.any():
        text = (
            f"{int(turned.sum())} of {int(np.isfinite(turn).sum())} structures have a net torque; "
            f"it is {np.median(turn[turned]):.2g} of √Σ|F|²·√Σ|r|² in their median, at no net force"
        )
        fix = (
            "forces in another orientation than the positions (the standard orientation of a "
            "quantum chemistry program), or atoms in another order: write both from one frame"
        )
        severity = "error" if _systematic(turned, turn, 2 * TURN) else "warning"
        found.append(Finding("net torque", severity, text, names(turned), fix))
    return found


def _systematic(flagged: np.ndarray, share: np.ndarray, large: float) -> bool:
    there = np.isfinite(share)
    return bool(flagged.sum() > OFTEN * there.sum() and np.median(share[flagged]) > large)


def _share(s: Structure, *, turning: bool) -> float:
    """|Σ F| or |Σ r × F| over what independent forces of this size have; NaN: none to tell."""
    forces = s.properties.forces
    if forces is None or len(s) < 2 or (turning and any(s.pbc)):
        return np.nan
    x = s.positions.astype(float) - s.positions.mean(0)
    size = float(np.sqrt((forces**2).sum()))
    if turning:
        lever = float(np.sqrt((x**2).sum()))
        whole, scale = np.linalg.norm(np.cross(x, forces).sum(0)), size * lever
        noise = NOISE * lever
    else:
        whole, scale = np.linalg.norm(forces.sum(0)), size
        noise = NOISE * np.sqrt(len(s))
    return float(max(whole - noise, 0) / max(scale, 1e-12))


def large_forces(structures: Sequence[Structure], names: Names) -> list[Finding]:
    """Structures whose largest force is far beyond that of the others."""
    rows = [s.properties.forces for s in structures]
    most = np.array([np.nan if f is None else np.linalg.norm(f, axis=1).max() for f in rows])
    there = most[np.isfinite(most) & (most > 0)]
    if len(there) < 5:
        return []
    middle = float(np.median(there))
    with np.errstate(invalid="ignore"):
        beyond = most > max(BEYOND * middle, LEAST)
    if not beyond.any():
        return []
    worst = float(np.nanmax(most))
    limit = max(BEYOND * middle, LEAST)
    text = (
        f"{int(beyond.sum())} structures have a force of more than {limit:.3g} eV/Å; the largest "
        f"is {worst:.4g}, the median of the largest {middle:.3g}"
    )
    fix = "look at them: SCF that did not converge, exploded dynamics? take them out"
    severity = "error" if worst > max(EXPLODED, 50 * middle) else "warning"
    return [Finding("outlier forces", severity, text, names(beyond), fix)]
