"""Units and signs of energies, forces and stress, told by how they fit together.

Over near pairs (see `work`) dE = b W with b = f l / e, where e, f and l are how many eV, eV/Å and Å
the units of energies, forces and positions really are. b = 1 where all are right, 51.4 for forces
in Ha/Bohr, -1 for gradients in place of forces. Which of the two is wrong is told by the size of
total energies of all electrons (Thomas-Fermi theory with its corrections, 2 % for any atom up to
krypton) and by the stiffness of matter.

References:
    Englert & Schwinger, Phys. Rev. A 32, 26 (1985): energies of neutral atoms.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.work import Fit, Pairs, fit
from geojax.graphs import Structure
from geojax.units import HARTREE, factor

__all__ = ["Scale", "all_electron", "energy_scale", "energy_units", "stress_units"]

ENERGIES = ("eV", "Ha", "Ry", "kcal/mol", "kJ/mol", "meV")
FORCES = {  # unit -> the energy unit of a program that writes it
    "eV/Å": "eV",
    "Ha/Bohr": "Ha",
    "Ha/Å": "Ha",
    "Ry/Bohr": "Ry",
    "eV/Bohr": "eV",
    "kcal/mol/Å": "kcal/mol",
    "kJ/mol/Å": "kJ/mol",
    "kJ/mol/nm": "kJ/mol",
    "meV/Å": "meV",
}
STRESSES = ("eV/Å³", "GPa", "kbar", "bar", "Ha/Bohr³", "Ry/Bohr³", "meV/Å³")
FEWEST = 10  # pairs that say anything
LOOSE = 0.5  # the spread of a fit that still says something
FAINT = 2e-3  # [eV], energy differences below are noise of k points and grids
UNRELATED, ENOUGH, SHORT = 0.3, 30, 0.2  # rank correlation; pairs; [Å], way of these pairs
RIGHT = (0.6, 1.6)  # a slope between these is 1: no two units are so near to each other
STIFF = (1.0, 100.0)  # [eV/Å²], of bonds and metals, in the mean over ways of all atoms
TOO_STIFF = 150.0  # [eV/Å²]
LIGHT = (0.5, 2.9037, 7.4781, 14.6674, 24.654)  # [Ha], -E of H to B, where the theory is coarse
LAST = 36  # krypton; relativity matters below it
NEAR_SCALE = 0.02
PULAY = 2e-3  # [eV/Å³]
GRUNEISEN = 2.5  # how springs soften with the volume, which looks like an offset of the stress


class Scale(NamedTuple):
    """The unit in which energies are those of all electrons; None where they are not.

    Attributes:
        unit: as in "Ha".
        ratio: median energy as given over -Σ of the atoms' energies [eV].
        count: of structures.
    """

    unit: str | None
    ratio: float
    count: int


def all_electron(number: int) -> float:
    """The total energy [eV] of a neutral atom, to 2 %."""
    if number <= len(LIGHT):
        return -LIGHT[number - 1] * HARTREE
    third = number ** (1 / 3)
    return (-0.768745 * third**7 + 0.5 * third**6 - 0.2699 * third**5) * HARTREE


def energy_scale(structures: Sequence[Structure]) -> Scale:
    """Whether energies are total energies of all electrons, and in which unit."""
    ratios = []
    for s in structures:
        if s.properties.energy is not None and s.species.all() and s.species.max() <= LAST:
            atoms, counts = np.unique(s.species, return_counts=True)
            whole = sum(all_electron(int(z)) * n for z, n in zip(atoms, counts, strict=True))
            ratios.append(float(s.properties.energy) / whole)
    if not ratios:
        return Scale(None, np.nan, 0)
    ratio = float(np.median(ratios))
    near = [u for u in ENERGIES if abs(ratio * factor(u) - 1) < NEAR_SCALE]
    return Scale(near[0] if near else None, ratio, len(ratios))


def energy_units(
    pairs: Pairs, scale: Scale, length: float = 1.0
) -> tuple[list[Finding], float, str]:
    """What is wrong with units and signs of energies and forces.

    Args:
        pairs: of near structures.
        scale: of the energies.
        length: how many Å the unit of the positions seems to be.

    Returns:
        Findings, how many eV the unit of the energies seems to be, and what was looked at.
    """
    same = pairs.where(pairs.strain < 1e-9)
    found = fit([same.work], same.energy)
    if found.count < FEWEST:  # where all cells are strained, beside the work of the stress
        same = pairs.where(np.isfinite(pairs.pull))
        found = fit([same.work, same.pull, same.volume], same.energy)
    said = _said(found, "forces")
    if _loose(found, same.energy):
        unit = scale.unit or "eV"
        return [*_scale_alone(scale), *_unrelated(same)], factor(unit), said
    slope = found.values[0]
    stiffness = float(np.nanmedian(same.stiffness))
    best = _hypotheses(slope, found, scale, stiffness, length)
    own = scale.unit in (None, "eV") or _usual(stiffness / length, factor(scale.unit))
    if RIGHT[0] < slope / length < RIGHT[1] and own:
        return _too_stiff(stiffness / length, found), 1.0, said
    evidence = (
        f"over {found.count} pairs of near structures dE = {slope:.4g} × (-F·dr), where 1 is right "
        f"(spread {found.spread:.0%})"
    )
    if scale.unit not in (None, "eV"):
        evidence += f"; energies are {scale.ratio:.4g} of those of all electrons in eV"
    if not best:
        fix = "no unit explains it: check which energies, forces and positions belong together"
        return [Finding("energy and forces disagree", "error", evidence, (), fix)], 1.0, said
    energy, force, sign = best[0]
    units = [u for u, own in ((energy, "eV"), (force, "eV/Å")) if u != own]
    parts = ["energy"] * (energy != "eV") + ["force"] * (force != "eV/Å")
    kind = f"{' and '.join(parts)} unit" if parts else "force sign"
    others = [f"{e} with {'-' * (s < 0)}{f}" for e, f, s in best[1:3]]
    text = f"{evidence}: energies in {energy}, {'gradients' if sign < 0 else 'forces'} in {force}"
    text += f" (or {', or '.join(others)})" if others else ""
    fix = _units_fix(energy, force) if units else ""
    if sign < 0:
        fix += f"{'; ' * bool(fix)}gradients are minus forces: keys={{'forces': '-KEY'}}"
    return [Finding(kind, "error", text, (), fix)], factor(energy), said


def _usual(stiffness: float, energy: float) -> bool:
    """Whether force constants are nearer to usual ones [eV/Å²] as given than in the other unit.

    A size of energies that is that of all electrons in another unit may be an accident then.
    """
    middle = np.sqrt(STIFF[0] * STIFF[1])
    off = [abs(np.log(max(abs(stiffness), 1e-9) * unit / middle)) for unit in (1.0, energy)]
    return bool(off[0] < off[1])


def _units_fix(energy: str, force: str) -> str:
    stated = {"energy": energy} if energy != "eV" else {}
    stated |= {"forces": force} if force != "eV/Å" else {}
    return f"state them where the file is read: units={stated}"


def _said(found: Fit, what: str) -> str:
    if found.count < FEWEST or not np.isfinite(found.spread):
        return f"{found.count} near pairs with energies and {what}, too few to tell units"
    if not np.isfinite(found.values[0]):
        return f"{found.count} near pairs over which {what} do no work"
    return f"{found.count} near pairs for {what} (slope {found.values[0]:.3g})"


def _loose(found: Fit, energies: np.ndarray) -> bool:
    """Whether the pairs say nothing about units."""
    few = found.count < FEWEST or found.spread > LOOSE or not np.isfinite(found.values[0])
    return few or float(np.nanmedian(np.abs(energies))) < FAINT


def _unrelated(same: Pairs) -> list[Finding]:
    """Energies and forces that have nothing to do with each other."""
    same = same.where(np.isfinite(same.work) & np.isfinite(same.energy))
    if len(same.way) < ENOUGH or np.median(same.way) > SHORT:
        return []
    if min(np.ptp(same.work), np.median(np.abs(same.energy))) < FAINT:
        return []
    correlation = float(np.corrcoef(rankdata(same.work), rankdata(same.energy))[0, 1])
    if abs(correlation) > UNRELATED:
        return []
    text = (
        f"over {len(same.way)} pairs of near structures ({np.median(same.way):.2g} Å apart) dE and "
        f"-F·dr have a rank correlation of {correlation:.2f}, where 0.8 and more is usual"
    )
    fix = "labels of other frames or atoms in another order? write geometry and labels together"
    return [Finding("energy and forces disagree", "error", text, (), fix)]


def _scale_alone(scale: Scale) -> list[Finding]:
    if scale.unit in (None, "eV"):
        return []
    text = (
        f"energies of {scale.count} structures are {scale.ratio:.4g} of those of all electrons in "
        f"eV, as in {scale.unit}"
    )
    fix = f"state it where the file is read: units={{'energy': '{scale.unit}'}}"
    return [Finding("energy unit", "error", text, (), fix)]


def _hypotheses(
    slope: float, found: Fit, scale: Scale, stiffness: float, length: float
) -> list[tuple[str, str, int]]:
    """Unit of the energy, of the forces and sign; likely ones first, much less likely ones left
    out."""
    near = max(0.06, 4 * found.spread / np.sqrt(found.count))
    rows = []
    for energy in ENERGIES if scale.unit is None else (scale.unit,):
        for force, natural in FORCES.items():
            for sign in (1, -1):
                wanted = sign * factor(force) * length / factor(energy)
                off = abs(np.log(slope / wanted)) if slope * wanted > 0 else np.inf
                if off > near:
                    continue
                # Few things are wrong at once, except that one program writes both.
                odd = (energy != "eV") + (force != "eV/Å") + 0.5 * (sign < 0)
                odd -= 0.6 * (energy == natural != "eV")
                stiff = abs(stiffness) * factor(force) / length
                odd += not STIFF[0] < stiff < STIFF[1]
                rows.append((odd + off, energy, force, sign))
    rows.sort()
    return [(e, f, s) for odd, e, f, s in rows if odd < rows[0][0] + 0.3]


def _too_stiff(stiffness: float, found: Fit) -> list[Finding]:
    if not stiffness > TOO_STIFF:
        return []
    text = (
        f"energies and forces fit together, but force constants are {stiffness:.3g} eV/Å² in the "
        f"median over {found.count} pairs, where matter has {STIFF[0]:g} to {STIFF[1]:g}"
    )
    fix = "both in kcal/mol or kJ/mol? units={'energy': 'kcal/mol', 'forces': 'kcal/mol/Å'}"
    return [Finding("energy and force unit", "warning", text, (), fix)]


def stress_units(pairs: Pairs, energy: float = 1.0) -> tuple[list[Finding], str]:
    """What is wrong with unit, sign and meaning of the stress; and what was looked at.

    Args:
        pairs: of near structures.
        energy: how many eV the unit of the energies is.
    """
    bent = pairs.where((pairs.strain > 1e-4) & np.isfinite(pairs.pull))
    work = np.nan_to_num(bent.work)
    energies = bent.energy * energy
    found = fit([bent.pull, work, bent.volume], energies)
    if not len(pairs.way) or not len(bent.way):
        return [], ""
    said = _said(found, "stress")
    if _loose(found, energies):
        return [], said
    slope, excess = found.values[0], np.nan_to_num(found.values[2])
    evidence = (
        f"over {found.count} pairs of strained cells dE = {slope:.4g} × V stress:strain, where 1 "
        f"is right (spread {found.spread:.0%})"
    )
    if RIGHT[0] < slope < RIGHT[1]:
        if abs(excess) < max(PULAY, 3 * _excess_error(found, bent, energies)):
            return [], said
        text = (
            f"{evidence}, and dE/dV is {-excess * 1e3:.3g} meV/Å³ below the stress in all "
            f"{found.count} pairs"
        )
        fix = (
            "no potential fits both (Pulay stress of a small plane-wave basis?): leave stress out "
            "of the loss, or compute it with a larger basis"
        )
        return [Finding("stress offset", "error", text, (), fix)], said
    return [_stress_finding(slope, bent, energies, evidence)], said


def _excess_error(found: Fit, bent: Pairs, energies: np.ndarray) -> float:
    """How much of dE may go with the volume alone by chance, and by anharmonic springs [eV/Å³]."""
    left = 1.5 * found.spread * float(np.median(np.abs(energies)))
    chance = left / max(float(np.sqrt((bent.volume**2).sum())), 1e-12)
    turned = np.abs(bent.virial) > 1e-12
    volume = float(np.median(bent.pull[turned] / bent.virial[turned]))
    springs = float(np.median(np.abs(np.nan_to_num(bent.spring))))
    return chance + GRUNEISEN * springs / volume


def _stress_finding(slope: float, bent: Pairs, energies: np.ndarray, evidence: str) -> Finding:
    work = np.nan_to_num(bent.work)
    whole = fit([bent.virial, work, bent.volume], energies)
    rows = [
        (abs(np.log(abs(whole.values[0]))), "virial", sign, "eV")
        for sign in (1, -1)
        if whole.values[0] * sign > 0
    ]
    for unit in STRESSES:
        off = abs(np.log(abs(slope) / factor(unit)))
        rows.append((off, "stress", 1 if slope > 0 else -1, unit))
    off, what, sign, unit = min(rows)
    if off > 0.2:
        fix = "no unit explains it: check which stress belongs to which energy; leave it out else"
        return Finding("energy and stress disagree", "error", evidence, (), fix)
    if what == "virial":
        text = f"{evidence}: the values are {'-' * (sign < 0)}V stress, a virial in eV"
        name = "KEY" if sign < 0 else "-KEY"
        fix = f"read them as what they are: keys={{'virials': '{name}'}}"
        return Finding("stress is a virial", "error", text, (), fix)
    text = f"{evidence}: stress in {unit}{', with the sign of a pressure' * (sign < 0)}"
    fix = f"units={{'stress': '{unit}'}}" if unit != "eV/Å³" else ""
    if sign < 0:
        fix += f"{', ' * bool(fix)}keys={{'stress': '-KEY'}} (tension is positive)"
    kind = "stress unit" if unit != "eV/Å³" else "stress sign"
    return Finding(kind, "error", text, (), f"state it where the file is read: {fix}")
