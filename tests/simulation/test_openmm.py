"""OpenMM moves atoms as ASE does, with the energies and forces of ASE's calculator."""

import ase.units
import jax
import numpy as np
import pytest
import scipy.constants
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from geojax.inference import calculator
from geojax.model import Model
from geojax.simulation.openmm import PICOSECOND, openmm_force, openmm_system, reduced
from tests.inference.conftest import CELL
from tests.inference.test_elasticity import Mixed, springs

openmm = pytest.importorskip("openmm", reason="an extra of its own: pip install 'geojax[openmm]'")

# From the constants of scipy, not those of geojax
EV = scipy.constants.e * scipy.constants.N_A / 1000  # [kJ/mol]
PLATFORMS = {"Reference": 1e-10, "CPU": 1e-6}


class Wide(Mixed):
    cutoff = 3.0


class Broken(Wide):
    """Forces that are no numbers once two atoms are closer than 0.9 Å."""

    def apply(self, params, graph):
        from geojax.graphs import edge_vectors

        energies = super().apply(params, graph)
        square = (edge_vectors(graph) ** 2).sum(1)
        near = ((square < 0.81) & (square > 0)).any()
        return energies * (1 / (1 - 1.0 * near))


def free() -> Atoms:
    rng = np.random.default_rng(1)
    atoms = Atoms("SiOSiOO", rng.uniform(0, 3.2, (5, 3)))
    thermalize_momenta(atoms, temperature_K=300, rng=rng)
    return atoms


def crystal() -> Atoms:
    """Triclinic, atoms of it outside of the cell, which is far from OpenMM's form."""
    rng = np.random.default_rng(0)
    cell = CELL + np.array([[0, 0, 0], 2 * CELL[0], -CELL[0] + CELL[1]])
    atoms = Atoms("SiOSiO", rng.uniform(-0.5, 1.5, (4, 3)) @ cell, cell=cell, pbc=True)
    thermalize_momenta(atoms, temperature_K=300, rng=rng)
    return atoms


def verlet(step: float):
    """Velocity Verlet, which OpenMM has as a recipe."""
    integrator = openmm.CustomIntegrator(step)
    integrator.addUpdateContextState()
    integrator.addComputePerDof("v", "v + 0.5 * dt * f / m")
    integrator.addComputePerDof("x", "x + dt * v")
    integrator.addComputePerDof("v", "v + 0.5 * dt * f / m")
    return integrator


def context(system, positions, platform="Reference", step=0.001, velocities=None):
    platform = openmm.Platform.getPlatformByName(platform)
    made = openmm.Context(system, verlet(step), platform)
    made.setPositions(positions)
    if velocities is not None:
        made.setVelocities(velocities)
    return made


def numbers_of(context) -> dict[str, np.ndarray]:
    """Without their units: kJ/mol, nm, ps."""
    state = context.getState(energy=True, forces=True, positions=True, velocities=True)
    system = openmm.unit.md_unit_system
    bare = lambda quantity: np.array(quantity.value_in_unit_system(system))
    return {
        "energy": bare(state.getPotentialEnergy()),
        "forces": bare(state.getForces(asNumpy=True)),
        "positions": bare(state.getPositions(asNumpy=True)),
        "velocities": bare(state.getVelocities(asNumpy=True)),
    }


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("make", [free, crystal, lambda: bulk("Si", "fcc", a=2.9)])
def test_energies_and_forces_are_those_of_ase(make, platform):
    atoms, model = make(), springs(Wide())
    ready = openmm_system(atoms, model)
    found = numbers_of(context(ready.system, ready.positions, platform))
    atoms.calc = calculator(model)
    forces = atoms.get_forces() * (10 * EV)
    scale = PLATFORMS[platform]
    np.testing.assert_allclose(found["energy"], atoms.get_potential_energy() * EV, rtol=scale)
    limit = scale * max(np.abs(forces).max(), 1)
    np.testing.assert_allclose(found["forces"] @ ready.rotation, forces, atol=limit)


@pytest.mark.parametrize("make", [free, crystal])
def test_dynamics_are_those_of_ase(make):
    """A21, 200 steps of half a femtosecond."""
    atoms, model = make(), springs(Wide())
    ready = openmm_system(atoms, model, skin=0.3)
    moved = context(ready.system, ready.positions, "Reference", 5e-4, ready.velocities)
    moved.getIntegrator().step(200)
    found = numbers_of(moved)
    atoms.calc = calculator(model, skin=0.3)
    # OpenMM's ps in the unit of ASE: its amu nm²/ps² is a kJ/mol
    picosecond = np.sqrt(100 * EV)
    start = atoms.positions.copy()
    VelocityVerlet(atoms, 5e-4 * picosecond, logfile=None).run(200)
    x = 10 * found["positions"] @ ready.rotation
    assert np.abs(atoms.positions - start).max() > 0.1
    np.testing.assert_allclose(x, atoms.positions, atol=1e-10)
    velocities = 10 / picosecond * found["velocities"] @ ready.rotation
    np.testing.assert_allclose(velocities, atoms.get_velocities(), atol=1e-10)
    energy = atoms.get_potential_energy() * EV
    np.testing.assert_allclose(found["energy"], energy, rtol=1e-10)
    assert picosecond == pytest.approx(1000 * ase.units.fs, rel=1e-7)  # CODATA of another year
    assert PICOSECOND == pytest.approx(picosecond, rel=1e-9)


@pytest.mark.slow
def test_a_barostat_finds_the_cell():
    atoms = bulk("Si", "fcc", a=1.05 * np.sqrt(2), cubic=True)
    ready = openmm_system(atoms, springs())
    barostat = openmm.MonteCarloBarostat(1.0, 1.0, 1)
    barostat.setRandomNumberSeed(1)
    ready.system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(1.0, 10.0, 0.001)
    integrator.setRandomNumberSeed(1)
    moved = openmm.Context(ready.system, integrator, openmm.Platform.getPlatformByName("Reference"))
    moved.setPositions(ready.positions)
    integrator.step(150)
    volume = moved.getState().getPeriodicBoxVolume()._value * 1000
    assert abs(volume / np.sqrt(8) - 1) < 0.05 < 0.15 < abs(atoms.get_volume() / np.sqrt(8) - 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_reduced_box_is_the_same_lattice(seed):
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * 3
    box, rotation = reduced(cell)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    change = cell @ rotation.T @ np.linalg.inv(box)
    np.testing.assert_allclose(change, np.round(change), atol=1e-9)
    assert abs(np.linalg.det(change)) == pytest.approx(1)
    openmm.System().setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in box / 10))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_not_finite_ends_the_step(platform):
    model: Model = springs(Broken())
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 1.3]])
    ready = openmm_system(atoms, model)
    inwards = np.array([[0, 0, 3.0], [0, 0, -3.0]])  # nm/ps
    with jax.debug_nans(False):
        moved = context(ready.system, ready.positions, platform, 1e-3, inwards)
        moved.getIntegrator().step(2)
        with pytest.raises(openmm.OpenMMException, match="a prediction must be finite"):
            moved.getIntegrator().step(50)
    lost = context(ready.system, np.full((2, 3), np.nan), platform)
    with pytest.raises(openmm.OpenMMException, match="positions must be finite|coordinate is NaN"):
        lost.getState(energy=True)


def test_it_is_not_written_as_a_pickle():
    force = openmm_force(springs(), [14, 14])
    with pytest.raises(openmm.OpenMMException, match="could not be pickled"):
        openmm.XmlSerializer.serialize(force)


def test_a_part_of_the_particles():
    """The model acts on two of three; the third feels what else there is."""
    system = openmm.System()
    for _ in range(3):
        system.addParticle(28.0)
    system.addForce(openmm_force(springs(), [14, 14], particles=[0, 2]))
    found = numbers_of(context(system, [[0, 0, 0], [0, 0.05, 0], [0, 0, 0.12]]))
    pair = Atoms("Si2", [[0, 0, 0], [0, 0, 1.2]], calculator=calculator(springs()))
    np.testing.assert_allclose(found["forces"][[0, 2]], pair.get_forces() * 10 * EV, rtol=1e-9)
    assert not found["forces"][1].any()


def test_a_topology_has_elements_and_the_box():
    ready = openmm_system(crystal(), springs())
    assert [atom.element.symbol for atom in ready.topology.atoms()] == ["Si", "O", "Si", "O"]
    box = np.array(ready.topology.getPeriodicBoxVectors()._value)
    assert np.linalg.det(box) == pytest.approx(abs(crystal().get_volume()) / 1000)
    masses = [ready.system.getParticleMass(i)._value for i in range(4)]
    np.testing.assert_allclose(masses, crystal().get_masses())


def test_what_openmm_cannot_have_is_refused():
    slab, fixed = crystal(), free()
    slab.pbc = (True, True, False)
    fixed.set_constraint(FixAtoms([0]))
    for make, message in [
        (lambda: openmm_system(slab, springs()), "repeat in three directions"),
        (lambda: openmm_system(fixed, springs()), "constraints of ASE are not OpenMM's"),
        (lambda: openmm_system(Atoms("Cu"), springs()), "supports O, Si"),
        (lambda: openmm_force(springs(), [79]), "holds Au"),
        (lambda: openmm_force(springs(), [14], particles=[1, 2]), "got 2 particles and 1 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
