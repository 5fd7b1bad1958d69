"""Labels that are missing, placeholders, constant, or written with too few digits."""

from collections.abc import Callable, Sequence

import numpy as np

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.shells import nearest
from geojax.datasets.formats import LabelReport
from geojax.graphs import Structure, leaves
from geojax.units import ENERGY

__all__ = ["constant", "digits", "missing", "placeholders", "rejected", "suspicious_keys"]

Names = Callable[[np.ndarray], tuple[str, ...]]

FEWEST = 3  # different structures with one value: a constant
COARSE = 0.02  # of the spread of the energies of one composition
DIGITS = 7  # decimals that are tried
FEW = 500  # atoms, of which all pairs are compared
LOPSIDED = 0.02  # of a sum of 1 / r³ over neighbours: no symmetry makes the force zero


def rejected(reports: Sequence[LabelReport]) -> list[Finding]:
    """Frames that could not be read."""
    lines = [line for report in reports for line in report.rejected]
    if not lines:
        return []
    whole = sum(report.frames for report in reports) + len(lines)
    text = f"{len(lines)} of {whole} frames cannot be read; first: {lines[0]}"
    fix = "compute them again, or leave them out: skip_bad=True"
    return [Finding("unreadable frames", "error", text, (), fix)]


def suspicious_keys(reports: Sequence[LabelReport]) -> list[Finding]:
    """Keys that look like a label and were not used as one."""
    rows = [
        (report.source, row)
        for report in reports
        for row in report.rows
        if row.label is None and row.remark.startswith("did you mean")
    ]
    return [
        Finding(
            "label not used",
            "warning",
            f"the key {row.key!r} of {row.frames} frames of {source} is no label",
            (),
            row.remark,
        )
        for source, row in rows
    ]


def missing(structures: Sequence[Structure], names: Names) -> list[Finding]:
    """Labels that some structures have and others have not; no label at all."""
    there = [set(leaves(s.properties)) for s in structures]
    every = sorted(set().union(*there))
    if not every:
        text = f"none of {len(structures)} structures has a label"
        fix = "name the keys where the file is read: keys={'energy': …, 'forces': …}"
        return [Finding("no labels", "error", text, (), fix)]
    found = []
    for label in every:
        # An isolated atom or a molecule has no stress, and nobody expects one.
        without = np.array(
            [label not in t and _may_have(label, s) for t, s in zip(there, structures, strict=True)]
        )
        if without.any():
            text = f"{int(without.sum())} of {len(structures)} structures have no {label}"
            fix = "meant so? they do not count in this part of the loss; else name the right key"
            found.append(Finding("partial labels", "warning", text, names(without), fix))
    return found


def _may_have(label: str, s: Structure) -> bool:
    return all(s.pbc) if label == "stress" else len(s) > 1 or any(s.pbc)


def placeholders(structures: Sequence[Structure], names: Names) -> list[Finding]:
    """Energies, forces and stresses of exactly zero where none can be."""
    found = []
    for label in ("energy", "forces", "stress"):
        values = [getattr(s.properties, label) for s in structures]
        zero = np.array([v is not None and not np.any(v) for v in values])
        if label == "forces":
            zero &= np.array([z and _lopsided(s) for z, s in zip(zero, structures, strict=True)])
        if label == "energy":
            zero &= np.array([len(s) > 1 for s in structures])
        some = sum(v is not None for v in values)
        if zero.any():
            text = f"{label} of {int(zero.sum())} of {some} structures are exactly zero"
            text += " though no symmetry makes them so" if label == "forces" else ""
            fix = f"a placeholder for what was not computed: delete the {label} of these frames"
            found.append(Finding("placeholder zeros", "error", text, names(zero), fix))
    return found


def _lopsided(s: Structure) -> bool:
    """Whether the neighbours of an atom do not balance, so that its force can hardly be zero."""
    if len(s) < 2 or any(s.pbc) or len(s) > FEW:
        return len(s) > 1 and _uneven(s)
    apart = s.positions[None].astype(float) - s.positions[:, None]
    length = np.linalg.norm(apart, axis=2) + np.eye(len(s))
    pull = (apart / length[..., None] ** 4).sum(1)
    whole = (length**-3 * (1 - np.eye(len(s)))).sum(1)
    return bool((np.linalg.norm(pull, axis=1) > LOPSIDED * whole).any())


def _uneven(s: Structure) -> bool:
    """Whether atoms of one element have different surroundings."""
    distance, _ = nearest(s, 8)
    spread = [np.ptp(distance[s.species == z], axis=0).max() for z in np.unique(s.species)]
    return bool(max(spread) > LOPSIDED)


def constant(structures: Sequence[Structure]) -> list[Finding]:
    """Labels that have one value in structures that differ."""
    found = []
    bonded = [s for s in structures if len(s) > 1]
    rows: dict[str, list[np.ndarray]] = {}
    for s in bonded:
        for name, value in leaves(s.properties).items():
            rows.setdefault(name, []).append(np.asarray(value))
    for name, values in rows.items():
        same = len({v.shape for v in values}) == 1 and len(values) >= FEWEST
        if same and values[0].dtype.kind == "f" and np.ptp(np.stack(values), axis=0).max() == 0:
            if np.any(values[0]):
                text = f"{name} has one value in all {len(values)} structures: {_sketch(values[0])}"
                fix = "the wrong key or column? name the right one: keys={'" + name + "': …}"
                found.append(Finding("constant label", "error", text, (), fix))
    return found


def _sketch(value: np.ndarray) -> str:
    return f"{value.ravel()[0]:.8g}" + "…" * (value.size > 1)


def digits(structures: Sequence[Structure]) -> list[Finding]:
    """Energies that were rounded, in decimals of some unit or to float32, more than they vary."""
    pairs = [
        (float(s.properties.energy), s.species.tobytes())
        for s in structures
        if s.properties.energy is not None and len(s) > 1
    ]
    energies = np.array([energy for energy, _ in pairs])
    if len(set(energies.tolist())) < FEWEST:
        return []
    groups: dict[bytes, list[float]] = {}
    for energy, key in pairs:
        groups.setdefault(key, []).append(energy)
    spreads = [float(np.std(v)) for v in groups.values() if len(v) >= FEWEST]
    spread = float(np.median(spreads)) if spreads else float(np.std(energies))
    found = []
    step = float(np.median(np.spacing(np.abs(energies).astype(np.float32))))
    exact = np.array_equal(energies, energies.astype(np.float32).astype(np.float64))
    size = float(np.median([len(s) for s in structures]))
    if exact and (step > COARSE * spread / 20 or step / size > 1e-4):
        text = (
            f"energies of all {len(energies)} structures are float32 numbers, {step:.2g} eV apart "
            f"at their size of {np.median(np.abs(energies)):.6g}, and vary by {spread:.3g}"
        )
        fix = "store total energies in float64, or subtract the isolated atoms before"
        found.append(Finding("float32 energies", "warning", text, (), fix))
    step, unit = _decimals(energies)
    if not exact and step > COARSE * spread:
        text = (
            f"energies of all {len(energies)} structures are multiples of {step:.2g} eV "
            f"({unit}), and vary by {spread:.3g} eV"
        )
        fix = "write more digits: the rounding is learned as noise"
        found.append(Finding("rounded energies", "warning", text, (), fix))
    return found


def _decimals(energies: np.ndarray) -> tuple[float, str]:
    """The largest power of ten in some unit [eV] that all energies are multiples of; 0 if none."""
    best = (0.0, "")
    for unit in ("eV", "Ha", "kcal/mol", "Ry"):
        scaled = energies / ENERGY[unit]
        for k in range(DIGITS):
            off = np.abs(scaled * 10.0**k - np.round(scaled * 10.0**k)).max()
            if off < max(1e-4, 1e-9 * np.abs(scaled).max() * 10.0**k):
                best = max(best, (ENERGY[unit] * 10.0**-k, f"{k} decimals in {unit}"))
                break
    return best
