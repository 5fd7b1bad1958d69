"""The bundled set: its frames, its splits by run, and the agreement of its files."""

import shutil

import pytest

from geojax.assets import folder
from geojax.datasets import Dataset, ethanol
from geojax.datasets import ethanol as loader
from tests.datasets.molecules import check_molecule, counts, geometries
