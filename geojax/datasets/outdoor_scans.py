"""Outdoor scans: a pair of laser scans of one place, with the pose between them."""

import csv
from pathlib import Path

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder
from geojax.datasets.formats import Reading, read
from geojax.datasets.pairs import registration_pair
from geojax.graphs import Structure

__all__ = ["outdoor_scans"]

CARD = {
    "description": "Two outdoor laser scans, 24989 and 25193 points, and the pose from the second "
    "to the first",
    "licence": "BSD-3-Clause (norlab-ulaval/libpointmatcher, c44ce315f293)",
    "source": "libpointmatcher: car_cloud400, car_cloud401, carCloudList",
    "citation": "Pomerleau, Colas, Siegwart, Magnenat, Autonomous Robots 2013",
    "units": {"length": "m", "translation": "m"},
    "published": "none; the median distance from a point of the second scan to the nearest of the "
    "first is 0.47 m before and 0.085 m after",
}
SCANS = ("car_cloud401.csv", "car_cloud400.csv")  # source, target


@DATASETS.register("outdoor-scans")
def outdoor_scans(n_points: int | None = None, seed: int = 0) -> Dataset:
    """One registration pair (see `datasets.pairs`), the same in train and test.

    It is there to measure methods by: nothing can be learned of one pair. Other scans that come
    with these have no pose and are left aside. The printed matrix has six digits; the rotation is
    the nearest to it.

    Args:
        n_points: so many points of each scan, chosen at random; all if None.
        seed: of the choice.

    Raises:
        ValueError: `n_points` is not between 1 and 24989.
    """
    place = folder("pointclouds") / "libpointmatcher"
    why = "it comes with libpointmatcher"
    readings = [read(existing(place / f"{name}.gz", why)) for name in SCANS]
    rng = np.random.default_rng(seed)
    source, target = (_chosen(reading, n_points, rng) for reading in readings)
    rotation, translation = _pose(existing(place / "carCloudList.csv", why))
    info = {"scans": " to ".join(SCANS)}
    pair = (registration_pair(source, target, rotation, translation, info=info),)
    reports = tuple(reading.report for reading in readings)
    return Dataset("outdoor-scans", pair, test=pair, card=CARD, reports=reports)


def _chosen(reading: Reading, n_points: int | None, rng: np.random.Generator) -> Structure:
    (scan,) = reading.structures
    if n_points is None:
        return scan
    if not 0 < n_points <= len(scan):
        raise ValueError(f"n_points is 1 to {len(scan)}, as many as the scan has; got {n_points}")
    return scan.take(np.sort(rng.permutation(len(scan))[:n_points]))


def _pose(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """From the frame of the source to that of the target; the file's poses are to one frame."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream, skipinitialspace=True))[1:]
    poses = {row[0]: np.array(row[1:17], np.float64).reshape(4, 4) for row in rows}
    matrix = np.linalg.inv(poses[SCANS[1]]) @ poses[SCANS[0]]
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return left @ right, matrix[:3, 3]
