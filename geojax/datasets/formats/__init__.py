"""The only file input and output of structures, and the border to ASE."""

from geojax.datasets.formats.atoms import from_ase, to_ase
from geojax.datasets.formats.files import Reading, append, classes_of, iread, read, write
from geojax.datasets.formats.paths import Source, is_pattern
from geojax.datasets.formats.report import LabelReport

__all__ = [
    "LabelReport",
    "Reading",
    "Source",
    "append",
    "classes_of",
    "from_ase",
    "iread",
    "is_pattern",
    "read",
    "to_ase",
    "write",
]
