"""Full neighbour lists inside compiled programs: a grid over any cell, fixed capacities.

Atoms are sorted into bins of a grid along the lattice vectors. With bins at least reach / m wide,
measured between opposite faces, the neighbours of an atom are in the m next bins on either side.
Beyond the cell the count of bins goes on: bin b + k bins is bin b of the k-th image. So a small
cell, where atoms are their own neighbours, is a grid of one bin and more images. Along axes that do
not repeat, bins begin at the lowest atom, and the last one holds all that lie beyond it.

References:
    Allen, Tildesley, "Computer simulation of liquids", 1987, section 5.3 (cell lists).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from geojax.graphs.neighbors import cell_heights

__all__ = [
    "DeviceEdges",
    "Grid",
    "device_neighbors",
    "fitting_grid",
    "heights",
    "inverse",
    "narrow",
]

CANDIDATES = 1 << 20  # looked at together; they stay in a cache, and a GPU is busy with them
MARGIN = 1e-4  # of a bin; more than rounding makes of it
TINY = 1e-3  # [Å], the narrowest bin
BINS = 8  # for each atom, at most


class Grid(NamedTuple):
    """What a search is compiled for.

    Attributes:
        bins: along each lattice vector.
        range: m, how many bins on either side a search looks at.
        places: for the atoms of a bin.
        width: [Å] of the bins along axes that do not repeat.
    """

    bins: tuple[int, int, int]
    range: tuple[int, int, int]
    places: int
    width: tuple[float, float, float]

    @property
    def words(self) -> tuple[int, int]:
        """How many words of bits stand for the places of a bin, and how many places each."""
        words = -(-self.places // 32)
        return words, -(-self.places // words)

    @property
    def offsets(self) -> Int[np.ndarray, "offset 3"]:
        """From a bin to those that are looked at."""
        axes = [np.arange(-m, m + 1) for m in self.range]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.int32)


class DeviceEdges(NamedTuple):
    """`Edges` in a fixed number of places, sorted by receiver.

    Places that are left join the node after the last to itself.

    Attributes:
        senders: `[edge]`.
        receivers: `[edge]`.
        shifts: `[edge, 3]`, whole lattice vectors.
        count: how many edges there are; those beyond the places were left out.
        fullest: how many atoms there are in the fullest bin; those beyond its places were left out.
    """

    senders: Int[Array, "edge"]
    receivers: Int[Array, "edge"]
    shifts: Int[Array, "edge 3"]
    count: Int[Array, ""]
    fullest: Int[Array, ""]


def fitting_grid(
    fractional: Float[np.ndarray, "node 3"],
    cell: Float[np.ndarray, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    multiple: float = 1.0,
    spare: float = 0.0,
) -> Grid:
    """The grid for these atoms.

    Args:
        fractional: coordinates, in any image.
        cell: rows are lattice vectors [Å].
        reach: [Å].
        periodic: which lattice vectors repeat.
        multiple: places of a bin, by the atoms of the fullest one.
        spare: the share of its heights that the cell may lose; see `narrow`.
    """
    if not np.isfinite(reach):
        return Grid((1, 1, 1), (0, 0, 0), len(fractional), (1.0, 1.0, 1.0))
    tall = cell_heights(cell)
    least = max(reach * (1 + MARGIN), TINY) / (1 - spare)
    extent = np.where(periodic, tall, np.ptp(fractional, axis=0) * tall)
    bins = np.maximum(np.floor(extent / least), 1)
    fewer = min(1, BINS * len(fractional) / bins.prod()) ** (1 / 3)
    bins = np.maximum(np.floor(bins * fewer), 1).astype(int)
    around = np.where(periodic, np.ceil(least * bins / tall), bins > 1).astype(int)
    width = np.maximum(extent / bins, least)
    grid = Grid(_three(bins), _three(around), 1, _three(width))
    low = np.where(periodic, np.floor(fractional), fractional.min(0))
    place = (fractional - low) * np.where(periodic, bins, tall / width)
    place = np.clip(np.floor(place), 0, bins - 1).astype(int)
    fullest = np.bincount(np.ravel_multi_index(tuple(place.T), grid.bins)).max()
    return grid._replace(places=min(int(np.ceil(fullest * multiple)), len(fractional)))


def device_neighbors(
    fractional: Float[Array, "node 3"],
    cell: Float[Array, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    grid: Grid,
    capacity: int,
) -> DeviceEdges:
    """All pairs within the reach; the edges of `neighbor_list` in another order, traceable.

    Nothing is checked here: an atom that is not finite has no edges.

    Args:
        fractional: coordinates, `positions = fractional @ cell`; in any image.
        cell: rows are lattice vectors [Å]; they span a volume also where nothing repeats.
        reach: [Å]; infinite for all pairs.
        periodic: which lattice vectors repeat.
        grid: from `fitting_grid`; static. Complete where it is not `narrow` and no bin overflows.
        capacity: places for edges; static.
    """
    nodes, offsets = fractional.shape[0], grid.offsets
    image = jnp.where(np.array(periodic)[None], jnp.floor(fractional), 0)
    inside = fractional - image
    at, table, places, fullest = _binned(inside, cell, periodic, grid)
    near = _near(inside @ cell, at, table, cell, reach, periodic=periodic, grid=grid)
    near = _without_itself(near, places, grid)
    flat = near.reshape(-1)
    many = jax.lax.population_count(flat).astype(jnp.int32)
    ends = jnp.cumsum(many)
    number, edge = jnp.arange(flat.shape[0], dtype=jnp.int32), jnp.arange(capacity, dtype=jnp.int32)
    word = jnp.repeat(number, many, total_repeat_length=capacity)
    receivers, rest = jnp.divmod(word, near.shape[1])
    words, wide = grid.words
    turn, part = jnp.divmod(rest, words)
    place = part * wide + _place_of_bit(flat[word], edge - (ends - many)[word])
    row, shifts = _around(at[receivers], offsets, periodic, grid, turn)
    senders = jnp.minimum(table[row, place], nodes - 1)
    shifts = shifts + (image[receivers] - image[senders]).astype(jnp.int32)
    real = edge < ends[-1]
    return DeviceEdges(
        jnp.where(real, senders, nodes),
        jnp.where(real, receivers, nodes),
        jnp.where(real[:, None], -shifts, 0),
        ends[-1],
        fullest,
    )


def _near(
    x: Float[Array, "node 3"],
    at: Int[Array, "node 3"],
    table: Int[Array, "bin place"],
    cell: Float[Array, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    grid: Grid,
) -> UInt32[Array, "node word"]:
    """Which candidates of each atom are near, in bits: words of one bin stand side by side.

    Few atoms at a time, so that distances stay in a cache; what is kept is a word for each bin.
    """
    nodes, offsets = x.shape[0], grid.offsets
    words, wide = grid.words
    table = jnp.pad(table, ((0, 0), (0, words * wide - grid.places)), constant_values=nodes)
    # far away where there is no atom; by components, so that no vector of a candidate is formed
    places = jnp.where((table < nodes)[None], x.T[:, jnp.minimum(table, nodes - 1)], jnp.inf)
    limit = jnp.asarray(reach, x.dtype) ** 2 if np.isfinite(reach) else jnp.finfo(x.dtype).max
    bits = jnp.left_shift(jnp.uint32(1), jnp.arange(wide, dtype=jnp.uint32))

    def of_some(some: Int[Array, "row"]) -> UInt32[Array, "row word"]:
        rows, shifts = _around(at[some], offsets, periodic, grid)
        moved = x[some][:, None] - shifts.astype(x.dtype) @ cell
        apart = (places[k][rows] - moved[:, :, k, None] for k in range(3))
        close = (sum(d * d for d in apart) <= limit).reshape(len(some), -1, wide)
        return jnp.where(close, bits[None, None], jnp.uint32(0)).sum(-1, dtype=jnp.uint32)

    length = min(max(CANDIDATES // (len(offsets) * words * wide), 1), nodes)
    chunks = -(-nodes // length)
    every = jnp.minimum(jnp.arange(chunks * length, dtype=jnp.int32), nodes - 1)
    found = jax.lax.map(of_some, every.reshape(chunks, length))
    return found.reshape(chunks * length, -1)[:nodes]


def _without_itself(
    near: UInt32[Array, "node word"], places: Int[Array, "node"], grid: Grid
) -> UInt32[Array, "node word"]:
    """An atom is among the candidates of its own bin, the middle one, unless that was full."""
    words, wide = grid.words
    part, bit = jnp.divmod(places, wide)
    own = jnp.arange(near.shape[0], dtype=jnp.int32), len(grid.offsets) // 2 * words + part
    bits = jnp.where(places < grid.places, jnp.uint32(1) << bit.astype(jnp.uint32), jnp.uint32(0))
    return near.at[own].set(near[own] & ~bits, mode="drop")


def _place_of_bit(word: UInt32[Array, "edge"], rank: Int[Array, "edge"]) -> Int[Array, "edge"]:
    """The place of the set bit of that rank, by halves."""
    place = jnp.zeros_like(rank)
    for half in (16, 8, 4, 2, 1):
        low = jax.lax.population_count(word & jnp.uint32((1 << half) - 1)).astype(jnp.int32)
        above = rank >= low
        place, rank = place + half * above, rank - low * above
        word = jnp.where(above, word >> jnp.uint32(half), word)
    return place


def _binned(
    inside: Float[Array, "node 3"],
    cell: Float[Array, "3 3"],
    periodic: tuple[bool, bool, bool],
    grid: Grid,
) -> tuple[Int[Array, "node 3"], Int[Array, "bin place"], Int[Array, "node"], Int[Array, ""]]:
    """The bin of each atom, the atoms of each bin, with an empty one behind the last, the place of
    each atom in its bin, and how many the fullest has."""
    nodes, bins = inside.shape[0], np.array(grid.bins, np.int32)
    scale = jnp.where(np.array(periodic), bins, heights(cell) / np.array(grid.width))
    lowest = jnp.where(jnp.isfinite(inside), inside, jnp.inf).min(0, keepdims=True)
    low = jnp.where(np.array(periodic)[None], 0, lowest)
    place = jnp.nan_to_num(jnp.floor((inside - low) * scale[None].astype(inside.dtype)))
    at = jnp.clip(place, 0, bins[None] - 1).astype(jnp.int32)
    flat = _flat(at, grid)
    order = jnp.argsort(flat).astype(jnp.int32)
    ordered = flat[order]
    first = jnp.searchsorted(ordered, jnp.arange(int(bins.prod()), dtype=jnp.int32))
    rank = jnp.arange(nodes, dtype=jnp.int32) - first.astype(jnp.int32)[ordered]
    blank = jnp.full((int(bins.prod()) + 1, grid.places), nodes, jnp.int32)
    table = blank.at[ordered, rank].set(order, mode="drop")
    return at, table, jnp.zeros_like(rank).at[order].set(rank), rank.max() + 1


def _around(
    at: Int[Array, "row 3"],
    offsets: Int[np.ndarray, "offset 3"],
    periodic: tuple[bool, bool, bool],
    grid: Grid,
    turn: Int[Array, "row"] | None = None,
) -> tuple[Int[Array, "row *offset"], Int[Array, "row *offset 3"]]:
    """The bins around those at `at`, or one of them each, and the images that they are in."""
    bins = np.array(grid.bins, np.int32)
    there = at[:, None] + offsets[None] if turn is None else at + jnp.asarray(offsets)[turn]
    bins = bins.reshape((1,) * (there.ndim - 1) + (3,))
    image = jnp.floor_divide(there, bins)
    flat = _flat(there - image * bins, grid)
    for axis in range(3):
        if not periodic[axis]:
            flat = jnp.where(image[..., axis] == 0, flat, int(bins.prod()))
    return flat, image


def _flat(at: Int[Array, "*n 3"], grid: Grid) -> Int[Array, "*n"]:
    _, b, c = grid.bins
    return (at[..., 0] * b + at[..., 1]) * c + at[..., 2]


def _three(values: np.ndarray) -> tuple[Any, Any, Any]:
    a, b, c = values.tolist()
    return a, b, c


def narrow(
    cell: Float[Array, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    grid: Grid,
) -> Bool[Array, ""]:
    """Whether a cell has become so narrow that a search with this grid misses neighbours."""
    if not any(periodic):
        return jnp.zeros((), bool)
    needed = reach * (1 + MARGIN / 2) * np.array(grid.bins) / heights(cell)
    enough = (needed < jnp.asarray(grid.range)) | jnp.asarray(~np.array(periodic))
    return jnp.logical_not(enough.all())


def heights(cell: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """The distances between opposite faces [Å]."""
    return 1 / jnp.sqrt((inverse(cell) ** 2).sum(0))


def inverse(cell: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Of three rows, by cross products; no library is called."""
    a, b, c = cell
    across = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)])
    return jax.lax.transpose(across, (1, 0)) / jnp.dot(a, across[0])
