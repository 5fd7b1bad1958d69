"""The function of edge vectors says what the model says, for all atoms and for the first ones."""

import jax
import numpy as np
from geojax_lammps.comparison import small_structure
from geojax_lammps.program import OUTPUTS, edge_program

from geojax.graphs import neighbor_list
from geojax.inference import Predictor
from tests.inference.test_elasticity import springs
from tests.test_potential import Springs


def inputs_of(structure, cutoff: float, spare: int):
    """Of `edge_program`, with rows of padding."""
    edges = neighbor_list(structure, cutoff)
    x, n, e = structure.positions, len(structure), len(edges.senders)
    vectors = x[edges.receivers] - x[edges.senders] + edges.shifts @ structure.cell
    filled = lambda values, rest: np.append(values, [rest] * spare).astype(np.int32)
    return (
        filled(structure.species, 0),
        np.append(vectors, np.zeros((spare, 3)), 0),
        filled(edges.senders, n),
        filled(edges.receivers, n),
        np.array([n, n, e], np.int32),
    )


def test_the_program_of_edges_is_the_model():
    model = springs(Springs())
    structure = small_structure(model)
    (expected,) = Predictor(model)([structure], ("energies", "forces", "stress"))
    for spare in (1, 40):
        with jax.enable_x64(True):
            given = inputs_of(structure, model.network.cutoff, spare)
            found = jax.jit(edge_program(model))(*given)
        n, e = given[4][1:]
        energies, g = (np.asarray(found[name]) for name in OUTPUTS)
        np.testing.assert_allclose(energies[:n], expected.energies, rtol=1e-14)
        assert not energies[n:].any() and not g[e:].any()
        forces = np.zeros((n, 3))
        np.add.at(forces, given[2][:e], g[:e])
        np.subtract.at(forces, given[3][:e], g[:e])
        np.testing.assert_allclose(forces, expected.forces, atol=1e-13)
        stress = given[1][:e].T @ g[:e] / structure.volume
        np.testing.assert_allclose(stress, expected.stress, atol=1e-14)


def test_energies_of_local_atoms_alone_are_summed():
    model = springs(Springs())
    given = inputs_of(small_structure(model), model.network.cutoff, 2)
    with jax.enable_x64(True):
        run = jax.jit(edge_program(model))
        whole, part = run(*given), run(*given[:4], np.array([2, *given[4][1:]], np.int32))
    np.testing.assert_array_equal(part["energies"][:2], whole["energies"][:2])
    assert not np.asarray(part["energies"][2:]).any()
    kept = given[3] < 2  # springs of an atom are the edges that end at it
    np.testing.assert_array_equal(part["gradient"][kept], whole["gradient"][kept])
    assert not np.asarray(part["gradient"])[~kept].any()
