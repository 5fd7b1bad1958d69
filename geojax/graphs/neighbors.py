"""Which nodes exchange messages: full neighbour lists of any cell, on the host.

Few nodes in free space are compared pair by pair; else `vesin` searches, and every input that makes
it fail, hang or lie is refused, or brought into a form that it handles, before it is called.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from geojax.graphs.structure import Structure

__all__ = ["Edges", "cell_heights", "images", "neighbor_list", "order_keys", "shifted", "turned"]

WIDEST = 1e6  # [Å]; a structure that spans more is a mistake, and search grids overflow
CLOSEST = 1e-3  # [Å]; two atoms nearer than this are one atom given twice
FARTHEST = 5e8  # lattice vectors; beyond, wrapping leaves no digits of a position
MOST = 2e8  # edges; more of them take tens of gigabytes
GRID = 1e5  # cells; vesin searches on a grid of no more
FEW = 64  # nodes; comparing all pairs of so few is faster than any search


class Edges(NamedTuple):
    """A full list (both directions of each pair), sorted by receiver, then sender, then shift.

    Attributes:
        senders: `[edge]`.
        receivers: `[edge]`.
        shifts: `[edge, 3]`, whole lattice vectors; `x[receiver] - x[sender] + shifts @ cell` runs
            from sender to receiver.
    """

    senders: Int[np.ndarray, "edge"]
    receivers: Int[np.ndarray, "edge"]
    shifts: Int[np.ndarray, "edge 3"]


def neighbor_list(structure: Structure, cutoff: float, *, nearest: int | None = None) -> Edges:
    """All pairs within the cutoff, every periodic image counted.

    Args:
        structure: any cell, also skewed, left-handed or smaller than the cutoff; any `pbc`.
        cutoff: [Å]; infinity joins all pairs of a structure that is not periodic. Pairs of exactly
            this length may be in or not: rounding decides, and networks vanish there.
        nearest: keep only so many nearest senders of each receiver (such a list is not symmetric,
            and what is computed from it is not smooth in the positions).

    Raises:
        ValueError: the cutoff or the number of nearest is not positive; an infinite cutoff in a
            periodic structure; no node; atoms at one place; positions or cells that span more than
            1e6 Å; positions more than 5e8 cells away; more than 2e8 edges.
        ImportError: vesin is not installed and the search needs it.
    """
    if not cutoff > 0:
        raise ValueError(f"a cutoff is a positive length [Å], or infinity; got {cutoff}")
    if np.isinf(cutoff) and any(structure.pbc):
        raise ValueError("a periodic structure has no end; give a finite cutoff [Å]")
    if nearest is not None and nearest < 1:
        raise ValueError(f"a node has at least one nearest sender; got nearest={nearest}")
    if len(structure) == 0:
        raise ValueError("a structure has at least one node; got an empty one")
    x, moved = structure.positions.astype(np.float64), images(structure)
    if moved.any():
        x = x - moved @ structure.cell
    _refuse_wide(structure, x)
    if not any(structure.pbc):
        if nearest is not None:
            return _nearest_in_space(structure, x, nearest, cutoff)
        if np.isinf(cutoff) and len(x) ** 2 > MOST:
            raise ValueError(
                f"a list has at most {MOST:.0e} edges; all pairs of {len(x)} nodes are more; "
                "give a finite cutoff, or the number of nearest senders"
            )
        if np.isinf(cutoff) or len(x) <= FEW:
            return _all_pairs(structure, x, cutoff)
    edges = _search(structure, x, cutoff)
    if nearest is not None:
        edges = _keep_nearest(structure, x, edges, nearest)
    if moved.any():
        edges = shifted(edges, -moved)
    return edges


def shifted(edges: Edges, moved: Int[np.ndarray, "node 3"]) -> Edges:
    """The edges after `moved` lattice vectors were taken from the position of each node."""
    shifts = moved.take(edges.receivers, 0)
    shifts -= moved.take(edges.senders, 0)
    shifts += edges.shifts
    return edges._replace(shifts=shifts)


def images(structure: Structure) -> Int[np.ndarray, "node 3"]:
    """The image of the cell that each node is in: `positions - images @ cell` is inside.

    Zero along axes that do not repeat.
    """
    moved = np.zeros((len(structure), 3), np.int32)
    if any(structure.pbc):
        cell = _full_cell(structure)
        inside = np.linalg.solve(cell.T, structure.positions.T.astype(np.float64)).T
        periodic = list(structure.pbc)
        if np.abs(inside[:, periodic]).max(initial=0) > FARTHEST:
            node, axis = np.unravel_index(np.abs(inside * periodic).argmax(), inside.shape)
            raise ValueError(
                f"positions are at most {FARTHEST:.0e} lattice vectors from the origin; atom {node}"
                f" is {inside[node, axis]:.3g} along lattice vector {axis}; wrap the positions"
            )
        moved[:, periodic] = np.floor(inside[:, periodic])
    return moved


class Bits(NamedTuple):
    """How an edge is written as one number: the bits of a node and of a shift, from -reach."""

    node: int
    shift: int
    reach: int


def _bits(n_node: int, shifts: Int[np.ndarray, "edge 3"]) -> Bits:
    reach = max(int(shifts.max(initial=0)), -int(shifts.min(initial=0)))
    bits = Bits((n_node - 1).bit_length(), (2 * reach).bit_length(), reach)
    if 2 * bits.node + 3 * bits.shift > 63:
        raise ValueError(
            f"edges are numbered by 63 bits; got {n_node} nodes and shifts of up to {reach} lattice"
            " vectors; use a larger cell, or wrap the positions into it"
        )
    return bits


def turned(edges: Edges) -> Edges:
    """Each edge's reverse, in the order of the edges."""
    return Edges(edges.receivers, edges.senders, -edges.shifts)


def order_keys(edges: Edges, n_node: int) -> Int[np.ndarray, "edge"]:
    """One number per edge that orders them by receiver, then sender, then shift.

    The keys of a list and of the list turned around are comparable.

    Raises:
        ValueError: so many nodes and images have no 63-bit number each.
    """
    bits = _bits(n_node, edges.shifts)
    keys = edges.receivers.astype(np.int64) << bits.node
    keys += edges.senders.astype(np.int64)
    if bits.reach:
        for shift in edges.shifts.T.astype(np.int64):
            keys <<= bits.shift
            keys += shift + bits.reach
    return keys


def _both_directions(half: Edges, n_node: int) -> Edges:
    """A list of pairs as a full list. Numbers are sorted several times faster than rows."""
    bits = _bits(n_node, half.shifts)
    keys = np.concatenate([order_keys(half, n_node), order_keys(turned(half), n_node)])
    keys.sort()
    shifts = np.zeros((len(keys), 3), np.int32)
    if bits.reach:
        for axis in (2, 1, 0):
            shifts[:, axis] = (keys & ((1 << bits.shift) - 1)) - bits.reach
            keys >>= bits.shift
    senders = (keys & ((1 << bits.node) - 1)).astype(np.int32)
    return Edges(senders, (keys >> bits.node).astype(np.int32), shifts)


def _refuse_wide(structure: Structure, x: Float[np.ndarray, "node 3"]) -> None:
    advice = "check the units, or split the structure"
    low, high = x.argmin(0), x.argmax(0)
    for axis, (a, b) in enumerate(zip(low, high, strict=True)):
        if (span := x[b, axis] - x[a, axis]) > WIDEST:
            raise ValueError(
                f"positions span at most {WIDEST:.0e} Å; atoms {a} and {b} are {span:.3g} Å apart "
                f"along {'xyz'[axis]}; {advice}"
            )
    if any(structure.pbc):
        longest = np.linalg.norm(_cell(structure)[list(structure.pbc)], axis=1).max()
        if longest > WIDEST:
            raise ValueError(
                f"lattice vectors are at most {WIDEST:.0e} Å long; got {longest:.3g} Å; {advice}"
            )


def _refuse_coincident(structure: Structure, edges: Edges, lengths: np.ndarray) -> None:
    """Atoms at one place are an error; bare points (species 0) may coincide."""
    if lengths.min(initial=np.inf) >= CLOSEST or not structure.species.any():
        return
    worst = int(lengths.argmin())
    raise ValueError(
        f"two atoms may not be at one place; atoms {edges.senders[worst]} and "
        f"{edges.receivers[worst]} are {lengths[worst]:.2g} Å apart; remove one of them"
    )


def _all_pairs(structure: Structure, x: np.ndarray, cutoff: float) -> Edges:
    lengths = np.linalg.norm(x[:, None] - x, axis=-1)
    near = lengths <= cutoff
    np.fill_diagonal(near, False)
    receivers, senders = (index.astype(np.int32) for index in np.nonzero(near))
    edges = Edges(senders, receivers, np.zeros((len(senders), 3), np.int32))
    _refuse_coincident(structure, edges, lengths[near])
    return edges


def _search(structure: Structure, x: np.ndarray, cutoff: float) -> Edges:
    try:
        from vesin import NeighborList
    except ImportError as error:
        raise ImportError("neighbour lists need vesin; pip install 'geojax[atoms]'") from error
    # Across the lattice no image is within the cutoff, so vesin may take all axes as periodic; told
    # that some are open, it needs a time that grows with the square of their length.
    box = _box(structure, x, lambda extent: extent + 2 * cutoff)
    reach = _reach(box, cutoff) if any(structure.pbc) else cutoff
    _refuse_many(structure, x, reach)
    search = NeighborList(cutoff=reach, full_list=False)
    pairs, shifts, lengths = search.compute(
        points=x,
        box=box if any(structure.pbc) else np.zeros((3, 3)),
        periodic=any(structure.pbc),
        quantities="PSd",
        copy=False,  # the arrays belong to `search`
    )
    found = Edges(pairs[:, 0], pairs[:, 1], shifts)
    if reach > cutoff:
        near = lengths <= cutoff
        found, lengths = Edges(*(part[near] for part in found)), lengths[near]
    _refuse_coincident(structure, found, lengths)
    return _both_directions(found, len(x))


def _box(
    structure: Structure, x: np.ndarray, length: Callable[[float], float]
) -> Float[np.ndarray, "3 3"]:
    """The lattice vectors that repeat, and across them others of a length that suits the extent.

    Shifts along the others are zero, so any do.
    """
    box = _full_cell(structure)
    for axis in range(3):
        if not structure.pbc[axis]:
            box[axis] *= length(np.ptp(x @ box[axis]))
    return box


def cell_heights(cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """The distances between opposite faces [Å]; those of `graphs.device_neighbors` are for jax."""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def _reach(box: Float[np.ndarray, "3 3"], cutoff: float) -> float:
    """The cutoff, or the longer one that vesin can search flat and long boxes with.

    It thins a grid of more than `GRID` cells out along all axes alike, and then divides by zero
    where fewer than one are left.
    """
    heights = cell_heights(box)
    while True:
        cells = np.maximum(np.floor(heights / cutoff), 1)
        thinned = cells.min() * np.cbrt(GRID / cells.prod())
        if cells.prod() <= GRID or thinned >= 2:
            return cutoff
        cutoff *= 1.1


def _refuse_many(structure: Structure, x: np.ndarray, cutoff: float) -> None:
    sphere = 4 / 3 * np.pi * cutoff**3
    # At least the sphere's, so that a structure smaller than the cutoff counts all its pairs
    box = _box(structure, x, lambda extent: max(extent, np.cbrt(sphere)))
    density = len(x) / abs(np.linalg.det(box))
    expected = len(x) * density * sphere
    if expected > MOST:
        raise ValueError(
            f"a list has at most {MOST:.0e} edges; {len(x)} nodes at {density:.2g} per Å³ within "
            f"{cutoff:.3g} Å have about {expected:.0e}; check the units of cutoff and cell"
        )


def _cell(structure: Structure) -> Float[np.ndarray, "3 3"]:
    return np.zeros((3, 3)) if structure.cell is None else structure.cell.astype(np.float64)


def _full_cell(structure: Structure) -> Float[np.ndarray, "3 3"]:
    """The cell with unit vectors across the lattice along the axes that do not repeat."""
    cell, periodic = _cell(structure), np.array(structure.pbc)
    if not periodic.all():
        across = np.linalg.svd(cell[periodic])[2]
        cell[~periodic] = across[periodic.sum() :]
    return cell


def _nearest_in_space(structure: Structure, x: np.ndarray, nearest: int, cutoff: float) -> Edges:
    n = len(x)
    count = min(nearest, n - 1)
    if count < 1:
        return Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), np.int32))
    from scipy.spatial import KDTree  # here: importing it takes a fifth of a second

    found = KDTree(x).query(x, k=count + 1)
    lengths, senders = np.asarray(found[0]), np.asarray(found[1])
    other = senders != np.arange(n)[:, None]
    other[other.all(1), -1] = False  # a coincident point took the place of the point itself
    kept = other & (lengths <= cutoff)
    receivers = np.nonzero(kept)[0].astype(np.int32)
    edges = Edges(
        senders[kept].astype(np.int32), receivers, np.zeros((len(receivers), 3), np.int32)
    )
    _refuse_coincident(structure, edges, lengths[kept])
    order = np.lexsort((edges.senders, edges.receivers))
    return edges._replace(senders=edges.senders[order])


def _keep_nearest(structure: Structure, x: np.ndarray, edges: Edges, nearest: int) -> Edges:
    vectors = x[edges.receivers] - x[edges.senders] + edges.shifts @ _cell(structure)
    order = np.lexsort((np.linalg.norm(vectors, axis=-1), edges.receivers))
    receivers = edges.receivers[order]
    rank = np.arange(len(order)) - np.searchsorted(receivers, receivers)
    kept = np.sort(order[rank < nearest])
    return Edges(*(part[kept] for part in edges))
