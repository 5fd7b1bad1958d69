"""Ensembles keep what they should; a run that is stopped goes on as if it was not."""

import os
import signal

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from geojax.datasets.formats import read
from geojax.signals import Stopped
from geojax.simulation import Dynamics, molecular_dynamics


class Spring(Calculator):
    implemented_properties = ["energy", "free_energy", "forces"]
    calls = 0
    stop_at = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        d = self.atoms.positions[1] - self.atoms.positions[0]
        r = np.linalg.norm(d)
        force = 30 * (r - 1) * d / r
        energy = 15 * (r - 1) ** 2
        self.results = {"energy": energy, "free_energy": energy, "forces": [force, -force]}
        self.results["forces"] = np.array(self.results["forces"])


def molecule(stop_at: int | None = None) -> Atoms:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.05]], calculator=Spring())
    atoms.calc.stop_at = stop_at
    return atoms


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.calc = EMT()
    return atoms


def test_energy_is_kept_and_frames_are_every_so_many_steps():
    run = lambda: molecular_dynamics(molecule(), Dynamics(timestep=0.25), steps=400, every=10)
    record = run()
    assert record.total.shape == (41,) and record.positions.shape == (41, 2, 3)
    assert np.ptp(record.total) < 0.02 * np.ptp(record.kinetic)
    assert abs(record.drift) < 1e-2
    np.testing.assert_allclose(record.time, np.arange(0, 101, 2.5))
    np.testing.assert_array_equal(record.total, run().total)
    assert set(record.summary()) == {
        "picoseconds", "drift [meV/atom/ps]", "fluctuation [meV/atom]", "temperature [K]"
    }  # fmt: skip


def test_half_the_step_is_a_quarter_of_the_fluctuation():
    spread = []
    for halvings in range(2):
        dynamics = Dynamics(timestep=0.4 / 2**halvings)
        record = molecular_dynamics(molecule(), dynamics, steps=100 * 2**halvings, every=1)
        spread.append(record.total.std())
    assert 3.6 < spread[0] / spread[1] < 4.4


def test_a_thermostat_and_a_barostat_reach_their_numbers():
    hot = Dynamics(temperature=600.0, thermostat_time=20.0, timestep=4.0, start=300.0)
    record = molecular_dynamics(copper(), hot, steps=200, every=2)
    assert record.temperature[0] == pytest.approx(300, rel=0.3)
    assert record.temperature[20:].mean() == pytest.approx(600, rel=0.2)
    assert np.isnan(record.pressure).all()
    pressed = Dynamics(
        temperature=300.0, pressure=20.0, thermostat_time=20.0, barostat_time=200.0, timestep=4.0
    )
    atoms = copper()
    before = atoms.get_volume()
    record = molecular_dynamics(atoms, pressed, steps=200, every=2)
    assert record.pressure[50:].mean() == pytest.approx(20, abs=4)
    assert record.volume[-1] == pytest.approx(atoms.get_volume())
    assert atoms.get_volume() < 0.95 * before  # bulk modulus of EMT's copper: 134 GPa
    assert "volume [Å³]" in record.summary()


@pytest.mark.parametrize("dynamics", [Dynamics(), Dynamics(temperature=300.0)], ids=["NVE", "NVT"])
def test_a_run_goes_on_as_if_it_had_not_stopped(dynamics, tmp_path):
    whole = molecular_dynamics(molecule(), dynamics, steps=60, every=10)
    molecular_dynamics(molecule(), dynamics, steps=35, every=10, folder=tmp_path)
    record = molecular_dynamics(molecule(), dynamics, steps=60, every=10, folder=tmp_path)
    np.testing.assert_array_equal(record.total, whole.total)
    frames = read(tmp_path / "trajectory.extxyz", inputs={"velocities": "velocities"}).structures
    np.testing.assert_array_equal([f.positions for f in frames], whole.positions)
    assert frames[3].inputs["velocities"].shape == (2, 3)


def test_a_signal_saves_and_what_was_written_later_is_cut_off(tmp_path):
    with pytest.raises(Stopped) as stopped:
        molecular_dynamics(molecule(stop_at=25), steps=60, every=10, folder=tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    with open(tmp_path / "log.csv", "a") as log:
        log.write("30.0,1")  # as a kill in the midst of writing leaves it
    record = molecular_dynamics(molecule(), steps=60, every=10, folder=tmp_path)
    whole = molecular_dynamics(molecule(), steps=60, every=10)
    np.testing.assert_array_equal(record.total, whole.total)


def test_velocities_that_are_there_are_kept():
    atoms = molecule()
    atoms.set_momenta([[0, 0, 1.0], [0, 0, -1.0]])
    record = molecular_dynamics(atoms, steps=1, every=1)
    assert record.kinetic[0] == pytest.approx(2 * 0.5 / atoms.get_masses()[0])


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(steps=0), "steps and every are 1 or more"),
        (dict(dynamics=Dynamics(pressure=1.0)), "a pressure needs a lattice in three directions"),
    ],
)
def test_what_cannot_run_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        molecular_dynamics(molecule(), **({"steps": 1} | change))


def test_other_settings_or_atoms_do_not_go_on(tmp_path):
    molecular_dynamics(molecule(), steps=10, every=5, folder=tmp_path)
    with pytest.raises(ValueError, match="goes on with the settings that it began with"):
        molecular_dynamics(molecule(), steps=20, every=10, folder=tmp_path)
    with pytest.raises(ValueError, match="the run has done 10 steps already"):
        molecular_dynamics(molecule(), steps=5, every=5, folder=tmp_path)
    with pytest.raises(ValueError, match="goes on with its own atoms"):
        molecular_dynamics(copper(), steps=20, every=5, folder=tmp_path)
    with pytest.raises(ValueError, match="timestep is a positive number"):
        Dynamics(timestep=0.0)


@pytest.mark.parametrize("name", ["state.npz", "settings.json", "log.csv", "trajectory.extxyz"])
def test_damaged_files_are_refused_by_name(tmp_path, name):
    """Every cut, and bits of the state; what comes back otherwise is the run that was saved."""
    whole = molecular_dynamics(molecule(), steps=20, every=5, folder=tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    damaged = [b"", data[: len(data) // 2], data[:-1], None]
    if name == "state.npz":
        for bit in np.random.default_rng(0).integers(0, 8 * len(data), 60):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content or b"")
        if content is None:
            path.unlink()
        try:
            record = molecular_dynamics(molecule(), steps=20, every=5, folder=tmp_path)
        except ValueError as error:
            assert name in str(error) and "use another folder" in str(error)
            refused += 1
        else:  # dates in the archive, which nothing reads
            np.testing.assert_array_equal(record.total, whole.total)
        path.write_bytes(data)
    assert refused >= 4 and (name != "state.npz" or refused > 40)
