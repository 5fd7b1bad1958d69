"""Full neighbour lists inside compiled programs: all pairs and images of any cell, fixed capacity.

For a cell with heights h_k and a pair of fractional coordinates f, the images with
`|f_r - f_s + n|_k <= reach / h_k` hold all within the reach. Counted from the nearest image of each
axis, they are the floor(reach / h_k + 1/2) next ones on either side (`repeats`): none where the
cell is wider than twice the reach, several in a small one, where atoms are their own neighbours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = ["DeviceEdges", "device_neighbors", "heights", "inverse", "pairs", "repeats", "too_few"]

MOST = 1e8  # pairs and images; one search of more takes seconds and gigabytes


class DeviceEdges(NamedTuple):
    """`Edges` in a fixed number of places, sorted by receiver, then sender, then shift.

    Places that are left join the node after the last to itself.

    Attributes:
        senders: `[edge]`.
        receivers: `[edge]`.
        shifts: `[edge, 3]`, whole lattice vectors.
        count: how many edges there are; those beyond the places were left out.
    """

    senders: Int[Array, "edge"]
    receivers: Int[Array, "edge"]
    shifts: Int[Array, "edge 3"]
    count: Int[Array, ""]

    @property
    def overflowed(self) -> Bool[Array, ""]:
        """Whether there are more edges than places."""
        return self.count > self.senders.shape[0]


def device_neighbors(
    fractional: Float[Array, "node 3"],
    cell: Float[Array, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    images: tuple[int, int, int],
    capacity: int,
) -> DeviceEdges:
    """All pairs within the reach; the same edges as `neighbor_list`, traceable.

    Nothing is checked here: an atom that is not finite has no edges.

    Args:
        fractional: coordinates, `positions = fractional @ cell`; in any image.
        cell: rows are lattice vectors [Å]; they span a volume also where nothing repeats.
        reach: [Å].
        periodic: which lattice vectors repeat.
        images: on either side of the nearest one, from `repeats`; static.
        capacity: places for edges; static.
    """
    nodes = fractional.shape[0]
    near = _near(fractional, cell, reach, periodic, images).reshape(-1)
    found = jnp.nonzero(near, size=capacity, fill_value=nodes * _many(images) * nodes)[0]
    pair, image = jnp.divmod(found.astype(jnp.int32), _many(images))
    receivers, senders = jnp.divmod(pair, nodes)
    real = receivers < nodes
    at = lambda index: fractional[jnp.where(real, index, 0)]
    nearest = -jnp.round(at(receivers) - at(senders)) * np.array(periodic)[None]
    shifts = nearest.astype(jnp.int32) + jnp.asarray(_offsets(images))[image]
    return DeviceEdges(
        jnp.where(real, senders, nodes),
        jnp.where(real, receivers, nodes),
        jnp.where(real[:, None], shifts, 0),
        near.sum(dtype=jnp.int32),
    )


def _near(
    fractional: Array,
    cell: Array,
    reach: float,
    periodic: tuple[bool, bool, bool],
    images: tuple[int, int, int],
) -> Bool[Array, "receiver sender image"]:
    """Which images are near. Written out by components, so that no vector is ever stored."""
    offsets = _offsets(images)
    here = jnp.eye(fractional.shape[0], dtype=bool)[:, :, None]
    itself = here & jnp.asarray(~offsets.any(1))[None, None]
    along = []
    for axis in range(3):
        f = fractional[:, axis]
        difference = f[:, None] - f[None]
        if periodic[axis]:
            difference = difference - jnp.round(difference)
        along.append(difference[:, :, None] + offsets[:, axis].astype(f.dtype)[None, None])
    square = sum(sum(d * cell[j, k] for j, d in enumerate(along)) ** 2 for k in range(3))
    return (square <= reach * reach) & ~itself


def repeats(
    cell: Float[np.ndarray, "3 3"], reach: float, periodic: tuple[bool, bool, bool]
) -> tuple[int, int, int]:
    """How many images on either side of the nearest one a search needs along each axis."""
    if not any(periodic):
        return (0, 0, 0)
    wide = reach * np.linalg.norm(np.linalg.inv(cell), axis=0)
    wide = wide + 1e-4  # more than rounding makes of it on the device, see `too_few`
    counts = np.where(periodic, np.floor(wide + 0.5), 0).astype(int).tolist()
    return (counts[0], counts[1], counts[2])


def too_few(
    cell: Float[Array, "3 3"],
    reach: float,
    *,
    periodic: tuple[bool, bool, bool],
    images: tuple[int, int, int],
) -> Bool[Array, ""]:
    """Whether a cell has become so narrow that a search with these images misses some."""
    if not any(periodic):
        return jnp.zeros((), bool)
    enough = reach / heights(cell) + 0.5 < np.array(images) + 1.0
    return ~(enough | ~np.array(periodic)).all()


def pairs(nodes: int, images: tuple[int, int, int]) -> int:
    """How many images of pairs a search looks at.

    Raises:
        ValueError: too many.
    """
    count = nodes * nodes * _many(images)
    if count > MOST:
        raise ValueError(
            f"a search on the device looks at no more than {MOST:.0e} images of pairs; {nodes} "
            f"atoms with {_many(images)} images each have {count:.1e}; simulate such systems "
            "through LAMMPS or ASE"
        )
    return count


def heights(cell: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """The distances between opposite faces [Å]."""
    return 1 / jnp.sqrt((inverse(cell) ** 2).sum(0))


def inverse(cell: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Of three rows, by cross products; no library is called."""
    a, b, c = cell
    across = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)])
    return jax.lax.transpose(across, (1, 0)) / jnp.dot(a, across[0])


def _many(images: tuple[int, int, int]) -> int:
    return int(np.prod([2 * n + 1 for n in images]))


def _offsets(images: tuple[int, int, int]) -> Int[np.ndarray, "image 3"]:
    axes = [np.arange(-n, n + 1) for n in images]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
