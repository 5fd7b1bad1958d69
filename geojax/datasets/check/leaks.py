"""Structures that are there twice, within a split and in two splits.

A fingerprint that moves, turns, mirrors and renumberings leave alone: of each element the sorted
distances to the first, second, … nearest atom. It changes by no more than twice the largest
displacement of an atom.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.spatial import KDTree

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.shells import nearest
from geojax.graphs import Structure

__all__ = ["SAME", "add_pairs", "leaks", "print_of", "twins"]

SAME = 1e-3  # [Å] of the fingerprint: one structure
NEAR = 0.02  # [Å]: a neighbouring frame
SHELL = 16  # nearest atoms
PROJECTIONS = 6
DIFFERENT = 0.02  # [eV/atom] between the labels of one structure
STATES = ("charge", "spin", "multiplicity")
MOST_NEIGHBOURS = 8  # reported of one structure


def print_of(structure: Structure) -> np.ndarray:
    """The fingerprint [Å], one length for structures of one composition and periodicity."""
    count = SHELL if any(structure.pbc) else min(SHELL, len(structure) - 1)
    if count < 1:
        return np.zeros(1)
    distance, _ = nearest(structure, count)
    elements = np.unique(structure.species)
    parts = [np.sort(distance[structure.species == z], axis=0).ravel() for z in elements]
    return np.nan_to_num(np.concatenate(parts), posinf=1e9)


def twins(structures: Sequence[Structure], tolerance: float) -> list[tuple[int, int, float]]:
    """Pairs of structures of one composition whose fingerprints differ by less in every entry."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, s in enumerate(structures):
        if len(s) > 1 and s.species.all():
            groups[tuple(np.bincount(s.species)), s.pbc].append(i)
    found = []
    for group in groups.values():
        if len(group) > 1:
            found += _twins([structures[i] for i in group], group, tolerance)
    return found


def _twins(structures: list[Structure], index: list[int], tolerance: float) -> list:
    table = np.array([print_of(s) for s in structures])
    # Means with random signs differ by no more than the fingerprints do.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (table.shape[1], PROJECTIONS))
    tree = KDTree(table @ signs / table.shape[1])
    found, counts = [], np.zeros(len(table), int)
    for i, near in enumerate(tree.query_ball_point(tree.data, tolerance, p=np.inf)):
        later = np.array([j for j in near if j > i], int)
        if not len(later):
            continue
        gap = np.abs(table[later] - table[i]).max(1)
        for j, distance in zip(later, gap, strict=True):
            if distance < tolerance and counts[j] < MOST_NEIGHBOURS:
                counts[j] += 1
                found.append((index[i], index[int(j)], float(distance)))
    return found


def add_pairs(
    result: list[Finding],
    part: Sequence[str],
    names: Callable[[np.ndarray], tuple[str, ...]],
    pairs: Sequence[tuple[int, int]],
    kind: str,
    severity: str,
    text: str,
    fix: str,
) -> None:
    """Add a finding about the later one of each pair of structures, where there are pairs.

    Args:
        result: it is added to these.
        part, names: as of `leaks`.
        pairs: indices of structures.
        kind, severity, text, fix: of the finding; {} in the text is how many structures.
    """
    if pairs:
        mask = np.zeros(len(part), bool)
        mask[[j for _, j in pairs]] = True
        told = text.format(int(mask.sum()))
        result.append(Finding(kind, severity, told, names(mask), fix))


def leaks(
    structures: Sequence[Structure],
    part: Sequence[str],
    names: Callable[[np.ndarray], tuple[str, ...]],
) -> list[Finding]:
    """Copies within splits and between them, copies with other labels, near copies.

    Args:
        structures: of all splits.
        part: of each the split, such as "train".
        names: a mask over the structures -> their names.
    """
    pairs = twins(structures, NEAR)
    pairs = [(i, j, gap) for i, j, gap in pairs if _same_inputs(structures[i], structures[j])]
    same = [(i, j) for i, j, gap in pairs if gap < SAME]
    near = [(i, j) for i, j, gap in pairs if gap >= SAME]
    against = [(i, j) for i, j in same if _contradict(structures[i], structures[j])]
    states = _states([(structures[i], structures[j]) for i, j in against])
    result: list[Finding] = []
    add = partial(add_pairs, result, part, names)
    within = [(i, j) for i, j in same if part[i] == part[j]]
    across = [(i, j) for i, j in same if part[i] != part[j]]
    add(
        within,
        "duplicates",
        "warning",
        "{} structures are there before in the same split, up to motion, mirror and numbering",
        "keep one of each: they weigh twice, and a random split would leak them",
    )
    add(
        across,
        "leak",
        "error",
        "{} structures of a later split are in an earlier one, up to motion, mirror and numbering",
        "take them out of the later split: errors on them say nothing",
    )
    add(
        against,
        "contradicting labels",
        "error",
        f"{{}} structures are there before with an energy that differs by more than "
        f"{DIFFERENT * 1e3:g} meV/atom",
        f"they differ in {', '.join(states)}: read it as an input of the network: inputs={{…}}"
        if states
        else "two levels of theory, spins or runs that did not converge: keep one of each",
    )
    add(
        [(i, j) for i, j in near if part[i] != part[j]],
        "near leak",
        "warning",
        f"{{}} structures of a later split are within {NEAR:g} Å (of every distance) of an "
        "earlier one",
        "frames of one trajectory? hold out whole runs: --valid with a file of other runs",
    )
    return result


def _contradict(a: Structure, b: Structure) -> bool:
    if a.properties.energy is None or b.properties.energy is None:
        return False
    gap = float(a.properties.energy) - float(b.properties.energy)
    return abs(gap) / len(a) > DIFFERENT


def _same_inputs(a: Structure, b: Structure) -> bool:
    """Whether a network would be given the same numbers, whatever the order of the atoms."""
    pairs = [(np.ravel(a.inputs[k]), np.ravel(b.inputs[k])) for k in a.inputs if k in b.inputs]
    return all(np.allclose(np.sort(x), np.sort(y)) for x, y in pairs if x.shape == y.shape)


def _states(pairs: Sequence[tuple[Structure, Structure]]) -> list[str]:
    """Remarks on charge and spin in which structures differ."""
    keys = {k for a, _ in pairs for k in a.info if any(word in k.lower() for word in STATES)}
    return sorted(k for k in keys if any(a.info.get(k) != b.info.get(k) for a, b in pairs))
