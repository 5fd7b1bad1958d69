"""geojax models as a native pair style of LAMMPS: no Python in LAMMPS' process.

`convert` writes a model as a folder that the pair style reads; `build` compiles the pair style.
"""

from geojax_lammps.build import build
from geojax_lammps.convert import convert, open_model

__all__ = ["build", "convert", "open_model"]
