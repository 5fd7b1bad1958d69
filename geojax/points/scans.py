"""Two scans of one scene, registered: the classical chain, compiled.

Both are thinned to voxels; normals come from the planes through neighbours, descriptors are FPFH
(or those that a network learned, see `inference.register`), mutual nearest descriptors are matches,
RANSAC finds the pose that most of them agree on, and ICP from points to planes makes it exact. All
lengths are multiples of the voxel: normals see 2 voxels far, descriptors 5, matches agree within
1.5, and ICP looks for partners within 1.

References:
    Rusu, Blodow, Beetz, "Fast point feature histograms (FPFH) for 3D registration", ICRA 2009,
    https://doi.org/10.1109/ROBOT.2009.5152473. Zhou, Park, Koltun, "Open3D: a modern library for 3D
    data processing", https://arxiv.org/abs/1801.09847 (the chain and its lengths in voxels).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from geojax.points.closest_points import icp_to_plane
from geojax.points.fpfh import fpfh
from geojax.points.matching import mutual_nearest
from geojax.points.normals import estimate_normals
from geojax.points.procrustes import Pose, move
from geojax.points.registration import ransac
from geojax.points.sampling import voxel_mean, voxels
from geojax.points.search import nearest, within

__all__ = ["Alignment", "Registered", "Scan", "describe_scan", "register", "register_scans"]

NORMAL, FEATURE, INLIER, CLOSEST = 2.0, 5.0, 1.5, 1.0  # radii in voxels
NORMAL_POINTS, FEATURE_POINTS = 30, 99  # neighbours at most
SLOTS = 256  # voxels are a multiple of these, so that scans of about one size share a program


class Scan(NamedTuple):
    """A scan as it is registered, with slots for the points.

    Attributes:
        positions: the mean of each occupied voxel.
        normals: unit vectors, towards the viewpoint.
        features: FPFH, or other descriptors.
        mask: which slots hold a point with a normal.
        overflow: whether there were more occupied voxels than slots; these are left out.
    """

    positions: Float[Array, "slot 3"]
    normals: Float[Array, "slot 3"]
    features: Float[Array, "slot channel"]
    mask: Bool[Array, "slot"]
    overflow: Bool[Array, ""]


class Alignment(NamedTuple):
    """The pose that takes one scan onto another, and what speaks for it.

    Attributes:
        pose: x -> R x + t, from the source to the target.
        fitness: the share of the source's voxels with a voxel of the target within one voxel.
        rmse: of their distances, in the unit of the positions.
        matches: mutual nearest descriptors.
        agreement: the share of the matches that the coarse pose agrees with.
    """

    pose: Pose
    fitness: Float[Array, ""]
    rmse: Float[Array, ""]
    matches: Array
    agreement: Float[Array, ""]


class Registered(NamedTuple):
    """An alignment on the host.

    Attributes:
        matrix: homogeneous, float64: R and t of x -> R x + t, from the source to the target.
        fitness, rmse, matches, agreement: see `Alignment`.
    """

    matrix: Float[np.ndarray, "4 4"]
    fitness: float
    rmse: float
    matches: int
    agreement: float


@partial(jax.jit, static_argnames=("voxel", "slots"))
def describe_scan(
    positions: Float[Array, "point 3"],
    mask: Bool[Array, "point"] | None = None,
    *,
    voxel: float,
    slots: int,
    viewpoint: Float[Array, "3"] | None = None,
    normals: Float[Array, "point 3"] | None = None,
) -> Scan:
    """Thin a scan, and find normals and descriptors.

    Args:
        positions: of the points; near the origin, for the sake of float32.
        mask: which of them are real.
        voxel: the edge of voxels, in the unit of the positions.
        slots: for occupied voxels.
        viewpoint: where the scan was taken from, for the side of normals; see `estimate_normals`.
        normals: of the points, where they are known: their mean in a voxel tells its side.
    """
    cells = voxels(positions, mask, size=voxel, count=slots)
    x, real = voxel_mean(positions, cells), cells.mask
    near = partial(within, x, x, real, query_mask=real)
    around = near(radius=NORMAL * voxel, k=NORMAL_POINTS)
    sides = None if normals is None else voxel_mean(normals, cells)
    found = estimate_normals(x, around, real, viewpoint=viewpoint, sides=sides)
    around = near(radius=FEATURE * voxel, k=FEATURE_POINTS, exclude_self=True)
    features = fpfh(x, found.normals, around)
    return Scan(x, found.normals, features, real & found.mask, cells.overflow)


@partial(jax.jit, static_argnames=("voxel", "hypotheses", "draws", "iterations"))
def register_scans(
    key: Key[Array, ""],
    source: Scan,
    target: Scan,
    *,
    voxel: float,
    hypotheses: int = 1024,
    draws: int | None = None,
    iterations: int = 20,
) -> Alignment:
    """The pose of scans that were described with the same voxel.

    Args:
        key: of RANSAC's draws.
        source, target: what is moved, and where to.
        voxel: as of `describe_scan`.
        hypotheses, draws: of RANSAC, see there.
        iterations: of ICP.
    """
    match = mutual_nearest(source.features, target.features, source.mask, target.mask)
    pairs = source.positions[match.source], target.positions[match.target]
    tried = {"hypotheses": hypotheses, "draws": draws}
    coarse = ransac(key, *pairs, match.mask, radius=INLIER * voxel, **tried)
    fine = icp_to_plane(
        coarse.pose,
        source.positions,
        target.positions,
        target.normals,
        source.mask,
        target.mask,
        radius=CLOSEST * voxel,
        iterations=iterations,
    )
    moved = move(fine.pose, source.positions)
    gap = nearest(moved, target.positions, target.mask, k=1, query_mask=source.mask).distance[:, 0]
    close = source.mask & (gap <= CLOSEST * voxel)
    share = lambda part, whole: jnp.sum(part) / jnp.maximum(jnp.sum(whole), 1)
    return Alignment(
        fine.pose,
        share(close, source.mask),
        jnp.sqrt(share(jnp.where(close, jnp.square(gap), 0), close)),
        jnp.sum(match.mask),
        share(coarse.inliers, match.mask),
    )


def register(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "m 3"],
    *,
    voxel: float,
    source_viewpoint: Float[np.ndarray, "3"] | None = None,
    target_viewpoint: Float[np.ndarray, "3"] | None = None,
    source_normals: Float[np.ndarray, "_ 3"] | None = None,
    target_normals: Float[np.ndarray, "_ 3"] | None = None,
    seed: int = 0,
    hypotheses: int = 1024,
    draws: int | None = None,
    iterations: int = 20,
    describe: Callable[[Scan, Scan], Sequence[Array]] | None = None,
) -> Registered:
    """The pose of two scans on the host, of any size and however far from the origin.

    Scans of a scene share half of it or more; a `fitness` far below their overlap, or one that
    changes with the seed, means that the pose is wrong.

    Args:
        source, target: what is moved, and where to.
        voxel: a few times the distance between points; smaller than what tells places apart.
        source_viewpoint, target_viewpoint: where each was taken from, in its own coordinates;
            without it normals point away from the middle, which suits objects seen all around.
        source_normals, target_normals: of the points, where they are known; in the place of a
            viewpoint, for the sides of the normals of voxels.
        seed: of the draws.
        hypotheses, draws, iterations: see `register_scans`; many draws, such as 100,000, find the
            pose where few matches are right.
        describe: gives descriptors `[slot, channel]` of both scans in the place of FPFH.

    Raises:
        ValueError: the voxel is not positive, points are not finite, a cloud has both normals and a
            viewpoint, or there are fewer than three matches that agree, so that there is no pose.
    """
    clouds = [_checked(x) for x in (source, target)]
    centres = [x.mean(0) for x in clouds]
    clouds = [x - c for x, c in zip(clouds, centres, strict=True)]
    slots = [-(-_occupied(x, voxel) // SLOTS) * SLOTS for x in clouds]
    views = [
        None if view is None else jnp.asarray(np.asarray(view, np.float64) - centre, jnp.float32)
        for view, centre in zip((source_viewpoint, target_viewpoint), centres, strict=True)
    ]
    normals = [
        None if given is None else _padded(_of_points(given, x))
        for given, x in zip((source_normals, target_normals), clouds, strict=True)
    ]
    scans = []
    for x, view, sides, count in zip(clouds, views, normals, slots, strict=True):
        padded = _padded(x)
        real = jnp.arange(len(padded)) < len(x)
        side = {"viewpoint": view, "normals": sides}
        scans.append(describe_scan(padded, real, voxel=voxel, slots=count, **side))
    if describe is not None:
        both = zip(scans, describe(*scans), strict=True)
        scans = [scan._replace(features=features) for scan, features in both]
    options = {"hypotheses": hypotheses, "draws": draws, "iterations": iterations}
    found = jax.device_get(register_scans(jax.random.key(seed), *scans, voxel=voxel, **options))
    agreeing = round(float(found.matches * found.agreement))
    if agreeing < 3:
        raise ValueError(
            f"a pose needs three matches that agree; of {int(found.matches)} there are {agreeing}; "
            f"try another voxel than {voxel}"
        )
    matrix = np.eye(4)
    matrix[:3, :3] = found.pose.rotation
    matrix[:3, 3] = found.pose.translation + centres[1] - matrix[:3, :3] @ centres[0]
    figures = float(found.fitness), float(found.rmse)
    return Registered(matrix, *figures, int(found.matches), float(found.agreement))


def _checked(cloud: np.ndarray) -> np.ndarray:
    x = np.asarray(cloud, np.float64)
    if x.ndim != 2 or x.shape[1] != 3 or len(x) < 3 or not np.isfinite(x).all():
        raise ValueError(
            f"a scan has three finite points or more; got shape {list(np.shape(cloud))}"
            f"{'' if np.isfinite(x).all() else ' with numbers that are not finite'}"
        )
    return x


def _of_points(normals: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The known normals of a cloud; zero where they are not known."""
    given = np.asarray(normals, np.float64)
    if given.shape != x.shape:
        raise ValueError(
            f"normals are one for each point; got shape {list(given.shape)} for {len(x)} points"
        )
    return np.where(np.isfinite(given).all(-1, keepdims=True), given, 0)


def _padded(x: np.ndarray) -> Float[Array, "slot 3"]:
    """With rows of zeros behind, up to a multiple of `SLOTS`."""
    padded = np.zeros((-(-len(x) // SLOTS) * SLOTS, 3), np.float32)
    padded[: len(x)] = x
    return jnp.asarray(padded)


def _occupied(x: np.ndarray, voxel: float) -> int:
    """How many voxels hold a point, and some more for those that rounding moves."""
    if not voxel > 0:
        raise ValueError(f"voxels have a positive edge; got {voxel}")
    cells = np.floor((x - x.min(0)) / voxel).astype(np.int64)
    return len(np.unique(cells, axis=0)) * 101 // 100 + 8
