"""The same crystal, moved by each engine of dynamics: positions after steps at constant energy."""

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

import geojax  # before jax, whose messages it sets
from geojax.datasets import from_ase
from geojax.simulation import (
    LammpsModel,
    jax_md_potential,
    open_lammps,
    openmm_system,
    run_jax_md,
    serve_ipi,
)
from geojax.units import FEMTOSECOND

KELVIN, SEED = 300.0, 0


def crystal(repeats: int, seed: int = SEED, kelvin: float = KELVIN) -> Atoms:
    """Silicon with thermal velocities and no momentum."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeats, repeats, repeats)
    MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=np.random.default_rng(seed))
    Stationary(atoms)
    return atoms


def dynamics(model: Any, atoms: Atoms, dt: float, steps: int, every: int) -> tuple[Any, Any]:
    """Positions and momenta after each so many steps at constant energy, from those of ASE."""
    from jax_md import simulate

    potential = jax_md_potential(model, atoms, skin=0.4)
    init, step = simulate.nve(potential.energy_fn, potential.shift_fn, dt * FEMTOSECOND)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    key = jax.random.PRNGKey(0)
    state = init(key, potential.position, 0.0, mass=potential.mass, neighbor=neighbor)
    state = state.set(momentum=jax.numpy.asarray(atoms.get_momenta()))
    look = lambda state: (state.position, state.momentum)
    run = run_jax_md(potential, step, state, steps=steps, every=every, observe=look)
    return run.frames


def by_ase(model: Any, atoms: Atoms, dt: float, steps: int) -> np.ndarray:
    atoms.calc = geojax.calculator(model)
    VelocityVerlet(atoms, dt * units.fs, logfile=None).run(steps)
    return atoms.positions


def by_jax_md(model: Any, atoms: Atoms, dt: float, steps: int) -> np.ndarray:
    return dynamics(model, atoms, dt, steps, steps)[0][-1]


def by_openmm(model: Any, atoms: Atoms, dt: float, steps: int) -> np.ndarray:
    import openmm

    ready = openmm_system(atoms, model)
    verlet = openmm.CustomIntegrator(dt * 1e-3)
    verlet.addUpdateContextState()
    verlet.addComputePerDof("v", "v + 0.5 * dt * f / m")
    verlet.addComputePerDof("x", "x + dt * v")
    verlet.addComputePerDof("v", "v + 0.5 * dt * f / m")
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(ready.system, verlet, platform)
    context.setPositions(ready.positions)
    # Å/ps from ASE's Å/sqrt(amu/eV); OpenMM's in nm/ps
    velocities = 100 * units.fs * atoms.get_velocities() @ ready.rotation.T
    context.setVelocities(velocities)
    verlet.step(steps)
    x = context.getState(positions=True).getPositions(asNumpy=True)  # [nm]
    return 10 * np.asarray(x._value) @ ready.rotation


def by_lammps(model: Any, atoms: Atoms, dt: float, steps: int) -> np.ndarray:
    lammps = open_lammps("-log", "none", "-screen", "none")
    side = atoms.cell.lengths()[0]
    lammps.commands_string(f"""
        units metal
        atom_modify map array
        region box block 0 {side!s} 0 {side!s} 0 {side!s}
        create_box 1 box
        mass 1 {float(atoms.get_masses()[0])!r}
        pair_style zero 1.0 nocoeff
        pair_coeff * *
        timestep {dt * 1e-3}
    """)
    speed = 1e3 * units.fs * atoms.get_velocities()  # Å/ps
    lammps.create_atoms(
        len(atoms),
        list(range(1, len(atoms) + 1)),
        [1] * len(atoms),
        atoms.positions.ravel().tolist(),
        speed.ravel().tolist(),
    )
    lammps.command("fix move all nve")
    LammpsModel(model, ["Si"]).attach(lammps).run(steps)
    x = np.array(lammps.gather_atoms("x", 1, 3)).reshape(-1, 3)
    lammps.close()
    return x


IPI = """
<simulation verbosity='low' floatformat='%24.16e'>
  <output prefix='run'>
    <properties filename='out' stride='{steps}'> [{columns}] </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <ffsocket name='model' mode='unix' pbc='False'>
    <address>{address}</address> <latency>1e-4</latency>
    <exit_on_disconnect>True</exit_on_disconnect>
  </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'>start.xyz</file>
      <masses mode='manual'>[{masses}]</masses>
      <velocities mode='manual'>[{velocities}]</velocities>
    </initialize>
    <forces><force forcefield='model'/></forces>
    <motion mode='dynamics'>
      <fixcom>False</fixcom>
      <dynamics mode='nve'> <timestep>{step}</timestep> </dynamics>
    </motion>
    <ensemble><temperature>1</temperature></ensemble>
  </system>
</simulation>
"""


def by_ipi(model: Any, atoms: Atoms, dt: float, steps: int) -> np.ndarray:
    """A server in a process of its own, in atomic units."""
    joined = lambda array: ", ".join(f"{x:.17g}" for x in np.ravel(array))
    name = f"geojax_{uuid.uuid4().hex}"
    cell = " ".join(f"{x:.17g}" for x in np.ravel(atoms.cell.array.T / units.Bohr))
    rows = [" ".join(f"{x:.17g}" for x in row) for row in atoms.positions / units.Bohr]
    start = [str(len(atoms)), f"# CELL(H): {cell} positions{{atomic_unit}} cell{{atomic_unit}}"]
    start += [f"{symbol} {row}" for symbol, row in zip(atoms.symbols, rows, strict=True)]
    text = IPI.format(
        address=name,
        steps=steps,
        step=f"{dt * units.fs:.17g}",  # ASE's time, by a unit of mass that makes it atomic time
        masses=joined(atoms.get_masses() * units.Bohr**2 / units.Ha),
        velocities=joined(atoms.get_velocities() / units.Bohr),
        columns=", ".join(f"atom_x(atom={i})" for i in range(len(atoms))),
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "input.xml").write_text(text)
        (Path(folder) / "start.xyz").write_text("\n".join(start) + "\n")
        command = [sys.executable, str(Path(sys.executable).with_name("i-pi")), "input.xml"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet) as server:
            try:
                serve_ipi(model, from_ase(atoms, labels=False), unix=name, wait=60.0)
                server.wait(60)
            finally:
                server.kill()
        return np.loadtxt(Path(folder) / "run.out")[-1].reshape(-1, 3) * units.Bohr


# (model, atoms with velocities, timestep [fs], steps) -> positions [Å]
ENGINES: dict[str, Callable[[Any, Atoms, float, int], np.ndarray]] = {
    "jax-md": by_jax_md,
    "openmm": by_openmm,
    "lammps": by_lammps,
    "i-pi": by_ipi,
}
