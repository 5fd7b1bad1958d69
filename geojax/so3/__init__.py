"""The rotation group: harmonics, coupling tensors, Wigner matrices, the layout of features."""

from geojax.so3.coupling import Parity, Path, clebsch_gordan, paths
from geojax.so3.features import (
    degree,
    degrees,
    expand_by_degree,
    from_irreps,
    slices,
    to_irreps,
)
from geojax.so3.harmonics import harmonics
from geojax.so3.rotation import random_rotation, rotate, wigner_d

__all__ = [
    "Parity",
    "Path",
    "clebsch_gordan",
    "degree",
    "degrees",
    "expand_by_degree",
    "from_irreps",
    "harmonics",
    "paths",
    "random_rotation",
    "rotate",
    "slices",
    "to_irreps",
    "wigner_d",
]
