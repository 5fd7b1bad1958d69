"""E0s: the energy of each element that a model adds back, from isolated atoms or by least squares.

E(structure) = Σ_atoms E0(element) + what the network learns.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from geojax.datasets.dataset import Dataset
from geojax.elements import atomic_number, symbol
from geojax.graphs import Structure
from geojax.registry import did_you_mean

__all__ = ["AverageEnergies", "average_atomrefs", "average_energies", "reference_energies"]

HOW = ("isolated", "average", "ridge")
SINGULAR = 1e-8  # of the largest singular value


class AverageEnergies(NamedTuple):
    """Least-squares energies of the elements.

    Attributes:
        E0s: atomic number -> energy [eV].
        rmse: [eV/atom], what composition alone leaves unexplained.
        rank: of the composition matrix; the number of elements if all can be told apart.
    """

    E0s: dict[int, float]
    rmse: float
    rank: int


def reference_energies(data: Dataset, how: str | Mapping[int | str, float]) -> dict[int, float]:
    """E0 [eV] of every element of the training and validation structures, by atomic number.

    Args:
        data: with "isolated", its card has the energies of isolated atoms.
        how: "isolated", "average" (least squares over the compositions of the training structures),
            "ridge" (the same where compositions do not tell all elements apart: of all E0s that fit
            equally well the smallest ones; an isolated atom has no meaningful energy then) or a
            table by symbol or atomic number.

    Raises:
        ValueError: no energies of isolated atoms, an element without one, or compositions that do
            not tell the elements apart.
        KeyError: another word, or an unknown element in the table.
    """
    every = itertools.chain(data.train, data.valid)
    elements = sorted({int(z) for s in every for z in np.unique(s.species)})
    if how in ("average", "ridge"):
        found = average_energies(data.train, ridge=how == "ridge")
        return _pick(found.E0s, elements, "the training structures")
    if how == "isolated":
        table = data.card.get("E0s")
        if not table:
            raise ValueError(
                f"E0s 'isolated' need energies of isolated atoms; data set {data.name!r} brings "
                "none; give E0s='average' or a table such as E0s={'H': -13.6}"
            )
        return _pick(table, elements, f"the isolated atoms of data set {data.name!r}")
    if isinstance(how, str):
        raise KeyError(
            f"E0s are 'isolated', 'average', 'ridge' or a table; got {how!r}; "
            f"{did_you_mean(how, HOW)}"
        )
    return _pick(how, elements, "the table of E0s")


def _pick(
    table: Mapping[int | str, float] | Mapping[int, float], elements: Sequence[int], what: str
) -> dict[int, float]:
    known = {atomic_number(key): float(value) for key, value in table.items()}
    missing = [symbol(z) for z in elements if z not in known]
    if missing:
        raise ValueError(
            f"every element has its E0; {what} have none for {', '.join(missing)}, only for "
            f"{', '.join(symbol(z) for z in sorted(known))}; add the missing ones"
        )
    wrong = [symbol(z) for z in elements if not np.isfinite(known[z])]
    if wrong:
        raise ValueError(f"an E0 is a finite energy [eV]; {what} have another for {wrong}")
    return {z: known[z] for z in elements}


def average_energies(structures: Sequence[Structure], *, ridge: bool = False) -> AverageEnergies:
    """The E0s that best explain the energies per atom of structures by composition alone.

    Minimises Σ ((E - Σ_z n_z E0_z) / n)². Structures without an energy do not count.

    Args:
        ridge: where several E0s fit equally well, take those of least Σ E0² (the limit of ridge
            regression) in place of refusing.

    Raises:
        ValueError: no structure has an energy, or the compositions do not tell all elements apart
            (as where all structures have one formula).
    """
    labels = ((s.species, s.properties.energy) for s in structures)
    shares, elements, energies = _shares(labels)
    if not energies:
        raise ValueError("E0s 'average' need energies; no training structure has one")
    _, singular, axes = np.linalg.svd(shares, full_matrices=True)
    rank = int((singular > SINGULAR * singular[0]).sum())
    if rank < len(elements) and not ridge:
        mixed = (np.abs(axes[rank:]) > 1e-6).any(0)
        names = [symbol(int(z)) for z in elements[mixed]]
        raise ValueError(
            f"E0s 'average' need structures of different compositions; {', '.join(names)} cannot "
            f"be told apart: {len(elements)} elements but only {rank} independent compositions "
            f"among {len(energies)} structures; give E0s='isolated' with the energies of isolated "
            "atoms, a table for them, or E0s='ridge' if isolated atoms do not matter"
        )
    solution = np.linalg.lstsq(shares, energies, rcond=SINGULAR)[0]
    rmse = float(np.sqrt(np.mean((shares @ solution - energies) ** 2)))
    table = {int(z): float(e) for z, e in zip(elements, solution, strict=True)}
    return AverageEnergies(table, rmse, rank)


def average_atomrefs(structures: Sequence[Structure], target: str) -> dict[str, float]:
    """What each element adds to a target that is a sum over atoms, by least squares, by symbol.

    Fitted to the target per atom, as `average_energies`, with the smallest numbers of all that fit
    equally well. Structures without the label do not count.

    Raises:
        ValueError: no structure has the label.
    """
    labels = ((s.species, s.properties.targets.get(target)) for s in structures)
    shares, elements, values = _shares(labels)
    if not values:
        raise ValueError(f"atomrefs of {target!r} need its labels; no training structure has one")
    solution = np.linalg.lstsq(shares, np.array(values), rcond=SINGULAR)[0]
    return {symbol(int(z)): float(v) for z, v in zip(elements, solution, strict=True)}


def _shares(
    labels: Iterable[tuple[np.ndarray, Any]],
) -> tuple[Float[np.ndarray, "structure element"], Int[np.ndarray, "element"], list[float]]:
    """Of the labelled structures: the share of each element, atomic numbers, labels per atom.

    In one pass that keeps a few numbers of each structure.

    Args:
        labels: species and the label, or None, of each structure.
    """
    found: list[dict[int, int]] = []
    values: list[float] = []
    for species, value in labels:
        if value is not None:
            kinds, counts = np.unique(species, return_counts=True)
            found.append(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))
            values.append(float(value) / len(species))
    elements = np.array(sorted(set().union(*found)), np.int64)
    table = np.array([[counts.get(z, 0) for z in elements.tolist()] for counts in found], float)
    table = table.reshape(len(found), len(elements))
    return table / table.sum(1, keepdims=True), elements, values
