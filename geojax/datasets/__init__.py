"""Labelled structures by name or from files, with their cards. Nothing heavy is imported."""

from geojax.datasets import formats
from geojax.datasets.acac import acac
from geojax.datasets.crystal_tensors import (
    crystal_tensors,
    spherical_of_symmetric,
    symmetric_of_spherical,
)
from geojax.datasets.dataset import (
    DATASETS,
    Dataset,
    fingerprint,
    folder,
    from_files,
    load,
    split,
)
from geojax.datasets.e0s import AverageEnergies, average_energies, reference_energies
from geojax.datasets.ethanol import ethanol
from geojax.datasets.flla import flla
from geojax.datasets.formats import LabelReport, Reading, from_ase, read, to_ase, write
from geojax.datasets.furniture import furniture
from geojax.datasets.hessians import hessians
from geojax.datasets.mlearn import mlearn
from geojax.datasets.nbody import nbody
from geojax.datasets.perov5 import perov5
from geojax.datasets.qm9 import qm9
from geojax.datasets.rmd17_ethanol import rmd17_ethanol
from geojax.datasets.summary import inspect_data
from geojax.datasets.tetris import tetris
from geojax.datasets.threebpa import threebpa

__all__ = [
    "DATASETS",
    "AverageEnergies",
    "Dataset",
    "LabelReport",
    "Reading",
    "acac",
    "average_energies",
    "crystal_tensors",
    "ethanol",
    "fingerprint",
    "flla",
    "folder",
    "formats",
    "from_ase",
    "from_files",
    "furniture",
    "hessians",
    "inspect_data",
    "load",
    "mlearn",
    "nbody",
    "perov5",
    "qm9",
    "read",
    "reference_energies",
    "rmd17_ethanol",
    "spherical_of_symmetric",
    "split",
    "symmetric_of_spherical",
    "tetris",
    "threebpa",
    "to_ase",
    "write",
]
