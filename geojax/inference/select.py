"""Structures worth labelling next: those on which an ensemble disagrees, each unlike the others.

A structure's disagreement s is the largest standard deviation of a force, over its atoms. The next
one chosen has the largest s min(1, d / D), with its distance d to the nearest chosen one and the
median distance D to the mean of the pool: the order of disagreement, in which those that resemble a
chosen one fall back and twins are left out. Distances are those of fingerprints: for each pair of
elements a histogram of distances to neighbours, per atom.

References:
    Seung, Opper, Sompolinsky, "Query by committee", 1992.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.deviations import std_name
from geojax.graphs import Structure, is_per_node, leaf, neighbor_list
from geojax.inference.predictor import Predictor

__all__ = ["Selection", "disagreement", "fingerprints", "select"]

REACH = 6.0  # [Å], of fingerprints where the network's cutoff is longer
WIDTH = 0.25  # [Å], of their bins
TWINS = 1e-6  # fingerprints at a smaller distance are the same, to rounding


class Selection(NamedTuple):
    """What was chosen of a pool.

    Attributes:
        indices: in the order of choice.
        disagreement: `[structure]` of the whole pool, in the unit of the property.
        property: whose deviation that is.
        unit: of the disagreement.
    """

    indices: list[int]
    disagreement: Float[np.ndarray, "structure"]
    property: str
    unit: str


def select(model: Any, structures: Sequence[Structure], count: int) -> Selection:
    """The structures that an ensemble should learn from next.

    Of an ensemble without an energy the disagreement is the largest deviation of its first output.

    Args:
        model: an `Ensemble`, a model with a shallow one, or its `Predictor`.
        count: how many; fewer are chosen where all others are twins of chosen ones, or nothing is
            left that members disagree on.

    Raises:
        TypeError: one model cannot disagree.
        ValueError: the count is not between 1 and the size of the pool; and as `Predictor`.
    """
    if not 1 <= count <= len(structures):
        raise ValueError(
            f"some of the {len(structures)} structures are chosen; {count} were asked for"
        )
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    spread = disagreement(predictor, structures)
    points = fingerprints(structures, min(predictor.engine.cutoff, REACH) or REACH)
    typical = np.median(np.linalg.norm(points - points.mean(0), axis=1))
    nearest = np.full(len(points), np.inf)
    chosen: list[int] = []
    for _ in range(count):
        unlike = np.minimum(nearest / max(typical, TWINS), 1)
        score = spread * np.where(nearest > TWINS, unlike, 0)
        best = int(np.argmax(score))
        if not score[best] > 0:
            break
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
    return Selection(chosen, spread, *_watched(predictor))


def disagreement(model: Any, structures: Sequence[Structure]) -> Float[np.ndarray, "structure"]:
    """The largest standard deviation of each structure: [eV/Å] of the force on an atom.

    That of a vector is the root of the sum over its components, which no rotation changes.

    Raises:
        TypeError: one model cannot disagree.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    watched, _ = _watched(predictor)
    if watched not in predictor.engine.deviations:
        raise TypeError(
            f"disagreement is that of an ensemble; {predictor.card.name!r} is one model; make "
            "several of them with other seeds, and geojax.Ensemble of them, or train an output "
            "with members"
        )
    name = std_name(watched)
    values = [np.asarray(leaf(p, name)) for p in predictor(structures, [name])]
    rows = [v.reshape(len(v) if is_per_node(name) else 1, -1) for v in values]
    return np.array([np.sqrt(np.square(row).sum(1)).max() for row in rows])


def fingerprints(
    structures: Sequence[Structure], cutoff: float
) -> Float[np.ndarray, "structure number"]:
    """Histograms of the distances between neighbours, by pair of elements and per atom.

    Atoms of each element, per atom, come first. Each distance is shared between two bins, and its
    weight fades towards the cutoff, so that the numbers are continuous in the positions; they are
    the same after rotation, translation, permutation of atoms and choice of another cell.
    """
    elements = np.unique(np.concatenate([s.species for s in structures]))
    bins = int(np.ceil(cutoff / WIDTH)) + 1
    found = []
    for s in structures:
        kind = np.searchsorted(elements, s.species)
        edges = neighbor_list(s, cutoff)
        shifts = 0.0 if s.cell is None else edges.shifts @ s.cell
        x = s.positions
        distance = np.linalg.norm(x[edges.receivers] - x[edges.senders] + shifts, axis=1)
        pair = kind[edges.receivers] * len(elements) + kind[edges.senders]
        place = np.minimum(distance / WIDTH, bins - 1.001)
        first = place.astype(int)
        near = np.cos(np.pi / 2 * np.minimum(distance / cutoff, 1)) ** 2
        table = np.zeros((len(elements) ** 2, bins))
        np.add.at(table, (pair, first), near * (1 - (place - first)))
        np.add.at(table, (pair, first + 1), near * (place - first))
        atoms = np.bincount(kind, minlength=len(elements))
        found.append(np.concatenate([atoms, table.ravel()]) / len(s))
    return np.stack(found)


def _watched(predictor: Predictor) -> tuple[str, str]:
    """The property whose deviation is the disagreement, and its unit."""
    outputs = [output for output in predictor.card.outputs if output.name != "hessian"]
    if any(output.name == "energy" for output in outputs):
        return "forces", "eV/Å"
    return outputs[0].name, outputs[0].unit
