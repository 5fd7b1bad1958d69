"""Pieces give what the whole gives: energies, forces, stress, for any number of pieces."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from geojax.datasets import from_ase
from geojax.graphs import Structure, sample
from geojax.inference import Predictor, calculator
from geojax.inference.partition import partitioned, pieces_of
from geojax.inference.receptive import receptive_hops
from geojax.model import Card, Model
from geojax.networks import EGNN, PaiNN
from geojax.outputs import Output

HOPS = cache(receptive_hops)
WANTED = ("energy", "energies", "forces", "stress")


def crystal(repeats: int = 2, seed: int = 0) -> Structure:
    """Shaken silicon in a sheared cell, with germanium here and there."""
    atoms = bulk("Si", cubic=True).repeat(repeats)
    rng = np.random.default_rng(seed)
    shear = np.eye(3) + 0.05 * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell @ shear, scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=(len(atoms), 3))
    atoms.numbers[rng.random(len(atoms)) < 0.3] = 32
    return from_ase(atoms)


@pytest.fixture(autouse=True)
def hops_once(monkeypatch: pytest.MonkeyPatch):
    """The hops of a model are measured once, not in each test."""
    monkeypatch.setattr("geojax.inference.partition.receptive_hops", HOPS)


@cache
def model_of(layers: int = 2, dtype: str = "float64", **fields) -> Model:
    network = PaiNN(cutoff=3.0, channels=4, layers=layers, elements=(14, 32), **fields)
    graph = jax.tree.map(jnp.asarray, sample(crystal(1), 3.0).graph)
    params = jax.jit(network.init)(jax.random.key(1), graph)
    outputs = (Output(scale=2.0, shift=-1.0),)
    card = Card(elements=(14, 32), E0s={14: -5.0, 32: -7.0}, outputs=outputs, dtype=dtype)
    return Model(network, params, replace(card, forces=True, stress=True))


def assert_equal(found, wanted, tolerance: float):
    for name in WANTED:
        left, right = getattr(found, name), getattr(wanted, name)
        assert np.shape(left) == np.shape(right)
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * np.abs(right).max())


@pytest.mark.parametrize("pieces", [1, 8])
def test_pieces_give_what_the_whole_gives(pieces: int):
    model, structure = model_of(), crystal()
    (whole,) = Predictor(model)([structure], WANTED)
    engine = partitioned(model, pieces=pieces, devices=1)
    (found,) = Predictor(engine, batch_size=1)([structure], WANTED)
    assert_equal(found, whole, 1e-12)


@pytest.mark.slow
def test_a_cell_smaller_than_the_halo_and_open_boundaries():
    model = model_of(dtype="float32")
    engine = partitioned(model, pieces=3, devices=1)
    molecule = replace(crystal(1), cell=None, pbc=(False, False, False))
    slab = replace(crystal(1), pbc=(True, False, True))
    for structure, wanted in [(crystal(1), WANTED), (molecule, WANTED[:3]), (slab, WANTED[:3])]:
        (whole,) = Predictor(model)([structure], wanted)
        (found,) = Predictor(engine, batch_size=1)([structure], wanted)
        for name in wanted:
            right = getattr(whole, name)
            atol = 1e-5 * np.abs(right).max()
            np.testing.assert_allclose(getattr(found, name), right, rtol=0, atol=atol)


def test_a_halo_that_is_too_thin_is_wrong(monkeypatch: pytest.MonkeyPatch):
    model, structure = model_of(), crystal()
    (whole,) = Predictor(model)([structure], WANTED)
    monkeypatch.setattr("geojax.inference.partition.receptive_hops", lambda model: 1)
    engine = partitioned(model, pieces=4, devices=1)
    (found,) = Predictor(engine, batch_size=1)([structure], WANTED)
    assert np.abs(found.forces - whole.forces).max() > 1e-4 * np.abs(whole.forces).max()


def test_the_calculator_takes_it():
    from geojax.datasets import to_ase

    model, atoms = model_of(), to_ase(crystal())
    found = {}
    for name, thing in {"whole": model, "pieces": partitioned(model, pieces=2, devices=1)}.items():
        atoms.calc = calculator(thing)
        found[name] = atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy()
    for left, right in zip(found["pieces"], found["whole"], strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-11 * np.abs(right).max())


def test_pieces_share_out_the_atoms_and_have_the_edges_of_the_whole():
    graph = sample(crystal(), 3.0).graph
    pieces = pieces_of(graph, 5, 2, 3.0)
    own = np.concatenate([piece.atoms[: piece.own] for piece in pieces])
    assert sorted(own) == list(range(64))
    assert {piece.own for piece in pieces} <= {12, 13}
    degree = np.bincount(graph.receivers, minlength=64)
    for piece in pieces:
        part = piece.graph
        assert (np.diff(part.receivers) >= 0).all()
        mine = np.bincount(part.receivers, minlength=len(piece.atoms))
        np.testing.assert_array_equal(mine[: piece.own], degree[piece.atoms[: piece.own]])
        x = part.nodes["positions"]
        lengths = np.linalg.norm(x[part.receivers] - x[part.senders], axis=1)
        assert 0 < lengths.max() <= 3.0


def test_what_cannot_be_cut_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="a multiple"):
        partitioned(model, pieces=3, devices=2)
    with pytest.raises(ValueError, match="devices that exist"):
        partitioned(model, devices=99)
    with pytest.raises(ValueError, match="predicts energy, targets.mu"):
        both = (Output(), Output("targets.mu"))
        partitioned(model.replace_card(outputs=both), pieces=2, devices=1)
    with pytest.raises(ValueError, match="finite number of edges"):
        partitioned(Model(EGNN(), {}, model.card), pieces=2, devices=1)
    engine = partitioned(model, pieces=2, devices=1)
    with pytest.raises(ValueError, match="give batch_size=1"):
        Predictor(engine)([crystal(1), crystal(1)], WANTED)
    with pytest.raises(ValueError, match="got 1 atoms for 2 pieces"):
        Predictor(engine)([Structure(np.zeros((1, 3)), np.array([14]))], ("energy",))


EIGHT = """
import sys
import jax
import numpy as np
from geojax.inference import Predictor
from geojax.inference.partition import on_pieces, partitioned, pieces_of, stacked
from jax.sharding import Mesh
from tests.inference.test_partition import WANTED, assert_equal, crystal, model_of

dtype, tolerance = sys.argv[1], float(sys.argv[2])
assert len(jax.devices()) == 8
model, structure = model_of(dtype=dtype), crystal(8)
assert len(structure) == 4096
(whole,) = Predictor(model)([structure], WANTED)
predictor = Predictor(partitioned(model), batch_size=1)
(found,) = predictor([structure], WANTED)
assert_equal(found, whole, tolerance)

def bytes_of(devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("piece",))
    (ready,) = predictor._samples([structure])
    with jax.enable_x64(dtype == "float64"):
        graphs = stacked(pieces_of(ready.graph, devices, 2, 3.0), mesh, dtype)
        run = jax.jit(on_pieces(model, mesh, forces=True, stress=True))
        memory = run.lower(model.params, graphs).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes

one, eight = bytes_of(1), bytes_of(8)
print(f"memory of a device: {one / 1e6:.1f} MB alone, {eight / 1e6:.1f} MB of eight")
for name in WANTED:
    left, right = getattr(found, name), getattr(whole, name)
    print(name, np.abs(left - right).max() / np.abs(right).max())
assert eight < one / 3
"""


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_eight_devices_give_what_one_gives_with_less_memory(dtype: str, tolerance: float):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "GEOJAX_TYPECHECK": "0"}
    run = subprocess.run(
        [sys.executable, "-c", EIGHT, dtype, str(tolerance)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
