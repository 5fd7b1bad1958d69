"""i-PI and ASE move a model's atoms alike; other atoms, failures and stops end both sides."""

import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import units
from ase.calculators.socketio import SocketIOCalculator, actualunixsocketname
from ase.md.verlet import VelocityVerlet

from geojax.datasets import from_ase
from geojax.simulation import ipi
from tests.simulation.test_evaluation import crystal, model, molecule

SERVER = Path(sys.executable).with_name("i-pi")
STEP = 0.05  # in ASE's unit of time: 0.5 fs
MASS = units.Bohr**2 / units.Ha  # so that atomic time in i-PI is ASE's time
needs_ipi = pytest.mark.skipif(not SERVER.exists(), reason="i-PI is not installed")

INPUT = """
<simulation verbosity='low' floatformat='%24.16e'>
  <output prefix='run'>
    <properties filename='out' stride='1'>
      [step, potential, kinetic_md, conserved, volume, virial_md]
    </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <ffsocket name='model' mode='{mode}' pbc='False'>
    <address>{address}</address> <port>{port}</port> <latency>1e-4</latency>
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
      <dynamics mode='{ensemble}'>
        <timestep>{step}</timestep>
        <thermostat mode='langevin'><tau>1000</tau></thermostat>
        <barostat mode='isotropic'><tau>20</tau></barostat>
      </dynamics>
    </motion>
    <ensemble><temperature>1e-2</temperature><pressure>0</pressure></ensemble>
  </system>
</simulation>
"""


@contextmanager
def server(folder, atoms, *, mode="unix", address, port=31415, ensemble="nve", steps=50):
    """i-PI in a process of its own, all numbers in atomic units; its end is waited for."""
    joined = lambda array: ", ".join(f"{x:.17g}" for x in np.ravel(array))
    text = INPUT.format(
        mode=mode,
        address=address,
        port=port,
        ensemble=ensemble,
        steps=steps,
        step=STEP,
        masses=joined(atoms.get_masses() * MASS),
        velocities=joined(atoms.get_velocities() / units.Bohr),
    )
    (folder / "input.xml").write_text(text)
    cell = " ".join(f"{x:.17g}" for x in np.ravel(atoms.cell.array.T / units.Bohr))
    lines = [str(len(atoms)), f"# CELL(H): {cell} positions{{atomic_unit}} cell{{atomic_unit}}"]
    for symbol, x in zip(atoms.symbols, atoms.positions / units.Bohr, strict=True):
        lines.append(f"{symbol} {x[0]:.17g} {x[1]:.17g} {x[2]:.17g}")
    (folder / "start.xyz").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [sys.executable, SERVER, "input.xml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
        process.wait(timeout=30)
    finally:
        process.kill()
        (folder / "log").write_text(process.communicate()[0])


@pytest.fixture
def name() -> Iterator[str]:
    """Of a UNIX socket that no other test uses; a server that was killed leaves it behind."""
    name = f"geojax_{uuid.uuid4().hex}"
    yield name
    Path(actualunixsocketname(name)).unlink(missing_ok=True)


@needs_ipi
def test_dynamics_of_ipi_are_those_of_ase(tmp_path, name):
    atoms, frames = crystal(), []
    keep = lambda done, found: frames.append(found)
    with server(tmp_path, atoms, address=name, steps=50):
        done = ipi.serve_ipi(model(), from_ase(atoms), unix=name, wait=30.0, progress=keep)
    assert done == len(frames) == 51
    expected = []
    engine = VelocityVerlet(atoms, STEP)
    record = lambda: expected.append(
        (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()[[0, 1, 2, 5, 4, 3]])
    )
    engine.attach(record)
    engine.run(50)
    scale = np.abs(expected[0][1]).max()
    for found, (energy, forces, _) in zip(frames, expected, strict=True):
        assert found.energy == pytest.approx(energy, rel=1e-10)
        np.testing.assert_allclose(found.forces, forces, atol=1e-10 * scale, rtol=0)
    # What the server makes of it: energies and virials, in its own units
    columns = np.loadtxt(tmp_path / "run.out")
    np.testing.assert_allclose(columns[:, 1] * units.Ha, [e for e, *_ in expected], rtol=1e-10)
    stress = -columns[:, -6:] * units.Ha / units.Bohr**3
    np.testing.assert_allclose(stress, [s for *_, s in expected], atol=1e-10)
    assert np.ptp(columns[:, 3]) < 0.02 * np.ptp(columns[:, 1])


def spread(folder, name) -> tuple[float, float]:
    """How far the conserved quantity and the volume go in i-PI at constant pressure."""
    with server(folder, crystal(), address=name, ensemble="npt", steps=40):
        ipi.serve_ipi(model(), from_ase(crystal()), unix=name, wait=30.0)
    columns = np.loadtxt(folder / "run.out")
    return np.ptp(columns[:, 3]), np.ptp(columns[:, 4]) / columns[0, 4]


@needs_ipi
@pytest.mark.slow
def test_constant_pressure_conserves_what_it_should(tmp_path, name, monkeypatch):
    """And a virial of the other sign does not."""
    conserved, volume = spread(tmp_path, name)
    assert volume > 1e-3
    right = ipi.Evaluator.__call__
    wrong = lambda self, s: (found := right(self, s))._replace(virial=-found.virial)
    monkeypatch.setattr(ipi.Evaluator, "__call__", wrong)
    assert spread(tmp_path, name)[0] > 20 * conserved


@needs_ipi
@pytest.mark.slow
def test_a_failure_ends_ipi_too(tmp_path, name, monkeypatch):
    right, calls = ipi.Evaluator.__call__, []

    def failing(self, structure):
        calls.append(structure)
        if len(calls) == 5:
            raise FloatingPointError("the fifth is too much")
        return right(self, structure)

    monkeypatch.setattr(ipi.Evaluator, "__call__", failing)
    with (
        server(tmp_path, crystal(), address=name) as process,
        pytest.raises(FloatingPointError, match="the fifth is too much"),
    ):
        ipi.serve_ipi(model(), from_ase(crystal()), unix=name, wait=30.0)
    process.wait(timeout=30)
    assert len(np.loadtxt(tmp_path / "run.out")) <= 4


@needs_ipi
@pytest.mark.slow
def test_an_ipi_that_is_told_to_stop_ends_the_client(tmp_path):
    port = free_port()
    with server(
        tmp_path, crystal(), mode="inet", address="localhost", port=port, steps=100000
    ) as process:
        stop = lambda done, found: process.terminate() if done == 20 else None
        done = ipi.serve_ipi(model(), from_ase(crystal()), port=port, wait=30.0, progress=stop)
    assert 20 <= done < 100000


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def asked(atoms, structure, network=None, **where):
    """What ASE's server gets for its atoms from a client that has a structure, and what the client
    raised; the client is a thread."""
    found, ended = {}, []

    def client():
        try:
            ended.append(ipi.serve_ipi(network or model(), structure, wait=20.0, **where))
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=client)
    ports: dict[str, Any] = {"unixsocket": where.get("unix"), "port": where.get("port")}
    try:
        with SocketIOCalculator(timeout=20, **ports) as calculator:
            thread.start()
            atoms.calc = calculator
            found |= {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            if atoms.cell.rank == 3:
                found["stress"] = atoms.get_stress()
    except OSError as error:
        found["error"] = error
    thread.join(20)
    return found, *ended


@pytest.mark.parametrize("unix", [True, False], ids=["unix", "inet"])
@pytest.mark.parametrize("make", [crystal, molecule])
def test_ase_as_a_server_gets_what_its_calculator_says(name, unix, make):
    atoms = make()
    where = {"unix": name} if unix else {"port": free_port()}
    found, done = asked(atoms.copy(), from_ase(atoms), **where)
    assert done == 1
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-10)
    if atoms.pbc.all():
        np.testing.assert_allclose(found["stress"], atoms.get_stress(), atol=1e-10)


@pytest.mark.parametrize("kept", [1, 3])
def test_other_atoms_than_those_of_the_structure_end_both_sides(name, kept):
    """One atom is what numpy would stretch over all."""
    found, error = asked(crystal()[:kept], from_ase(crystal()), unix=name)
    assert isinstance(found["error"], OSError)
    assert f"got {kept} atoms and a structure of 4" in str(error)


def test_failures_end_both_sides(name):
    together = crystal()
    together.positions[1] = together.positions[0]
    lost = crystal()
    lost.positions[2, 1] = np.nan
    for atoms, message in [(together, "place"), (lost, "positions must be finite")]:
        found, error = asked(atoms, from_ase(crystal()), unix=name)
        assert isinstance(found["error"], OSError) and isinstance(error, ValueError)
        assert message in str(error)


def test_a_model_that_does_not_fit_calls_no_server(name):
    with jax.debug_nans(False), pytest.raises(ValueError, match="must be finite; energy"):
        ipi.serve_ipi(replace(model(), params=np.float64("nan")), from_ase(crystal()), unix=name)
    carbon = crystal()
    carbon.symbols[0] = "C"
    with pytest.raises(ValueError, match="holds C and 'springs' supports O, Si"):
        ipi.serve_ipi(model(), from_ase(carbon), unix=name)


def test_a_server_that_is_not_there(name):
    with pytest.raises(ConnectionError, match=f"there is none at {actualunixsocketname(name)}"):
        ipi.serve_ipi(model(), from_ase(crystal()), unix=name, wait=0.2)
    with pytest.raises(ConnectionError, match=r"there is none at \('localhost', 9\)"):
        ipi.serve_ipi(model(), from_ase(crystal()), port=9)
    with pytest.raises(ValueError, match="got port=9 and unix='x'"):
        ipi.serve_ipi(model(), from_ase(crystal()), port=9, unix="x")


def test_a_server_that_speaks_out_of_turn(name):
    path = Path(actualunixsocketname(name))
    cell, positions = crystal().cell.array.T / units.Bohr, crystal().positions / units.Bohr
    posdata = b"POSDATA".ljust(12) + cell.tobytes() + np.linalg.inv(cell).tobytes()
    posdata += np.int32(4).tobytes() + positions.tobytes()
    for message, word in [
        (b"GETFORCE", "'GETFORCE' while there were no forces"),
        (b"INIT".ljust(12) + np.array([0, 1], np.int32).tobytes() + b"0HELLO".ljust(13), "'HELLO'"),
        (posdata + posdata, "'POSDATA' while there were untaken forces"),
        (posdata, "left before it took the forces"),
    ]:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen(1)

            def speak(message=message, listening=listening):
                with listening.accept()[0] as connection:
                    connection.sendall(message.ljust(12))

            thread = threading.Thread(target=speak)
            thread.start()
            try:
                with pytest.raises(ConnectionError, match=word):
                    ipi.serve_ipi(model(), from_ase(crystal()), unix=name, wait=5.0)
                thread.join()
            finally:
                path.unlink()
