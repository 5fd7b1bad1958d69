"""Labelled structures by name or from files, with their cards. Nothing heavy is imported."""

from geojax.datasets import formats
from geojax.datasets.acac import acac
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
from geojax.datasets.formats import LabelReport, Reading, from_ase, read, to_ase, write
from geojax.datasets.furniture import furniture
from geojax.datasets.mlearn import mlearn
from geojax.datasets.nbody import nbody
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
    "ethanol",
    "fingerprint",
    "folder",
    "formats",
    "from_ase",
    "from_files",
    "furniture",
    "inspect_data",
    "load",
    "mlearn",
    "nbody",
    "qm9",
    "read",
    "reference_energies",
    "rmd17_ethanol",
    "split",
    "tetris",
    "threebpa",
    "to_ase",
    "write",
]
