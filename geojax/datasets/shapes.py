"""What a recipe makes of the clouds of a data set, or of a file of one's own."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geojax.datasets.dataset import DATASETS, is_file, load
from geojax.datasets.formats import read
from geojax.datasets.formats.meshes import MESHES
from geojax.graphs import Structure

__all__ = ["recast", "shapes"]

PARTS = ("train", "valid", "test")


def shapes(source: str, n_points: int, seed: int = 0) -> dict[str, tuple[Structure, ...]]:
    """Clouds for training, validation and testing.

    The clouds of a file are in the first two parts: what is made of them is new in each.

    Args:
        source: the name of a data set of clouds, or a file (see `formats.read`).
        n_points: how many points of a cloud a data set is asked for, or are sampled on a mesh.
        seed: of both.

    Raises:
        ValueError: these are atoms.
        KeyError, FileNotFoundError: as `load` and `read`.
    """
    if source in DATASETS or not is_file(source):
        known = inspect.signature(DATASETS[source]).parameters
        options = {"n_points": n_points, "seed": seed}
        data = load(source, **{name: options[name] for name in options if name in known})
        found = {part: getattr(data, part) for part in PARTS}
    else:
        mesh = Path(source).name.lower().removesuffix(".gz").endswith(MESHES)
        clouds = read(source, points=n_points if mesh else None, seed=seed).structures
        found = {"train": clouds, "valid": clouds, "test": ()}
    if any(cloud.species.any() for clouds in found.values() for cloud in clouds):
        raise ValueError(f"a recipe starts from clouds of points; {source!r} holds atoms")
    return found


def recast(
    recipe: Callable[[Structure, np.random.Generator], Structure],
    source: str,
    copies: int,
    n_points: int,
    seed: int,
) -> dict[str, tuple[Structure, ...]]:
    """All `shapes` put through a recipe, with random numbers of each copy's own.

    Raises:
        ValueError: `copies` is not positive; as `shapes` and the recipe.
    """
    if copies < 1:
        raise ValueError(f"each shape gives one copy or more; got copies={copies}")
    return {
        part: tuple(
            recipe(shape, np.random.default_rng([seed, i, j, k]))
            for j, shape in enumerate(clouds)
            for k in range(copies)
        )
        for i, (part, clouds) in enumerate(shapes(source, n_points, seed).items())
    }
