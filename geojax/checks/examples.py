"""Structures on which a model is measured: small, off every axis, and made of the model's elements.

Symmetric or axis-aligned structures hide faults (a broken component may be zero by symmetry), so
every example is random and turned. Lengths follow the model's cutoff: about thirty neighbours in a
crystal, none closer than a quarter of the cutoff.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np

from geojax.graphs import Properties, Structure

__all__ = [
    "approaching",
    "atoms",
    "degenerate",
    "dimers",
    "fragments",
    "generated",
    "supercell",
    "turned",
]

CLOUD = 1.0  # length unit of a cloud of bare points
BONDED = 4.0  # [Å]; stands in for an infinite cutoff between atoms
PAIRS = 6  # element pairs that dimers are made of, at most


def generated(
    species: Sequence[int], cutoff: float, seed: int, inputs: Mapping[str, np.ndarray] | None = None
) -> dict[str, Structure]:
    """A molecule; and, under a finite cutoff, a triclinic crystal and a slab of mixed species.

    Args:
        species: the atomic numbers to use, or (0,) for bare points.
        cutoff: [Å]; an infinite one has no periodic examples.
        inputs: rows of node inputs to draw from, for models that read more than species.
    """
    rng = np.random.default_rng(seed)
    length = _length(species, cutoff)
    made = {"molecule": Structure(_scattered(rng, 7, length), _cycle(species, 7))}
    if math.isfinite(cutoff):
        made["crystal"] = _periodic(rng, species, 5, 0.95 * length, (True, True, True))
        made["slab"] = _periodic(rng, species, 4, 0.95 * length, (True, True, False))
    if inputs:
        draw = lambda n: {
            name: rows[rng.integers(len(rows), size=n)] for name, rows in inputs.items()
        }
        made = {name: s.replace(inputs=draw(len(s))) for name, s in made.items()}
    return made


def _length(species: Sequence[int], cutoff: float) -> float:
    if math.isfinite(cutoff):
        return cutoff
    return BONDED if any(species) else CLOUD


def _cycle(species: Sequence[int], count: int) -> np.ndarray:
    return np.resize(np.asarray(species, np.int32), count)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((3, 3)))[0]


def _scattered(rng: np.random.Generator, count: int, length: float) -> np.ndarray:
    """Random positions in a ball of radius 0.55, none closer than 0.28 (in lengths)."""
    found: list[np.ndarray] = []
    while len(found) < count:
        x = rng.uniform(-0.55, 0.55, 3)
        if np.linalg.norm(x) < 0.55 and all(np.linalg.norm(x - y) > 0.28 for y in found):
            found.append(x)
    return length * np.array(found)


def _periodic(
    rng: np.random.Generator,
    species: Sequence[int],
    count: int,
    length: float,
    pbc: tuple[bool, bool, bool],
) -> Structure:
    """A skewed, turned cell of one length; its atoms keep 0.28 lengths apart, images too."""
    cell = length * np.array([[0.9, 0.0, 0.0], [0.25, 0.95, 0.0], [-0.2, 0.3, 1.05]])
    cell = cell @ _rotation(rng).T
    images = np.array(np.meshgrid(*[(-1, 0, 1)] * 3)).reshape(3, -1).T * np.array(pbc)
    found: list[np.ndarray] = []
    while len(found) < count:
        x = rng.uniform(0, 1, 3)
        gaps = [np.linalg.norm((x - y + images) @ cell, axis=1).min() for y in found]
        if not gaps or min(gaps) > 0.28 * length:
            found.append(x)
    if not all(pbc):  # a cell without thickness: `Structure` completes it
        positions = np.array(found) @ cell
        flat = np.where(np.array(pbc)[:, None], cell, 0)
        return Structure(positions, _cycle(species, count), cell=flat, pbc=pbc)
    return Structure(np.array(found) @ cell, _cycle(species, count), cell=cell, pbc=pbc)


def turned(structure: Structure, matrix: np.ndarray, vectors: Sequence[str] = ()) -> Structure:
    """The structure after a rotation of the world, without its labels.

    Args:
        matrix: `[3, 3]`, orthogonal, proper or improper.
        vectors: the node inputs that turn along.
    """
    inputs = {
        name: value @ matrix.T if name in vectors else value
        for name, value in structure.inputs.items()
    }
    return structure.replace(
        positions=structure.positions @ matrix.T,
        cell=None if structure.cell is None else structure.cell @ matrix.T,
        inputs=inputs,
        properties=Properties(),
    )


def supercell(structure: Structure) -> Structure:
    """Twice the structure along each axis that repeats; copies follow each other in memory."""
    assert structure.cell is not None
    times = [2 if periodic else 1 for periodic in structure.pbc]
    moves = np.array(np.meshgrid(*[range(n) for n in times], indexing="ij")).reshape(3, -1).T
    positions = structure.positions[None] + (moves @ structure.cell)[:, None]
    copies = len(moves)
    return Structure(
        positions.reshape(-1, 3),
        np.tile(structure.species, copies),
        cell=structure.cell * np.array(times)[:, None],
        pbc=structure.pbc,
        inputs={
            name: np.tile(value, (copies, *[1] * (value.ndim - 1)))
            for name, value in structure.inputs.items()
        },
    )


def atoms(species: Sequence[int]) -> list[Structure]:
    """One isolated atom of each element."""
    return [Structure(np.zeros((1, 3)), np.array([z])) for z in species]


def dimers(species: Sequence[int], distance: float) -> list[Structure]:
    """Pairs of elements at a distance [Å], off axis."""
    pairs = list(combinations_with_replacement(species, 2))[:PAIRS]
    other = distance * _direction()
    return [Structure(np.stack([0 * other, other]), np.array(pair)) for pair in pairs]


def approaching(species: Sequence[int], cutoff: float, distance: float) -> list[Structure]:
    """Dimers, and a cluster with one more atom: the last atom is at `distance` from one other.

    In the cluster every other atom is farther from it, so that exactly one pair crosses the cutoff
    when the distance does, while the cluster's atoms have other neighbours.
    """
    across = _direction()
    cluster = _scattered(np.random.default_rng(1), 5, cutoff)
    top = cluster[np.argmax(cluster @ across)]
    positions = np.concatenate([cluster, (top + distance * across)[None]])
    return [*dimers(species, distance), Structure(positions, _cycle(species, 6))]


def _direction() -> np.ndarray:
    x = np.array([0.48, -0.6, 0.64])
    return x / np.linalg.norm(x)


def fragments(species: Sequence[int], cutoff: float) -> tuple[Structure, Structure, Structure]:
    """Two molecules, and both of them in one structure, 50 Å (and three cutoffs) apart."""
    rng = np.random.default_rng(2)
    first = Structure(_scattered(rng, 6, cutoff), _cycle(species, 6))
    second = Structure(_scattered(rng, 4, cutoff), _cycle(species[::-1], 4))
    apart = max(50.0, 3 * cutoff) * _direction()
    both = Structure(
        np.concatenate([first.positions, second.positions + apart]),
        np.concatenate([first.species, second.species]),
    )
    return first, second, both


def degenerate(species: Sequence[int], cutoff: float) -> dict[str, Structure]:
    """Geometries where angles, planes or directions vanish, as they do in molecules and crystals.

    Lines along each axis and off axis, a square in a plane, a bent pair of equal bonds, one pair,
    one atom.
    """
    bond = 0.4 * _length(species, cutoff)
    axes = {"x": np.eye(3)[0], "y": np.eye(3)[1], "z": np.eye(3)[2], "diagonal": _direction()}
    places = {f"line along {name}": np.outer((-1, 0, 1), axis) for name, axis in axes.items()}
    places["square"] = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    places["right angle"] = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    places["pair"] = np.array([[0.0, 0, 0], [0, 0, 1]])
    places["single"] = np.zeros((1, 3))
    return {name: Structure(bond * x, _cycle(species, len(x))) for name, x in places.items()}
