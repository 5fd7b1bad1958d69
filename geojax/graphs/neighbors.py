"""Which nodes exchange messages: full neighbour lists of any cell, on the host.

`vesin` does the search; every input that makes it fail or lie is refused before it is called.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from geojax.graphs.structure import Structure

__all__ = ["Edges", "neighbor_list"]

WIDEST = 1e6  # [Å]; a structure that spans more is a mistake, and search grids overflow
CLOSEST = 1e-3  # [Å]; two atoms nearer than this are one atom given twice


class Edges(NamedTuple):
    """A full list (both directions of each pair), sorted by receiver, then sender, then shift.

    Attributes:
        senders: `[edge]`.
        receivers: `[edge]`.
        shifts: `[edge, 3]`, whole lattice vectors; `x[receiver] - x[sender] + shifts @ cell` runs
            from sender to receiver.
    """

    senders: np.ndarray
    receivers: np.ndarray
    shifts: np.ndarray


def neighbor_list(structure: Structure, cutoff: float, *, nearest: int | None = None) -> Edges:
    """All pairs within the cutoff, every periodic image counted.

    Args:
        structure: any cell, also skewed, left-handed or smaller than the cutoff; any `pbc`.
        cutoff: [Å]; infinity joins all pairs of a structure that is not periodic.
        nearest: keep only so many nearest senders of each receiver (such a list is not symmetric,
            and what is computed from it is not smooth in the positions).

    Raises:
        ValueError: the cutoff is not positive; an infinite cutoff in a periodic structure; atoms at
            one place; positions that span more than 1e6 Å.
        ImportError: vesin is not installed and the search needs it.
    """
    if not cutoff > 0:
        raise ValueError(f"a cutoff is a positive length [Å], or infinity; got {cutoff}")
    if np.isinf(cutoff) and any(structure.pbc):
        raise ValueError("a periodic structure has no end; give a finite cutoff [Å]")
    if len(structure) == 0:
        raise ValueError("a structure has at least one node; got an empty one")
    _refuse_wide(structure)
    if nearest is not None and not any(structure.pbc):
        return _nearest_in_space(structure.positions, nearest, cutoff)
    if np.isinf(cutoff):
        return _all_pairs(structure)
    edges = _within(structure, cutoff)
    return edges if nearest is None else _keep_nearest(structure, edges, nearest)


def _refuse_wide(structure: Structure) -> None:
    span = np.ptp(structure.positions, axis=0)
    if (span > WIDEST).any():
        axis = int(span.argmax())
        low, high = (
            structure.positions[:, axis].argmin(),
            structure.positions[:, axis].argmax(),
        )
        raise ValueError(
            f"positions span at most {WIDEST:.0e} Å; atoms {low} and {high} are {span[axis]:.3g} Å "
            f"apart along {'xyz'[axis]}; check the units, or split the structure"
        )


def _sorted(senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray) -> Edges:
    order = np.lexsort((*shifts.T[::-1], senders, receivers))
    return Edges(
        senders[order].astype(np.int32),
        receivers[order].astype(np.int32),
        shifts[order],
    )


def _all_pairs(structure: Structure) -> Edges:
    n = len(structure)
    receivers, senders = np.nonzero(~np.eye(n, dtype=bool))
    edges = _sorted(senders, receivers, np.zeros((n * (n - 1), 3), int))
    _refuse_coincident(structure, edges)
    return edges


def _within(structure: Structure, cutoff: float) -> Edges:
    try:
        from vesin import NeighborList
    except ImportError as error:
        raise ImportError("neighbour lists need vesin; pip install 'geojax[atoms]'") from error
    box = np.zeros((3, 3)) if structure.cell is None else structure.cell
    senders, receivers, shifts = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=structure.positions.astype(np.float64),
        box=box.astype(np.float64),
        periodic=list(structure.pbc),
        quantities="ijS",
    )
    edges = _sorted(senders.astype(int), receivers.astype(int), shifts.astype(int))
    _refuse_coincident(structure, edges)
    return edges


def distances(structure: Structure, edges: Edges) -> np.ndarray:
    """The length [Å] of each edge, in float64."""
    cell = np.zeros((3, 3)) if structure.cell is None else structure.cell
    x = structure.positions.astype(np.float64)
    vectors = x[edges.receivers] - x[edges.senders] + edges.shifts @ cell
    return np.linalg.norm(vectors, axis=-1)


def _refuse_coincident(structure: Structure, edges: Edges) -> None:
    """Atoms at one place are an error; bare points (species 0) may coincide."""
    if len(edges.senders) == 0 or not structure.species.any():
        return
    lengths = distances(structure, edges)
    worst = int(lengths.argmin())
    if lengths[worst] < CLOSEST:
        raise ValueError(
            f"two atoms may not be at one place; atoms {edges.senders[worst]} and "
            f"{edges.receivers[worst]} are {lengths[worst]:.2g} Å apart; remove one of them"
        )


def _nearest_in_space(positions: np.ndarray, nearest: int, cutoff: float) -> Edges:
    n = len(positions)
    count = min(nearest, n - 1)
    if count < 1:
        return Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), int))
    found = KDTree(positions).query(positions, k=count + 1)
    lengths, senders = np.asarray(found[0]), np.asarray(found[1])
    other = senders != np.arange(n)[:, None]
    other[other.all(1), -1] = False  # a coincident point took the place of the point itself
    kept = other & (lengths <= cutoff)
    receivers = np.broadcast_to(np.arange(n)[:, None], kept.shape)[kept]
    return _sorted(senders[kept], receivers, np.zeros((kept.sum(), 3), int))


def _keep_nearest(structure: Structure, edges: Edges, nearest: int) -> Edges:
    lengths = distances(structure, edges)
    order = np.lexsort((lengths, edges.receivers))
    receivers = edges.receivers[order]
    rank = np.arange(len(order)) - np.searchsorted(receivers, receivers)
    kept = np.sort(order[rank < nearest])
    return Edges(*(part[kept] for part in edges))
