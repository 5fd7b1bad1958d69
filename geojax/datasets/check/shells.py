"""Distances to the nearest atoms, images counted, whatever the unit of length.

Faulty data are what this looks at: atoms at one place and lengths in pm have to come through, which
`graphs.neighbor_list` refuses.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from geojax.graphs import Structure
from geojax.graphs.neighbors import cell_heights

__all__ = ["nearest"]

MOST_IMAGES = 3000  # of the cell
FULL = 1.3  # of the radius of a sphere with enough atoms at the mean density


def nearest(
    structure: Structure, count: int
) -> tuple[Float[np.ndarray, "node near"], Int[np.ndarray, "node near"]]:
    """Distances to the `count` nearest other atoms, in rising order, and their indices.

    Infinite, with the atom's own index, where there are fewer.
    """
    x = structure.positions.astype(np.float64)
    shifts = _shifts(structure, count)
    cloud = x if shifts is None else (x[None] + shifts[:, None]).reshape(-1, 3)
    own = np.arange(len(x))
    found = KDTree(cloud).query(x, k=count + 1)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    # An atom finds itself; of two at one place either may come first.
    itself = index == own[:, None]
    itself[~itself.any(axis=1), -1] = True
    keep = ~itself
    shape = (len(x), count)
    distance, index = distance[keep].reshape(shape), index[keep].reshape(shape)
    return distance, np.where(np.isfinite(distance), index % len(x), own[:, None])


def _shifts(structure: Structure, count: int) -> np.ndarray | None:
    """Of the images to look at, none first; None without a lattice."""
    if structure.cell is None or not any(structure.pbc):
        return None
    cell = structure.cell.astype(np.float64)
    heights = cell_heights(cell)
    reach = FULL * ((count + 8) * structure.volume / len(structure) * 3 / (4 * np.pi)) ** (1 / 3)
    repeats = np.where(structure.pbc, np.ceil(reach / heights), 0).astype(int)
    while np.prod(2 * repeats + 1) > MOST_IMAGES:
        repeats = np.where(repeats > 1, repeats - 1, repeats)
        if repeats.max() <= 1:
            break
    grid = np.meshgrid(*(np.arange(-n, n + 1) for n in repeats), indexing="ij")
    whole = np.stack(grid, -1).reshape(-1, 3)
    whole = whole[np.argsort(np.abs(whole).sum(1), kind="stable")]
    return whole @ cell
