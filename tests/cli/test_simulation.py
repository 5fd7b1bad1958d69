"""Dynamics, minima, vibrations, phonons and elastic constants, from files to files."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.socketio import SocketIOCalculator

from geojax import zoo
from geojax.datasets import formats, to_ase
from geojax.graphs import Structure
from geojax.inference import calculator
from tests.cli.conftest import run
from tests.inference.conftest import crystal, molecule


@pytest.fixture(scope="module")
def paths(tmp_path_factory, untrained) -> dict[str, Path]:
    """A model's folder, a molecule and a crystal of its elements."""
    folder = tmp_path_factory.mktemp("simulation")
    zoo.save(untrained, folder / "model")
    formats.write(folder / "molecule.xyz", [molecule()])
    formats.write(folder / "crystal.xyz", [crystal()])
    return {name: folder / name for name in ("model", "molecule.xyz", "crystal.xyz")}


def test_dynamics_go_on(paths, tmp_path):
    figures = tmp_path / "md.json"
    command = ["md", str(paths["model"]), str(paths["molecule.xyz"]), "--folder", str(tmp_path)]
    command += ["--start", "100", "--every", "2", "--timestep", "0.1", "--json", str(figures)]
    assert run(*command, "--steps", "4")[0] == 0
    assert run(*command, "--steps", "8")[0] == 0
    assert all(np.isfinite(list(json.loads(figures.read_text()).values())))


def test_a_minimum_that_is_not_reached_is_exit_code_1(paths, tmp_path):
    to = tmp_path / "relaxed.xyz"
    command = ["relax", str(paths["model"]), str(paths["molecule.xyz"]), str(to)]
    assert run(*command, "--steps", "1", "--force", "1e-9")[0] == 1
    assert isinstance(formats.read(to).structures[0], Structure)


def test_vibrations_and_elastic_constants(paths, tmp_path):
    for command, name, size in [("vibrations", "molecule.xyz", 9), ("elastic", "crystal.xyz", 6)]:
        figures = tmp_path / f"{command}.json"
        code, text = run(command, str(paths["model"]), str(paths[name]), "--json", str(figures))
        found = json.loads(figures.read_text())
        rows = found.get("stiffness [GPa]", found.get("frequencies [cm⁻¹]"))
        assert code == 0 and "largest force" in text and len(rows) == size


def test_a_band_that_is_not_done_is_exit_code_1(paths, tmp_path):
    start, end = paths["molecule.xyz"], tmp_path / "end.xyz"
    structure = molecule()
    formats.write(end, [structure.replace(positions=structure.positions + np.eye(5, 3) * 0.2)])
    figures, to = tmp_path / "band.json", tmp_path / "band.xyz"
    command = ["neb", str(paths["model"]), str(start), str(end), str(to), "--images", "1"]
    assert run(*command, "--steps", "1", "--force", "1e-9", "--json", str(figures))[0] == 1
    assert len(formats.read(to).structures) == 3
    assert "barrier [eV]" in json.loads(figures.read_text())


def test_phonons(paths, tmp_path):
    figures = tmp_path / "phonons.json"
    command = ["phonons", str(paths["model"]), str(paths["crystal.xyz"]), "--json", str(figures)]
    command += ["--supercell", "1,1,1", "--mesh", "2,2,2", "--folder", str(tmp_path)]
    code, text = run(*command)
    assert code == 0 and "acoustic error" in text and (tmp_path / "phonons.png").exists()
    assert len(json.loads(figures.read_text())["bands [THz]"][0]) == 12


def test_a_server_that_stops_ends_the_client_with_exit_code_0(paths, untrained):
    name, ended = f"geojax_cli_{os.getpid()}", []
    command = ["ipi", str(paths["model"]), str(paths["crystal.xyz"]), "--unix", name]
    thread = threading.Thread(target=lambda: ended.append(run(*command, "--wait", "20")))
    atoms = to_ase(crystal())
    with SocketIOCalculator(unixsocket=name, timeout=20) as server:
        thread.start()
        atoms.calc = server
        found = atoms.get_potential_energy()
    thread.join(20)
    assert ended == [(0, "the server has stopped after 1 structures\n")]
    atoms.calc = calculator(untrained)
    assert found == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
