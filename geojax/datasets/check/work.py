"""Work along short ways between structures: what forces and stress say an energy difference is.

For two near structures of the same atoms in the same order,

    E₂ - E₁ ≈ -½ (F₁ + F₂)·Δr + ½ (V₁ σ₁ + V₂ σ₂) : ε,

an error of third order in the way. Molecules are turned onto each other first; in crystals Δr is
the change at fixed cell and ε the symmetric strain between the cells. A regression of the left on
the right side over many pairs tells units and signs without any model.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from geojax.graphs import Structure

__all__ = ["Fit", "Pairs", "fit", "near_pairs"]

GROUPS, BLOCKS, BLOCK = 30, 6, 50  # of one composition so many runs of so many frames are compared
NEIGHBOURS = 3  # of each structure
FARTHEST = 0.35  # [length], root mean square over the atoms
NEAREST_SHARE = 0.4  # of the pairs of a group
ROUNDS = 40  # of reweighting
LARGEST_STRAIN, LARGEST_TURN = 0.08, 0.02


class Pairs(NamedTuple):
    """Near structures, and the terms of the formula above. NaN where a label is not there.

    Attributes:
        first, second: indices of the structures.
        way: how far apart, root mean square over the atoms.
        energy: E₂ - E₁.
        work: of the forces.
        pull: of the stress, ½ (V₁ σ₁ + V₂ σ₂) : ε; zero where the cell is the same.
        virial: the same without the volumes, ½ (σ₁ + σ₂) : ε.
        volume: V₂ - V₁.
        strain: the largest entry of ε.
        spring: -½ (F₂ - F₁)·Δr, the energy of a harmonic solid.
        stiffness: twice that by |Δr|².
    """

    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]
    way: Float[np.ndarray, " pair"]
    energy: Float[np.ndarray, " pair"]
    work: Float[np.ndarray, " pair"]
    pull: Float[np.ndarray, " pair"]
    virial: Float[np.ndarray, " pair"]
    volume: Float[np.ndarray, " pair"]
    strain: Float[np.ndarray, " pair"]
    spring: Float[np.ndarray, " pair"]
    stiffness: Float[np.ndarray, " pair"]

    def where(self, chosen: np.ndarray) -> "Pairs":
        """The chosen pairs."""
        return Pairs(*(column[chosen] for column in self))


class Fit(NamedTuple):
    """A regression through the origin by least absolute deviations.

    Attributes:
        values: one for each column; NaN for a column that is nearly zero in all rows.
        spread: median of what is left over median |y|.
        count: of rows.
    """

    values: tuple[float, ...]
    spread: float
    count: int


def fit(columns: Sequence[Float[np.ndarray, " pair"]], y: Float[np.ndarray, " pair"]) -> Fit:
    """The numbers c with y ≈ Σ c columns, over rows where all is there.

    By reweighted least squares; outliers of less than half of the rows hardly matter.
    """
    table = np.stack(columns, 1)
    good = np.isfinite(table).all(1) & np.isfinite(y)
    table, y = table[good], y[good]
    scale = float(np.median(np.abs(y))) if len(y) else 0.0
    used = (np.abs(table) > 1e-4 * scale).mean(0) > 0.2 if len(y) else np.zeros(len(columns), bool)
    values = np.full(len(columns), np.nan)
    if scale == 0 or not used.any():
        return Fit(tuple(values.tolist()), np.inf, len(y))
    unit = np.abs(table[:, used]).max(0)
    scaled = table[:, used] / unit
    weight = np.ones(len(y))
    for _ in range(ROUNDS):
        found = np.linalg.lstsq(scaled * weight[:, None], y * weight, rcond=None)[0]
        rest = np.abs(y - scaled @ found)
        weight = 1 / np.sqrt(np.maximum(rest, 1e-4 * scale))
    values[used] = found / unit
    return Fit(tuple(values.tolist()), float(np.median(rest)) / scale, len(y))


def near_pairs(structures: Sequence[Structure]) -> Pairs:
    """Pairs of near structures with the same atoms in the same order.

    Of each composition at most six runs of fifty frames in a row are compared, so that neighbours
    of a trajectory are among them; of 30 compositions.
    """
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, s in enumerate(structures):
        if len(s) > 1 and s.species.all() and all(s.pbc) == any(s.pbc):
            groups[s.species.tobytes(), s.pbc].append(i)
    largest = sorted(groups.values(), key=len, reverse=True)[:GROUPS]
    found = [_of_group(structures, _blocks(group)) for group in largest if len(group) > 1]
    empty = Pairs(*(np.zeros(0, int) for _ in range(2)), *(np.zeros(0) for _ in range(9)))
    return Pairs(*map(np.concatenate, zip(empty, *found, strict=True)))


def _blocks(group: list[int]) -> np.ndarray:
    if len(group) <= BLOCKS * BLOCK:
        return np.array(group)
    starts = np.linspace(0, len(group) - BLOCK, BLOCKS).astype(int)
    return np.array(group)[np.unique((starts[:, None] + np.arange(BLOCK)[None]).ravel())]


def _of_group(structures: Sequence[Structure], index: np.ndarray) -> Pairs:
    chosen = [structures[i] for i in index]
    terms = (_crystals if any(chosen[0].pbc) else _molecules)(chosen)
    i, j, way, dr, forces, cells = terms
    energies = np.array([np.nan if e is None else float(e) for e in _labels(chosen, "energy")])
    mean, change = (forces[1] + forces[0]) / 2, forces[1] - forces[0]
    work = -(mean * dr).sum((1, 2))
    square = np.maximum((dr**2).sum((1, 2)), 1e-12)
    spring = -(change * dr).sum((1, 2)) / 2
    pull, virial, volume, strain = cells
    change = energies[j] - energies[i]
    stiffness = 2 * spring / square
    columns = (way, change, work, pull, virial, volume, strain, spring, stiffness)
    return Pairs(index[i], index[j], *columns)


def _labels(structures: Sequence[Structure], name: str) -> list:
    return [getattr(s.properties, name) for s in structures]


def _forces(structures: Sequence[Structure]) -> np.ndarray:
    rows = _labels(structures, "forces")
    return np.array([np.full((len(structures[0]), 3), np.nan) if f is None else f for f in rows])


def _choose(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest neighbours of each structure, each pair once, the nearer share of them."""
    distance = np.where(np.eye(len(distance), dtype=bool), np.inf, distance)
    near = np.argsort(distance, axis=1)[:, :NEIGHBOURS]
    rows = np.repeat(np.arange(len(distance)), near.shape[1])
    pairs = np.unique(np.sort(np.stack([rows, near.ravel()], 1), 1), axis=0)
    i, j = pairs[:, 0], pairs[:, 1]
    way = distance[i, j]
    # Pairs at one place have no way, and no work to compare with.
    good = (i != j) & np.isfinite(way) & (way < FARTHEST) & (way > 1e-5)
    i, j, way = i[good], j[good], way[good]
    limit = np.quantile(way, NEAREST_SHARE) if len(way) > 100 else np.inf
    return i[way <= limit], j[way <= limit], way[way <= limit]


def _molecules(s: Sequence[Structure]) -> tuple:
    """Each pair turned onto each other by least squares (Kabsch 1976), never mirrored."""
    x = np.array([one.positions - one.positions.mean(0) for one in s], float)
    count, atoms, _ = x.shape
    flat = x.transpose(0, 2, 1).reshape(3 * count, atoms)
    products = (flat @ flat.T).reshape(count, 3, count, 3).transpose(0, 2, 1, 3)
    u, singular, v = np.linalg.svd(products)
    hand = np.sign(np.linalg.det(u @ v))
    overlap = singular[..., 0] + singular[..., 1] + hand * singular[..., 2]
    square = (x**2).sum((1, 2))
    gap = square[:, None] + square[None, :] - 2 * overlap
    i, j, way = _choose(np.sqrt(np.maximum(gap, 0) / atoms))
    flip = np.ones((len(i), 1, 3))
    flip[:, 0, 2] = hand[i, j]
    turn = (u[i, j] * flip) @ v[i, j]
    forces = _forces(s)
    zero = np.zeros(len(i))
    dr = x[j] - x[i] @ turn
    return i, j, way, dr, (forces[i] @ turn, forces[j]), (zero, zero, zero, zero)


def _crystals(s: Sequence[Structure]) -> tuple:
    """Each pair in the same cell and image, after the strain between the cells."""
    cells = np.array([one.cell for one in s], float)
    inside = np.array(
        [one.positions @ np.linalg.inv(cell) for one, cell in zip(s, cells, strict=True)]
    )
    volume = np.abs(np.linalg.det(cells))
    length = (volume.mean() / len(s[0])) ** (1 / 3)
    distance = np.full((len(s), len(s)), np.inf)
    for i in range(len(s)):
        dr, strain, turn = _between(cells, inside, np.full(len(s), i), np.arange(len(s)))
        apart = np.sqrt((dr**2).sum(2).mean(1)) + length * np.abs(strain).max((1, 2))
        fair = (np.abs(strain).max((1, 2)) < LARGEST_STRAIN) & (turn < LARGEST_TURN)
        distance[i] = np.where(fair, apart, np.inf)
    i, j, way = _choose(np.minimum(distance, distance.T))
    dr, strain, _ = _between(cells, inside, i, j)
    rows = [np.full((3, 3), np.nan) if t is None else t for t in _labels(s, "stress")]
    stress, forces = np.array(rows, float), _forces(s)
    virial = ((stress[i] + stress[j]) / 2 * strain).sum((1, 2))
    scaled = stress * volume[:, None, None]
    pull = ((scaled[i] + scaled[j]) / 2 * strain).sum((1, 2))
    cell = (pull, virial, volume[j] - volume[i], np.abs(strain).max((1, 2), initial=0))
    return i, j, way, dr, (forces[i], forces[j]), cell


def _between(cells: np.ndarray, inside: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple:
    """Change of the positions at fixed cell, symmetric strain, and the part that is no strain."""
    middle = (cells[i] + cells[j]) / 2
    ds = inside[j] - inside[i]
    ds = ds - ds[:, :1]  # from the first atom on, so that a shift of all crosses no border
    ds = ds - np.round(ds)
    ds = ds - ds.mean(1, keepdims=True)
    gradient = np.linalg.solve(middle, cells[j] - cells[i])
    skew = (gradient - gradient.transpose(0, 2, 1)) / 2
    return ds @ middle, gradient - skew, np.abs(skew).max((1, 2))
