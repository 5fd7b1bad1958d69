"""Labelled structures by name or from files, with their cards. Nothing heavy is imported."""

from geojax.datasets import formats
from geojax.datasets.acac import acac
from geojax.datasets.broken_shapes import broken_shapes
from geojax.datasets.check import Finding, Findings, check_data
from geojax.datasets.cmu_mocap import cmu_mocap
from geojax.datasets.composed_shapes import composed_shapes
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
    structure_of,
    structures_of,
)
from geojax.datasets.e0s import (
    AverageEnergies,
    average_atomrefs,
    average_energies,
    reference_energies,
)
from geojax.datasets.ethanol import ethanol
from geojax.datasets.flla import flla
from geojax.datasets.formats import LabelReport, Reading, from_ase, iread, read, to_ase, write
from geojax.datasets.furniture import furniture
from geojax.datasets.hessians import hessians
from geojax.datasets.mlearn import mlearn
from geojax.datasets.nbody import nbody
from geojax.datasets.outdoor_scans import outdoor_scans
from geojax.datasets.pairs import partial_pair, parts_of, registration_pair
from geojax.datasets.partial_overlap import partial_overlap
from geojax.datasets.perov5 import perov5
from geojax.datasets.pieces import broken_shape
from geojax.datasets.qm9 import qm9
from geojax.datasets.rmd17_ethanol import rmd17_ethanol
from geojax.datasets.summary import inspect_data
from geojax.datasets.tetris import tetris
from geojax.datasets.threebpa import threebpa
from geojax.datasets.views import views

__all__ = [
    "DATASETS",
    "AverageEnergies",
    "Dataset",
    "Finding",
    "Findings",
    "LabelReport",
    "Reading",
    "acac",
    "average_atomrefs",
    "average_energies",
    "broken_shape",
    "broken_shapes",
    "check_data",
    "cmu_mocap",
    "composed_shapes",
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
    "outdoor_scans",
    "partial_overlap",
    "partial_pair",
    "parts_of",
    "perov5",
    "qm9",
    "iread",
    "read",
    "reference_energies",
    "registration_pair",
    "rmd17_ethanol",
    "spherical_of_symmetric",
    "split",
    "structure_of",
    "structures_of",
    "symmetric_of_spherical",
    "tetris",
    "threebpa",
    "to_ase",
    "views",
    "write",
]
