"""jax-md's neighbour list for any cell: every image of every pair, and it knows when it ends.

A list is complete for all positions and cells with `cutoff stretch + 2 moved <= cutoff + skin`,
where atoms have moved against the cell that the list was made in by `moved` at most, and `stretch`
bounds |r(then)| / |r(now)| of vectors that move with the cell. It is made anew once half of the
skin is used up, and energies are NaN where it is not complete.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from geojax.graphs import Structure, neighbor_list
from geojax.graphs.device_neighbors import Grid, device_neighbors, fitting_grid, inverse, narrow

__all__ = ["NO_LATTICE", "NeighborFns", "Neighbors", "Search", "cell_of", "checked", "neighbor_fns"]

OVERFLOW, NARROW = 1, 4  # as jax-md numbers them
NO_LATTICE = "a box is that of a lattice; these atoms have no cell; give no box"
PLACES = 16  # the capacity of a list is a multiple of this
SPARE = 0.02  # of its heights may the cell lose before a list is allocated anew


@dataclass(frozen=True)
class Search:
    """What a list is made by, the same for its whole life.

    Attributes:
        cutoff: [Å].
        skin: [Å].
        periodic: which lattice vectors repeat.
        fractional: whether positions are given in fractional coordinates.
        grid: see `device_neighbors`.
    """

    cutoff: float
    skin: float
    periodic: tuple[bool, bool, bool]
    fractional: bool
    grid: Grid | None = None

    @property
    def is_whole(self) -> bool:
        """Whether a list never ends to be complete: of all pairs, or of none."""
        return math.isinf(self.cutoff) or self.cutoff == 0

    @property
    def reach(self) -> float:
        """[Å], of the pairs that are listed."""
        return self.cutoff + self.skin if self.cutoff else 0.0

    def coordinates(self, position: Array, cell: Array) -> Array:
        """Fractional ones."""
        return position if self.fractional else position @ inverse(cell)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbors:
    """A list on the device, as jax-md's: give it to `energy_fn` and update it before each step.

    Attributes:
        senders, receivers, shifts: `[edge]` and `[edge, 3]`, see `DeviceEdges`.
        count: how many edges there are.
        fullest: how many atoms there are in the fullest bin of the grid.
        reference: `[node, 3]`, fractional coordinates that the list was made for.
        cell: `[3, 3]` [Å], rows, likewise.
        error: zero, or what went wrong in jax-md's numbers; kept until the list is allocated anew.
        default: the cell where no box is given.
        search: static.
    """

    senders: Int[Array, "edge"]
    receivers: Int[Array, "edge"]
    shifts: Int[Array, "edge 3"]
    count: Int[Array, ""]
    fullest: Int[Array, ""]
    reference: Float[Array, "node 3"]
    cell: Float[Array, "3 3"]
    error: UInt8[Array, ""]
    default: Float[Array, "3 3"]
    search: Search = field(metadata={"static": True})

    @property
    def did_buffer_overflow(self) -> Bool[Array, ""]:
        """Whether the list must be allocated anew: too few places, or too narrow a cell."""
        return self.error != 0

    @property
    def cell_size_too_small(self) -> Bool[Array, ""]:
        """Whether the cell has become so narrow that neighbours are farther apart in the grid."""
        return (self.error & NARROW) != 0

    def used(self, position: Float[Array, "node 3"], box: Any = None) -> Float[Array, ""]:
        """[Å] of the skin that are used up; the list is complete up to all of it.

        Args:
            position: as given to `energy_fn`.
            box: likewise.
        """
        cell = cell_of(box, self.default)
        there = self.search.coordinates(position, cell)
        moved = (there - self.offset(there) - self.reference) @ self.cell
        farthest = jnp.sqrt((moved**2).sum(1).max())
        change = inverse(cell) @ self.cell - jnp.eye(3, dtype=cell.dtype)
        cutoff = 0.0 if self.search.is_whole else self.search.cutoff
        return cutoff * jnp.sqrt((change**2).sum()) + 2 * farthest

    def is_complete(self, position: Float[Array, "node 3"], box: Any = None) -> Bool[Array, ""]:
        """Whether it holds every pair within the cutoff; not for positions that are no numbers."""
        used = self.used(position, box)
        limit = jnp.inf if self.search.is_whole else self.search.skin
        return (self.error == 0) & (used <= limit) & jnp.isfinite(used)

    def offset(self, there: Float[Array, "node 3"]) -> Float[Array, "node 3"]:
        """Lattice vectors between each atom and where it is nearest to its reference."""
        whole = jnp.round(there - self.reference)
        return jax.lax.stop_gradient(jnp.where(np.array(self.search.periodic)[None], whole, 0))

    def update(self, position: Float[Array, "node 3"], *, box: Any = None, **unused: Any):
        """The list for these positions: itself, or made anew; traceable."""
        position = checked(position, self.reference.shape[0])
        box = None if box is None else jax.lax.stop_gradient(jnp.asarray(box))
        half = jnp.inf if self.search.is_whole else self.search.skin / 2
        fresh = self.used(position, box) <= half
        return jax.lax.cond(
            fresh, lambda: self, lambda: self.again(jax.lax.stop_gradient(position), box)
        )

    def again(self, position: Float[Array, "node 3"], box: Any = None) -> "Neighbors":
        """The list made anew, in as many places."""
        search, cell = self.search, cell_of(box, self.default)
        there = search.coordinates(position, cell)
        periodic = np.array(search.periodic)[None]
        return _listed(self, there - jnp.where(periodic, jnp.floor(there), 0), cell)


def _listed(old: Neighbors, inside: Array, cell: Array) -> Neighbors:
    search = old.search
    grid, periodic, places = search.grid, search.periodic, old.senders.shape[0]
    assert grid is not None
    edges = device_neighbors(
        inside, cell, search.reach, periodic=periodic, grid=grid, capacity=places
    )
    full = (edges.count > places) | (edges.fullest > grid.places)
    small = narrow(cell, search.reach, periodic=periodic, grid=grid)
    error = jnp.where(full, OVERFLOW, 0) | jnp.where(small, NARROW, 0)
    return replace(
        old,
        **edges._asdict(),
        reference=inside,
        cell=cell,
        error=old.error | error.astype(old.error.dtype),
    )


class NeighborFns(NamedTuple):
    """As jax-md's: `allocate(position, extra_capacity=0, *, box=None)` looks at numbers and cannot
    be compiled, `update(position, neighbor, *, box=None)` can."""

    allocate: Callable[..., Neighbors]
    update: Callable[..., Neighbors]


def _update(position: Array, neighbor: Neighbors, **options: Any) -> Neighbors:
    return neighbor.update(position, **options)


def neighbor_fns(structure: Structure, search: Search, multiple: float) -> NeighborFns:
    """How the lists of these atoms are made, in `multiple` times as many places as edges."""
    lattice = structure.cell is not None

    def allocate(
        position: Array, extra_capacity: int = 0, *, box: Any = None, **unused: Any
    ) -> Neighbors:
        position = checked(position, len(structure))
        if box is not None and not lattice:
            raise ValueError(NO_LATTICE)
        default = jnp.asarray(structure.cell if lattice else np.eye(3), position.dtype)
        cell = cell_of(box, default)
        rows, x = np.asarray(cell, np.float64), np.asarray(position, np.float64)
        there = structure.replace(
            positions=x @ rows if search.fractional else x, cell=rows if lattice else None
        )
        count = len(neighbor_list(there, search.reach).senders) if search.cutoff else 0
        grid = fitting_grid(
            there.positions @ np.linalg.inv(rows),
            rows,
            search.reach,
            periodic=search.periodic,
            multiple=multiple,
            spare=SPARE,
        )
        while True:  # twice where rounding on the device finds more than the host
            places = math.ceil(count * multiple) + extra_capacity * len(structure)
            blank = _blank(position, cell, default, replace(search, grid=grid), places)
            found = _again(blank, position, cell.T)
            count, fullest = int(found.count), int(found.fullest)
            if count <= len(found.senders) and fullest <= grid.places:
                return found
            grid = grid._replace(places=max(fullest, grid.places))

    return NeighborFns(allocate, _update)


def _blank(position: Array, cell: Array, default: Array, search: Search, places: int) -> Neighbors:
    """No edges, in at least so many places."""
    empty = jnp.zeros(PLACES * (places // PLACES + 1), jnp.int32)
    shifts, error = jnp.zeros((len(empty), 3), jnp.int32), jnp.zeros((), jnp.uint8)
    none = jnp.zeros((), jnp.int32)
    return Neighbors(empty, empty, shifts, none, none, position, cell, error, default, search)


@jax.jit
def _again(neighbor: Neighbors, position: Array, box: Array) -> Neighbors:
    return neighbor.again(position, box)


def cell_of(box: Any, default: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """The rows of lattice vectors of jax-md's box: one length, three, or a matrix of columns."""
    if box is None:
        return default
    box = jnp.asarray(box, default.dtype)
    if box.shape not in ((), (1,), (3,), (3, 3)):
        raise ValueError(
            f"a box is a length, three of them, or a matrix of columns [3, 3]; got {box.shape}"
        )
    return box.T if box.ndim == 2 else jnp.eye(3, dtype=box.dtype) * box.reshape(1, -1)


def checked(position: Any, nodes: int) -> Array:
    """Positions as an array.

    Raises:
        ValueError: another shape, or no real numbers.
    """
    position = jnp.asarray(position)
    if position.shape != (nodes, 3) or not jnp.issubdtype(position.dtype, jnp.floating):
        raise ValueError(
            f"positions of these {nodes} atoms are floats of shape ({nodes}, 3); got "
            f"{position.dtype} {position.shape}"
        )
    return position
