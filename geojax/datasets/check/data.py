"""`check_data`: what is wrong with labelled structures, without any model.

Every finding has its evidence. Units are told by how energies, forces, stress and lengths fit
together (`work`, `units`, `geometry`), the rest by looking at one structure (`labels`, `forces`),
at two (`leaks`) or at all of one composition (`energies`). Clouds have their own (`clouds`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from geojax.datasets.check import clouds, energies, forces, geometry, labels, leaks, shear, units
from geojax.datasets.check.findings import Finding, Findings
from geojax.datasets.check.work import near_pairs
from geojax.datasets.dataset import isolated_energies
from geojax.datasets.formats import LabelReport
from geojax.graphs import Structure

__all__ = ["check_data"]

MOST = 3000  # structures of a split
FOLLOWS = {  # kind -> what an error of this kind brings with it, which is not said again
    "length unit": ("energy and forces disagree", "energy and stress disagree", "stress offset"),
    "force unit": ("stress offset",),
    "energy and force unit": ("stress offset",),
    "pbc missing": ("net torque",),
    "net torque": ("energy and forces disagree",),
    "two levels": ("energy and forces disagree",),
}


def check_data(
    train: Sequence[Structure],
    valid: Sequence[Structure] = (),
    test: Sequence[Structure] = (),
    *,
    E0s: Mapping[int, float] | None = None,
    reports: Sequence[LabelReport] = (),
    most: int = MOST,
) -> Findings:
    """What is wrong or odd in structures with energies, forces and stress, or in clouds of points.

    Args:
        train, valid, test: the splits. Structures of one atom that does not repeat are isolated
            atoms.
        E0s: energies [eV] of isolated atoms by atomic number, where they are not among `train`.
        reports: of the files, for frames that could not be read (`read(…, skip_bad=True)`).
        most: of each split so many structures, in runs of neighbours spread over it, are looked at.

    Raises:
        ValueError: there are isolated atoms only, or no structure, or points among atoms only.
    """
    given = {"train": train, "valid": valid, "test": test}
    structures: list[Structure] = []
    part: list[str] = []
    name: list[str] = []
    looked = []
    for split, members in given.items():
        chosen = _some(len(members), most)
        structures += [members[i] for i in chosen]
        part += [split] * len(chosen)
        name += [f"{split} {i}" for i in chosen]
        if len(chosen) < len(members):
            looked.append(f"{len(chosen)} of {len(members)} structures of {split}")
    if structures and not any(s.species.any() for s in structures):
        of = _namer(name)
        found = clouds.cloud_findings(structures, part, of) + labels.missing(structures, of)
        reading = [*labels.rejected(reports), *labels.suspicious_keys(reports)]
        return Findings((*reading, *found), (f"{len(structures)} clouds", *looked))
    atoms = np.array([bool(len(s)) and bool(s.species.all()) for s in structures], bool)
    if not atoms.any():
        raise ValueError(
            "energies, forces and lengths are checked of atoms, and clouds of points; "
            f"{len(structures)} structures have both or neither"
        )
    keep = np.flatnonzero(atoms & ~np.array([_is_free_atom(s) for s in structures], bool))
    if not len(keep):
        raise ValueError(
            f"isolated atoms are checked against structures; all {len(structures)} structures are "
            "isolated atoms; give a file of structures beside them"
        )
    free, conflict = _free_atoms([s for s in structures if _is_free_atom(s)], E0s)
    structures, part = [structures[i] for i in keep], [part[i] for i in keep]
    name = [name[i] for i in keep]
    looked.insert(0, f"{len(structures)} structures, {len(free)} isolated atoms")
    found, told = _findings(structures, part, _namer(name), free)
    reading = [*labels.rejected(reports), *labels.suspicious_keys(reports)]
    return Findings((*reading, *conflict, *_causes(found)), (*looked, *told))


def _findings(
    structures: list[Structure],
    part: list[str],
    names: Callable[[np.ndarray], tuple[str, ...]],
    free: Mapping[int, float],
) -> tuple[list[Finding], list[str]]:
    bonds = geometry.bonds(structures)
    lengths, length = geometry.length_unit(bonds)
    found = [*lengths, *geometry.cells(structures, names)]
    if not lengths:
        found += geometry.close_and_far(structures, bonds, names)
    scale = units.energy_scale(structures)
    zeros = labels.placeholders(structures, names)
    sound = structures if not zeros else _without_zeros(structures)
    pairs = near_pairs(sound)
    told, energy, seen = units.energy_units(pairs, scale, length)
    stressed, seen_stress = units.stress_units(pairs, energy)
    found += [*told, *stressed, *shear.shear_order(sound), *zeros]
    found += labels.missing(structures, names)
    found += labels.constant(structures) + labels.digits(sound)
    found += forces.net_forces(structures, names)
    if not told:  # sizes in eV/Å mean something
        found += forces.large_forces(structures, names)
    level = energies.levels(sound, pairs, names)
    found += level
    found += energies.isolated_atoms(sound, free, scale, energy)
    found += energies.composition(sound, free)
    if not level and energy == 1:
        found += energies.outliers(sound, names)
    found += leaks.leaks(structures, part, names)
    return found, [text for text in (seen, seen_stress) if text]


def _causes(found: list[Finding]) -> list[Finding]:
    """The findings without those that others explain."""
    errors = {finding.kind for finding in found if finding.severity == "error"}
    explained = {kind for cause in errors for kind in FOLLOWS.get(cause, ())}
    return [finding for finding in found if finding.kind not in explained]


def _some(count: int, most: int) -> list[int]:
    """All indices, or runs of a hundred spread evenly."""
    if count <= most:
        return list(range(count))
    run = min(100, most)
    starts = np.linspace(0, count - run, most // run).astype(int)
    return np.unique((starts[:, None] + np.arange(run)[None]).ravel()).tolist()


def _namer(name: list[str]) -> Callable[[np.ndarray], tuple[str, ...]]:
    return lambda mask: tuple(name[i] for i in np.flatnonzero(mask))


def _is_free_atom(s: Structure) -> bool:
    marked = "isolated" in str(s.info.get("config_type", "")).lower()
    return len(s) == 1 and (marked or not any(s.pbc))


def _free_atoms(
    structures: list[Structure], E0s: Mapping[int, float] | None
) -> tuple[dict[int, float], list[Finding]]:
    """Energies of isolated atoms, and a finding where one element has two."""
    try:
        labelled = [s for s in structures if s.properties.energy is not None]
        return isolated_energies(labelled) | dict(E0s or {}), []
    except ValueError as error:
        fix = "keep the one of the level of theory of the structures"
        return dict(E0s or {}), [Finding("isolated atoms", "error", str(error), (), fix)]


def _without_zeros(structures: list[Structure]) -> list[Structure]:
    """The same without labels of exactly zero, which say nothing."""
    kept = []
    for s in structures:
        p = s.properties
        gone = {
            name: None
            for name in ("energy", "forces", "stress")
            if getattr(p, name) is not None and not np.any(getattr(p, name))
        }
        kept.append(s.replace(properties=p._replace(**gone)) if gone else s)
    return kept
