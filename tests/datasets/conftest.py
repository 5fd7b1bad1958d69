"""Public data sets, each loaded once."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from geojax.datasets import Dataset, load

FOLDERS = {
    "cmu-mocap": "cmu_mocap_walk",
    "nbody": "nbody_charged",
    "furniture": "shapes_furniture",
    "flla": "flla_formation_energy",
    "perov5": "perov5_carbon24",
    "outdoor-scans": "pointclouds",
}


@pytest.fixture(scope="session")
def real(dataset_folder: Path) -> Callable[..., Dataset]:
    """`load`, which skips the test where the files are not on this machine."""

    @functools.cache
    def loaded(name: str, **options) -> Dataset:
        folder = dataset_folder / FOLDERS.get(name, name.replace("-", "_"))
        if not folder.is_dir():
            pytest.skip(f"the data set {name} is not here: there is no {folder}")
        return load(name, **options)

    return loaded
