"""torch-sim moves batches as ASE moves each, with the energies and forces of ASE's calculator."""

from importlib.metadata import version

import ase.units
import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress

from geojax.inference import calculator
from geojax.model import Model
from geojax.outputs import Output
from geojax.simulation.torch_sim import torch_sim_model
from tests.inference.conftest import CELL
from tests.inference.test_elasticity import Mixed, springs

WHY = "an extra of its own: pip install 'geojax[torch-sim]'"
torch = pytest.importorskip("torch", reason=WHY)
ts = pytest.importorskip("torch_sim", reason=WHY)
lennard_jones = pytest.importorskip("torch_sim.models.lennard_jones")

HOST = torch.device("cpu")
E0S = {8: -2041.3, 14: -7870.5}


class Wide(Mixed):
    cutoff = 3.0


class Broken(Wide):
    """Energies that are no numbers a float holds."""

    def apply(self, params, graph):
        return super().apply(params * 1e300, graph) * 1e300


def model(dtype: str = "float64") -> Model:
    return springs(Wide()).replace_card(E0s=E0S, dtype=dtype)


def molecules() -> list[Atoms]:
    """Of several sizes; one has a cell that does not repeat."""
    rng = np.random.default_rng(1)
    found = [
        Atoms("SiOSiOO", rng.uniform(0, 3.2, (5, 3))),
        Atoms("SiO", [[0, 0, 0], [0.3, -0.2, 1.4]], cell=CELL),
        Atoms("OSiSi", rng.uniform(-2, 1, (3, 3))),
        Atoms("Si"),
    ]
    for atoms in found:
        thermalize_momenta(atoms, temperature_K=300, rng=rng)
    return found


def crystals() -> list[Atoms]:
    """Triclinic cells, right-handed: one with atoms outside, one smaller than the cutoff."""
    rng = np.random.default_rng(0)
    skewed = CELL + np.array([[0, 0, 0], 2 * CELL[0], -CELL[0] + CELL[1]])
    found = [
        Atoms("SiOSiO", rng.uniform(-0.5, 1.5, (4, 3)) @ skewed, cell=skewed, pbc=True),
        Atoms("OSi", [[0, 0, 0], [0.9, 0.8, 1.1]], cell=CELL / 2.2, pbc=True),
        bulk("Si", "fcc", a=2.9) * (1, 1, 2),
    ]
    found[2].rattle(0.05, seed=3)
    for atoms in found:
        thermalize_momenta(atoms, temperature_K=300, rng=rng)
    return found


def state_of(atoms: list[Atoms], dtype=torch.float64):
    return ts.io.atoms_to_state(atoms, HOST, dtype)


def moving(atoms: list[Atoms]):
    """A state with the momenta of ASE."""
    start = state_of(atoms)
    momenta = torch.tensor(np.concatenate([a.get_momenta() for a in atoms]))
    energy = torch.zeros(len(atoms), dtype=torch.float64)
    more = {"momenta": momenta, "energy": energy, "forces": torch.zeros_like(momenta)}
    return ts.integrators.MDState(**vars(start), **more)


@pytest.mark.parametrize("batch", [molecules, crystals])
def test_energies_forces_and_stress_are_those_of_ase(batch):
    atoms = batch()
    solid = batch is crystals
    found = torch_sim_model(model(), compute_stress=solid)(state_of(atoms))
    assert set(found) == {"energy", "forces"} | ({"stress"} if solid else set())
    assert all(x.dtype == torch.float64 and not x.requires_grad for x in found.values())
    for a in atoms:
        a.calc = calculator(model())
    close = lambda x, y: np.testing.assert_allclose(x.numpy(), y, rtol=1e-13, atol=1e-11)
    close(found["energy"], [a.get_potential_energy() for a in atoms])
    close(found["forces"], np.concatenate([a.get_forces() for a in atoms]))
    if solid:
        close(found["stress"], [voigt_6_to_full_3x3_stress(a.get_stress()) for a in atoms])


def test_stress_has_the_sign_and_the_unit_of_torch_sim():
    """Both are (1/V) dE/dstrain [eV/Å³], and positive in a crystal that is wider than at rest."""
    argon = bulk("Ar", "fcc", a=5.6, cubic=True)
    own = lennard_jones.LennardJonesModel(
        3.405, 0.0104, HOST, torch.float64, compute_stress=True, cutoff=8.5
    )
    # Its forces and stresses are those of twice its energy in version 0.3
    twice = 2 if version("torch-sim-atomistic").startswith("0.3.") else 1
    silicon = bulk("Si", "fcc", a=1.05 * np.sqrt(2), cubic=True)
    mine = torch_sim_model(springs(), compute_stress=True)
    for at, atoms, factor in ((own, argon, twice), (mine, silicon, 1)):
        energies = []
        for step in (1e-5, -1e-5):
            strained = atoms.copy()
            strain = step * np.array([[1, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
            strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(at(state_of([strained]))["energy"].item())
        expected = factor * (energies[0] - energies[1]) / 2e-5 / atoms.get_volume()
        stress = at(state_of([atoms]))["stress"][0].numpy()
        assert stress[0, 0] + stress[0, 1] == pytest.approx(expected, rel=1e-5)
        assert expected > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_have_their_own_dtype(dtype):
    """Twins in float32: the state's digits, and the model's, are those of the result."""
    narrow = state_of(crystals(), torch.float32)
    mine = torch_sim_model(model(dtype), compute_stress=True)
    found = mine(narrow)
    assert {x.dtype for x in found.values()} == {torch.float32}
    full = mine(narrow.to(dtype=torch.float64))
    assert full["forces"].dtype == torch.float64
    for name, value in found.items():
        np.testing.assert_array_equal(value.numpy(), full[name].numpy().astype(np.float32))


def test_torch_sim_finds_its_interface_kept():
    known = springs(type("", (Wide,), {"cutoff": 4.5})()).replace_card(elements=(14, 26))
    mine = torch_sim_model(known, compute_forces=False, compute_stress=False)
    ts.models.interface.validate_model_outputs(mine, HOST, torch.float64)
    assert mine.compute_forces and mine.compute_stress  # it has switched them on
    assert (mine.dtype, mine.device) == (torch.float64, HOST)
    mine.compute_forces = mine.compute_stress = False
    assert set(mine(state_of([bulk("Si", "fcc", a=3.0)]))) == {"energy"}


def test_static_serves_atoms_dictionaries_and_parts_of_a_state():
    atoms = crystals()
    mine = torch_sim_model(model(), compute_stress=True)
    rows = ts.static(atoms, mine)
    whole = mine(state_of(atoms))
    bare = {key: value for key, value in vars(state_of(atoms)).items() if key != "masses"}
    np.testing.assert_array_equal(mine(bare)["stress"], whole["stress"])
    ends = np.cumsum([0, *map(len, atoms)])
    alone = mine(state_of(atoms)[1])
    for i, row in enumerate(rows):
        assert row["potential_energy"].item() == pytest.approx(whole["energy"][i].item())
        np.testing.assert_array_equal(row["forces"], whole["forces"][ends[i] : ends[i + 1]])
    np.testing.assert_allclose(alone["forces"], rows[1]["forces"], rtol=1e-12)


def test_systems_that_leave_the_batch_compile_nothing_new():
    atoms = crystals()[1:2]
    mine = torch_sim_model(model())
    for n in (7, 8, 5, 6):
        mine(state_of(atoms * n))
    shapes = mine.predictor.compilations
    mine(state_of(atoms * 9))
    assert shapes <= 2 and mine.predictor.compilations == shapes + 1


@pytest.mark.parametrize("batch", [molecules, crystals])
def test_dynamics_are_those_of_ase(batch):
    """A21, 50 steps of a femtosecond, all systems at once."""
    atoms = batch()
    mine = torch_sim_model(model(), compute_stress=False)
    options = {"integrator": ts.integrators.nve, "n_steps": 50, "timestep": 1e-3}  # ps
    found = ts.integrate(moving(atoms), mine, temperature=300.0, **options)
    start = np.concatenate([a.positions for a in atoms])
    for a in atoms:
        a.calc = calculator(model(), skin=0.3)
        VelocityVerlet(a, ase.units.fs, logfile=None).run(50)
    both = lambda get: np.concatenate([get(a) for a in atoms])
    x, p = both(lambda a: a.positions), both(lambda a: a.get_momenta())
    assert np.abs(x - start).max() > 0.1
    away = found.positions.numpy() - x
    if batch is crystals:  # torch-sim has put the atoms back into their cells
        counts = [len(a) for a in atoms]
        lattices = np.repeat([a.cell.array for a in atoms], counts, axis=0)
        images = np.linalg.solve(lattices.mT, away[..., None]).round()
        assert images.any()
        away = away - (lattices.mT @ images)[..., 0]
    assert np.abs(away).max() < 1e-10
    np.testing.assert_allclose(found.momenta.numpy(), p, rtol=1e-10, atol=1e-10 * np.abs(p).max())
    energies = [a.get_potential_energy() for a in atoms]
    np.testing.assert_allclose(found.energy.numpy(), energies, rtol=1e-10)


def relaxed(atoms: list[Atoms], mine, optimizer=ts.optimizers.fire, cell=False, tolerance=1e-3):
    small = ts.generate_force_convergence_fn(tolerance, include_cell_forces=cell)
    options = {"optimizer": optimizer, "convergence_fn": small, "max_steps": 2000}
    return ts.optimize(state_of(atoms), mine, **options)


def test_a_batch_relaxes_as_each_alone():
    atoms = [molecules()[0], molecules()[2]]
    mine = torch_sim_model(model(), compute_stress=False)
    found = relaxed(atoms, mine)
    assert mine(found)["forces"].norm(dim=1).max() < 1e-3
    start = mine(state_of(atoms))["energy"]
    assert (found.energy < start - 0.1).all()
    for i, one in enumerate(atoms):
        alone = relaxed([one], mine)
        np.testing.assert_allclose(found[i].positions, alone.positions, atol=1e-10)
        np.testing.assert_allclose(found.energy[i], alone.energy[0], rtol=1e-12)


def test_cells_relax():
    """Springs at rest between nearest neighbours at a distance of 1 Å: both cells end there."""
    atoms = [bulk("Si", "fcc", a=scale * np.sqrt(2)) for scale in (1.05, 0.97)]
    atoms[0].rattle(0.01, seed=0)
    mine = torch_sim_model(springs())
    assert mine.compute_stress  # as the model was trained on it
    found = relaxed(atoms, mine, ts.optimizers.frechet_cell_fire, True, 1e-5)
    volumes = torch.linalg.det(found.cell).numpy()
    np.testing.assert_allclose(volumes, np.sqrt(0.5), rtol=1e-4)


@pytest.mark.slow
def test_a_barostat_moves_the_cell():
    atoms = [bulk("Si", "fcc", a=scale * np.sqrt(2), cubic=True) for scale in (1.05, 0.97)]
    mine = torch_sim_model(springs())
    zero = torch.tensor(0.0, dtype=torch.float64)
    options = {"integrator": ts.integrators.npt_langevin, "n_steps": 100, "timestep": 1e-3}
    options["b_tau"] = torch.tensor(0.1 * ts.units.MetalUnits.time, dtype=torch.float64)
    torch.manual_seed(0)
    found = ts.integrate(atoms, mine, temperature=10.0, external_pressure=zero, **options)
    before = np.array([a.get_volume() for a in atoms])
    off = torch.linalg.det(found.cell).numpy() - np.sqrt(8)
    assert (np.abs(off) < 0.6 * np.abs(before - np.sqrt(8))).all()
    np.testing.assert_array_equal(found.stress, mine(found)["stress"])


def changed(**changes):
    state = state_of(crystals())
    for name, value in changes.items():
        setattr(state, name, value)
    return state


def test_what_cannot_be_is_refused():
    mine, stressed = torch_sim_model(model()), torch_sim_model(model(), compute_stress=True)
    mine.compute_stress = False
    start = state_of(crystals())
    lost, flat = start.positions.clone(), start.cell.clone()
    lost[3, 1] = torch.nan
    flat[1, :, 2] = 0
    swapped = start.cell[:, :, [1, 0, 2]]
    gold = torch.full_like(start.atomic_numbers, 79)
    backwards = start.system_idx.flip(0)
    for run, message in [
        (lambda: mine(changed(positions=lost)), r"positions must be finite.*\(atom 3, axis y\)"),
        (lambda: mine(changed(cell=flat)), "the cell is singular"),
        (lambda: mine(changed(atomic_numbers=gold)), "structure 0 holds Au"),
        (lambda: mine(changed(system_idx=backwards)), "the atoms of a state are those of system 0"),
        (lambda: mine(changed(system_idx=start.system_idx * 2)), "3 cells and system_idx"),
        (lambda: stressed(changed(pbc=False)), "stress exists where three lattice vectors repeat"),
        (lambda: stressed(changed(cell=swapped)), "left-handed cell; that of system 0"),
        (
            lambda: mine(start.clone().to(dtype=torch.float16)),
            "torch.float64 or torch.float32; got torch",
        ),
        (lambda: torch_sim_model(model(), dtype=torch.bfloat16), "got torch.bfloat16"),
        (lambda: torch_sim_model(without_energy()), "torch-sim needs an energy; 'springs'"),
    ]:
        with pytest.raises(ValueError, match=message):
            run()
    with jax.debug_nans(False), pytest.raises(ValueError, match="a prediction must be finite"):
        torch_sim_model(springs(Broken()))(start)
    before = mine(start)["energy"]
    np.testing.assert_allclose(mine(changed(cell=swapped))["energy"], before, rtol=1e-12)


def without_energy() -> Model:
    return springs().replace_card(outputs=(Output("targets.gap"),))
