"""Energies, forces and stress are the predictor's; what cannot be right is NaN, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from geojax.datasets import from_ase, to_ase
from geojax.inference import Ensemble, Predictor, open_artifact
from geojax.inference.export import export
from geojax.model import Model
from geojax.simulation.jax_md import jax_md_potential
from tests.inference.conftest import crystal, energy_model, molecule  # noqa: F401  a fixture
from tests.simulation.jax_md.cases import ATOMS, CASES, free, jax_md, model, tiny, triclinic

quantity, space = jax_md.quantity, jax_md.space


def compare(potential, thing, atoms, rtol=1e-10):
    """Energy, forces and, of a crystal, stress and pressure against the predictor's."""
    solid = all(atoms.pbc)
    wanted = ["energy", "forces", *(["stress"] if solid else [])]
    (want,) = Predictor(thing)([from_ase(atoms, labels=False)], wanted)
    neighbor, box = potential.neighbor_fn.allocate(potential.position), potential.box

    @jax.jit
    def everything(position, neighbor):
        energy, gradient = jax.value_and_grad(potential.energy_fn)(position, neighbor)
        found = {"energy": energy + potential.reference, "forces": -gradient}
        if solid:  # jax-md's stress is positive where it pushes outwards
            values = potential.energy_fn, position, box
            found["stress"] = -quantity.stress(*values, neighbor=neighbor)
            found["pressure"] = quantity.pressure(*values, neighbor=neighbor)
        return found

    found = everything(potential.position, neighbor)
    forces = np.abs(want.forces).max()
    np.testing.assert_allclose(found["energy"], want.energy, rtol=rtol)
    np.testing.assert_allclose(found["forces"], want.forces, atol=rtol * max(forces, 1))
    if solid:
        limit = rtol * max(np.abs(want.stress).max(), 0.1)
        np.testing.assert_allclose(found["stress"], want.stress, atol=limit)
        np.testing.assert_allclose(found["pressure"], -np.trace(want.stress) / 3, atol=limit)


@pytest.mark.parametrize("kind, fractional", CASES)
def test_it_is_the_predictor(kind, fractional, x64):
    atoms = ATOMS[kind]()
    potential = jax_md_potential(model(), atoms, fractional=fractional)
    compare(potential, model(), atoms)
    np.testing.assert_allclose(potential.mass, atoms.get_masses())


def test_a_network_in_float32(energy_model):  # noqa: F811
    atoms = to_ase(molecule())
    atoms.positions += 3.0
    potential = jax_md_potential(energy_model(), atoms)
    assert potential.position.dtype == jnp.float32
    compare(potential, energy_model(), atoms, rtol=5e-5)


@pytest.mark.slow
def test_an_ensemble_in_float32_with_positions_in_float64(energy_model, x64):  # noqa: F811
    one = energy_model()
    other = Model(one.network, jax.tree.map(lambda x: 1.1 * x, one.params), one.card)
    both = Ensemble([one, other])
    atoms = to_ase(molecule())
    atoms.positions += 1e4  # float32 would have lost them
    potential = jax_md_potential(both, atoms)
    assert potential.position.dtype == jnp.float64
    compare(potential, both, atoms, rtol=5e-5)


@pytest.mark.slow
def test_an_exported_file(tmp_path, energy_model):  # noqa: F811
    """Its programs have no derivatives of their own."""
    export(energy_model(), tmp_path / "small.geojax", platforms=("cpu",))
    artifact = open_artifact(tmp_path / "small.geojax")
    for structure in (molecule(), crystal()):
        atoms = to_ase(structure)
        compare(jax_md_potential(artifact, atoms), artifact, atoms, rtol=5e-5)


def test_wrapping_and_the_form_of_the_box_change_nothing(x64):
    potential = jax_md_potential(model(), triclinic(), fractional=True)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    energy = jax.jit(potential.energy_fn)
    want = energy(potential.position, neighbor)
    wrapped = potential.position + jnp.array([[0, 3, -2], [1, 0, 0], [0, 0, 0], [-5, 1, 1.0]])
    np.testing.assert_allclose(energy(wrapped, neighbor), want, rtol=1e-12)
    np.testing.assert_allclose(energy(wrapped, neighbor, box=potential.box), want, rtol=1e-12)
    in_space = jax_md_potential(model(), triclinic())
    x = space.transform(potential.box, wrapped)
    nearby = in_space.neighbor_fn.allocate(in_space.position)
    np.testing.assert_allclose(in_space.energy_fn(x, nearby), want, rtol=1e-12)


def test_positions_are_shifted_in_space(x64):
    for fractional in (False, True):
        potential = jax_md_potential(model(), triclinic((True, False, True)), fractional=fractional)
        moved = potential.shift_fn(potential.position, jnp.full((4, 3), 7.5))
        if fractional:
            moved = space.transform(potential.box, moved)
        np.testing.assert_allclose(moved, triclinic().positions + 7.5, atol=1e-9)


def test_a_moved_cell_with_its_atoms(x64):
    """A list of the old cell serves the new one while it is complete, and else gives NaN."""
    potential = jax_md_potential(model(), triclinic(), fractional=True)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    energy = jax.jit(potential.energy_fn)
    for strain, complete in ((0.01, True), (-0.05, True), (-0.15, False)):
        atoms = triclinic()
        atoms.set_cell(atoms.cell * (1 + strain), scale_atoms=True)
        (want,) = Predictor(model())([from_ase(atoms)], ["energy"])
        with jax.debug_nans(False):
            found = energy(potential.position, neighbor, box=(1 + strain) * potential.box)
        if complete:
            np.testing.assert_allclose(found + potential.reference, want.energy, rtol=1e-10)
        else:
            assert np.isnan(found)


def test_a_list_that_is_not_complete_gives_nan(x64):
    potential = jax_md_potential(model(), free(), skin=0.4)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    force = jax.jit(quantity.force(potential.energy_fn))
    along = jnp.zeros((5, 3)).at[2, 1].set(1.0)
    with jax.debug_nans(False):
        for position in (
            potential.position + 0.3 * along,
            potential.position.at[0, 0].set(jnp.nan),
        ):
            assert np.isnan(potential.energy_fn(position, neighbor))
            assert np.isnan(force(position, neighbor=neighbor)).all()
    assert np.isfinite(force(potential.position + 0.19 * along, neighbor=neighbor)).all()


def test_what_cannot_be_simulated_is_refused(x64):
    fixed = free()
    fixed.set_constraint(FixAtoms([0]))
    dipole = model().replace_card(outputs=())
    for thing, atoms, options, message in [
        (model(), Atoms("Cu"), {}, "springs' supports O, Si"),
        (model(), free(), {"fractional": True}, "fractional coordinates need a lattice"),
        (model(), free(), {"skin": 0.0}, "skin > 0"),
        (model(), free(), {"capacity": 0.5}, "capacity >= 1"),
        (model(), fixed, {}, "nothing of ASE's constraints"),
        (dipole, free(), {}, "dynamics need an energy"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax_md_potential(thing, atoms, **options)
    with pytest.raises(TypeError, match="made by a Model"):
        jax_md_potential("springs", free())
    potential = jax_md_potential(model(), free())
    neighbor = potential.neighbor_fn.allocate(potential.position)
    crystal = jax_md_potential(model(), tiny())
    with pytest.raises(ValueError, match="these atoms have no cell"):
        potential.energy_fn(potential.position, neighbor, box=3.0)
    with pytest.raises(ValueError, match=r"floats of shape \(5, 3\)"):
        potential.energy_fn(potential.position[:4], neighbor)
    with pytest.raises(ValueError, match="a list belongs to its atoms; got one of 5 for 1"):
        crystal.energy_fn(crystal.position, neighbor)


def test_models_of_other_graphs_and_precision_are_refused(energy_model):  # noqa: F811
    with pytest.raises(ValueError, match="jax's 64 bits are off"):
        jax_md_potential(energy_model("float64"), to_ase(molecule()))
    one = energy_model()
    endless = Model(one.network.copy(cutoff=np.inf), one.params, one.card)
    atoms = to_ase(molecule())
    jax_md_potential(endless, atoms)
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    with pytest.raises(ValueError, match="a lattice has no end"):
        jax_md_potential(endless, atoms)
    near = Model(one.network.copy(), one.params, one.card)
    object.__setattr__(near.network, "nearest", 3)
    with pytest.raises(ValueError, match="3 nearest neighbours"):
        jax_md_potential(near, to_ase(molecule()))
