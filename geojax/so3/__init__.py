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
from geojax.so3.harmonics import harmonics, harmonics_table
from geojax.so3.rotation import random_rotation, rotate, wigner_d
from geojax.so3.sphere import Quadrature, bracket_weight, gaunt_weight, hemisphere, sphere

__all__ = [
    "Parity",
    "Path",
    "Quadrature",
    "bracket_weight",
    "clebsch_gordan",
    "degree",
    "degrees",
    "expand_by_degree",
    "from_irreps",
    "gaunt_weight",
    "harmonics",
    "harmonics_table",
    "hemisphere",
    "paths",
    "random_rotation",
    "rotate",
    "slices",
    "sphere",
    "to_irreps",
    "wigner_d",
]
