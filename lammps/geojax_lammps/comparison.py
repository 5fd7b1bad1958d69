"""The program of edges against the model, and TensorFlow's numbers against jax's.

Both on six atoms in a triclinic cell. What is looked for are networks that read something else than
edges, and programs that were translated wrongly: differences far above rounding.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from geojax.graphs import Structure, neighbor_list
from geojax.inference import Predictor
from geojax.model import Model
from geojax_lammps.program import INPUTS

__all__ = [
    "SAME",
    "compare_with_model",
    "compare_with_tensorflow",
    "padded_inputs",
    "small_structure",
]

SAME = {"float32": 1e-4, "float64": 1e-10}  # relative; differences of rounding are far below


def padded_inputs(model: Model) -> tuple[np.ndarray, ...]:
    """Six atoms in a triclinic cell that have neighbours, padded, as the program takes them."""
    structure = small_structure(model)
    edges = neighbor_list(structure, model.network.cutoff)
    x = structure.positions
    vectors = x[edges.receivers] - x[edges.senders] + edges.shifts @ structure.cell
    n, e = len(x), len(vectors)
    rows = lambda values, rest: np.append(values, [rest] * 3).astype(np.int32)
    return (
        rows(structure.species, 0),
        np.concatenate([vectors, np.zeros((3, 3))]).astype(model.card.dtype),
        rows(edges.senders, n),
        rows(edges.receivers, n),
        np.array([n, n, e], np.int32),
    )


def small_structure(model: Model) -> Structure:
    rng, cutoff = np.random.default_rng(0), float(model.network.cutoff)
    length = min(0.6 * cutoff, 2.2)  # of bonds
    cell = length * np.array([[3, 0, 0], [0.3, 2, 0], [-0.2, 0.4, 1]])
    corners = np.array([[i / 3, j / 2, 0] for i in range(3) for j in range(2)])
    positions = corners @ cell + 0.07 * length * rng.normal(size=(6, 3))
    species = np.resize(np.array(model.card.elements), 6)
    return Structure(positions, species, cell, (True, True, True))


def compare_with_model(
    model: Model, found: Mapping[str, np.ndarray], inputs: tuple[np.ndarray, ...]
) -> None:
    """Refuse networks that read more of a graph than its edge vectors."""
    structure, dtype = small_structure(model), model.card.dtype
    alone = model.replace_card(E0s={})
    (expected,) = Predictor(alone)([structure], ("energies", "forces", "stress"))
    _, vectors, senders, receivers, (_, n, e) = inputs
    g = found["gradient"][:e].astype(np.float64)
    forces = np.zeros((n, 3))
    np.subtract.at(forces, receivers[:e], g)
    np.add.at(forces, senders[:e], g)
    stress = np.einsum("ex,ey->xy", vectors[:e].astype(np.float64), g) / structure.volume
    for name, value in {
        "energies": found["energies"][:n],
        "forces": forces,
        "stress": stress,
    }.items():
        want = np.asarray(getattr(expected, name))
        if not _off(value, want) <= SAME[dtype]:
            raise ValueError(
                f"the {name} of {model.card.name!r} are not functions of edge vectors and elements "
                f"alone (they differ by {np.abs(value - want).max():.2g}); use "
                "geojax.simulation.LammpsModel"
            )


def _off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1.0))


def compare_with_tensorflow(
    folder: Path, inputs: tuple[np.ndarray, ...], expected: Mapping[str, np.ndarray]
) -> None:
    tf = importlib.import_module("tensorflow")
    run = tf.saved_model.load(str(folder)).signatures["serving_default"]
    found = run(**{name: tf.constant(x) for name, x in zip(INPUTS, inputs, strict=True)})
    for name, want in expected.items():
        off = _off(found[name].numpy(), want)
        if not off <= SAME[str(want.dtype)]:
            raise RuntimeError(
                f"TensorFlow computes what jax does; {name} differ by {off:.2g} (relative); "
                "install the versions that pyproject.toml of geojax-lammps names"
            )
