"""Furniture: point clouds of free 3-D models in 14 classes, for classification under rotations."""

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder
from geojax.graphs import Properties, Structure

__all__ = ["furniture"]

CARD = {
    "description": "Surface samples of furniture and household models with normals, 14 classes; "
    "farthest point at radius 1, upright axis +y",
    "licence": "CC BY 3.0, CC BY 3.0 US, CC0 (library and creator of each shape are in its info)",
    "source": "Debian package sweethome3d-furniture 1.8-1",
    "citation": "Sweet Home 3D furniture libraries (KatorLegaz, BlendSwap, Reallusion, Scopia)",
    "units": {"length": "radius of the shape"},
    "published": "none; a random forest on rotation-invariant histograms reaches 52.6 % on a test "
    "set of 164 other shapes, the majority class 13.4 %",
}


@DATASETS.register("furniture")
def furniture(n_points: int = 1024, valid: float = 0.2, seed: int = 0) -> Dataset:
    """Bare points (species 0) with the input `normals` [node, 3] (up to sign).

    Two more inputs are invariants that say where in the shape a point is, which neighbours do not
    tell: `radius` [node], its distance from the mean of the points, and `tilt` [node], the size of
    that vector's component along the normal.

    The label is `targets.label`, 0 to 13; the names are in `card["classes"]`. `valid` of each class
    is held out; shapes whose names differ in a number only stay together. Clouds are upright:
    rotations are a matter of the protocol.

    Args:
        n_points: of the 2048 points of each cloud, chosen at random once.
        valid: the fraction of each class.
        seed: of both choices.

    Raises:
        ValueError: `n_points` or `valid` is out of range.
    """
    if not 0 < n_points <= 2048:
        raise ValueError(f"a cloud has 1 to 2048 points; got n_points={n_points}")
    if not 0 <= valid < 1:
        raise ValueError(f"valid is the fraction of each class, from 0 to below 1; got {valid}")
    place = folder("shapes_furniture")
    whole = place / "furniture_2048.npz"  # also holds the test shapes
    path = whole if whole.exists() else place / "furniture_2048_train.npz"
    with np.load(existing(path, "it comes with the data set"), allow_pickle=False) as file:
        found = {key: file[key] for key in file.files}
    shapes = _structures(found, n_points, seed)
    for_test = found["split"] == 1
    held = _held_out(found, ~for_test, valid, seed)
    pick = lambda mask: tuple(shapes[i] for i in np.flatnonzero(mask))
    card = CARD | {"classes": [str(name) for name in found["classes"]]}
    return Dataset(
        "furniture", pick(~for_test & ~held), pick(held & ~for_test), pick(for_test), card
    )


def _structures(found: Mapping[str, np.ndarray], n_points: int, seed: int) -> list[Structure]:
    rng = np.random.default_rng(seed)
    count, size = found["points"].shape[:2]
    chosen = np.array([np.sort(rng.choice(size, n_points, replace=False)) for _ in range(count)])
    points = np.take_along_axis(found["points"], chosen[..., None], 1).astype(np.float32)
    normals = np.take_along_axis(found["normals_int8"], chosen[..., None], 1).astype(np.float32)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = normals / np.where(length > 0, length, 1)
    arms = points - points.mean(1, keepdims=True)
    radius, tilt = np.linalg.norm(arms, axis=-1), np.abs((arms * normals).sum(-1))
    return [
        Structure(
            points[i],
            np.zeros(n_points, np.int32),
            inputs={"normals": normals[i], "radius": radius[i], "tilt": tilt[i]},
            properties=Properties(targets={"label": np.int32(found["label"][i])}),
            info={key: str(found[key][i]) for key in ("name", "library", "creator")},
        )
        for i in range(count)
    ]


def _held_out(
    found: Mapping[str, np.ndarray], candidates: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """A mask of about `fraction` of each class; groups of one base name are not torn apart."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(candidates), bool)
    for label in range(len(found["classes"])):
        groups = defaultdict(list)
        members = np.flatnonzero(candidates & (found["label"] == label))
        for i in members:
            groups[re.sub(r"[\d\W]+", " ", str(found["name"][i]).lower()).strip()].append(i)
        wanted = round(fraction * len(members))
        for name in rng.permutation(sorted(groups)):
            if held[members].sum() + len(groups[name]) <= wanted:
                held[groups[name]] = True
    return held
