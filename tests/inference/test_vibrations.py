"""Vibrations against closed forms, and the lowest ones by Lanczos against the dense matrix."""

import numpy as np
import pytest

from geojax.graphs import Structure
from geojax.inference import Predictor, lowest_vibrations, predict, vibrations
from geojax.inference.vibrations import rigid_motions
from geojax.units import QUANTUM, WAVENUMBER

from .conftest import crystal, molecule

AXIS = np.array([0.48, -0.6, 0.64])


def springs(structure: Structure, constants: dict[tuple[int, int], float]) -> np.ndarray:
    """The Hessian of springs at rest between pairs of atoms."""
    n = len(structure)
    hessian = np.zeros((n, 3, n, 3))
    for (i, j), k in constants.items():
        u = structure.positions[i] - structure.positions[j]
        block = k * np.outer(u, u) / (u @ u)
        for a, b, sign in [(i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)]:
            hessian[a, :, b] += sign * block
    return hessian


def test_two_atoms_vibrate_with_their_reduced_mass():
    pair = Structure(np.array([0 * AXIS, 1.13 * AXIS]), np.array([6, 8]))
    found = vibrations(springs(pair, {(0, 1): 119.0}), pair)
    mass = 12.011 * 15.999 / (12.011 + 15.999)
    assert found.rigid == 5
    np.testing.assert_allclose(found.frequencies, [WAVENUMBER * np.sqrt(119 / mass)], rtol=1e-12)
    np.testing.assert_allclose(found.zero_point_energy, QUANTUM / 2 * np.sqrt(119 / mass))
    ratio = found.modes[0] @ AXIS
    np.testing.assert_allclose(ratio[0] / ratio[1], -15.999 / 12.011, rtol=1e-10)


def test_a_line_of_three_has_the_textbook_stretches_and_four_modes():
    """CO2 by the valence force field: symmetric k / m_O, antisymmetric k (1 / m_O + 2 / m_C)."""
    line = Structure(np.outer([-1.16, 0, 1.16], AXIS), np.array([8, 6, 8]))
    found = vibrations(springs(line, {(0, 1): 90.0, (1, 2): 90.0}), line)
    assert found.rigid == 5 and len(found.frequencies) == 4
    stretches = np.sqrt([90 / 15.999, 90 * (1 / 15.999 + 2 / 12.011)])
    np.testing.assert_allclose(found.frequencies[2:], WAVENUMBER * stretches, rtol=1e-12)
    np.testing.assert_allclose(found.frequencies[:2], 0, atol=1e-3)  # nothing resists bending


@pytest.mark.parametrize(
    ("positions", "rigid"),
    [
        (np.zeros((1, 3)), 3),
        (np.outer([0, 1.0, 2.1, 3], AXIS), 5),
        (np.outer([0, 1.0, 2.1, 3], AXIS) + 1e-5 * np.eye(4, 3), 5),
        (np.eye(3) * 1.2, 6),
        (np.random.default_rng(0).normal(size=(5, 3)), 6),
    ],
    ids=["atom", "line", "almost a line", "triangle", "molecule"],
)
def test_rigid_motions_are_projected_out(positions, rigid):
    structure = Structure(positions + 3.0, np.array([6, 1, 8, 1, 7])[: len(positions)])
    basis = rigid_motions(structure)
    np.testing.assert_allclose(basis.T @ basis, np.eye(rigid), atol=1e-12)
    drawn = np.random.default_rng(1).normal(size=(3 * len(structure),) * 2)
    found = vibrations((drawn + drawn.T).reshape(len(structure), 3, -1, 3), structure)
    assert (found.rigid, len(found.frequencies)) == (rigid, 3 * len(structure) - rigid)
    masses = np.repeat([12.011, 1.008, 15.999, 1.008, 14.007][: len(structure)], 3)
    flat = found.modes.reshape(len(found.modes), 3 * len(structure))
    np.testing.assert_allclose(flat * np.sqrt(masses) @ basis, 0, atol=1e-12)
    np.testing.assert_allclose(flat * masses @ flat.T, np.eye(len(flat)), atol=1e-12)
    np.testing.assert_allclose(found.reduced_masses, 1 / np.square(flat).sum(1))


def test_motions_of_springs_at_rest_cost_nothing():
    """So the projection takes nothing away: these are zeros of K, and the rest stays."""
    structure = molecule(5, seed=3)
    pairs = {(i, j): 1.0 + i + j for i in range(5) for j in range(i)}
    hessian = springs(structure, pairs)
    weights = np.repeat(np.sqrt(np.where(structure.species == 1, 1.008, 12.011)), 3)
    plain = np.linalg.eigvalsh(hessian.reshape(15, 15) / np.outer(weights, weights))
    np.testing.assert_allclose(plain[:6], 0, atol=1e-12)
    found = vibrations(hessian, structure)
    np.testing.assert_allclose(found.frequencies, WAVENUMBER * np.sqrt(plain[6:]), rtol=1e-8)


def test_negative_curvature_is_an_imaginary_frequency_and_has_no_zero_point_energy():
    pair = Structure(np.array([0 * AXIS, AXIS]), np.array([1, 1]))
    found = vibrations(springs(pair, {(0, 1): -2.0}), pair, masses=np.array([2.0, 2.0]))
    np.testing.assert_allclose(found.frequencies, [-WAVENUMBER * np.sqrt(2.0)])
    assert found.zero_point_energy == 0


def test_a_crystal_has_three_rigid_motions():
    assert vibrations(np.zeros((4, 3, 4, 3)), crystal()).rigid == 3


def test_sizes_and_masses_that_do_not_fit_are_refused():
    pair = Structure(np.array([0 * AXIS, AXIS]), np.array([1, 1]))
    with pytest.raises(ValueError, match="6 x 6 entries"):
        vibrations(np.zeros((3, 3, 3, 3)), pair)
    points = Structure(np.array([0 * AXIS, AXIS]), np.array([0, 0]))
    with pytest.raises(ValueError, match="positive mass"):
        vibrations(np.zeros((2, 3, 2, 3)), points)


def test_the_lowest_vibrations_come_without_the_matrix(energy_model):
    predictor, structure = Predictor(energy_model("float64")), molecule(8, seed=1)
    (found,) = predictor([structure], ["hessian"])
    dense = vibrations(found.hessian, structure)
    lowest = lowest_vibrations(predictor, structure, 5)
    scale = np.abs(dense.frequencies).max()
    np.testing.assert_allclose(lowest.frequencies, dense.frequencies[:5], atol=1e-5 * scale)
    overlap = np.einsum("anx,bnx->ab", lowest.modes, dense.modes[:5])
    lengths = np.sqrt(np.outer(1 / lowest.reduced_masses, 1 / dense.reduced_masses[:5]))
    np.testing.assert_allclose(np.abs(np.diag(overlap / lengths)), 1, atol=1e-4)
    with pytest.raises(ValueError, match="18 vibrations; 18 were asked for"):
        lowest_vibrations(predictor, structure, 18)


def test_products_are_those_of_the_hessian(energy_model):
    model, structure = energy_model("float64"), molecule(4)
    (found,) = predict(model, [structure], ["hessian"])
    vector = np.random.default_rng(0).normal(size=(4, 3))
    product = Predictor(model).curvature(structure)(vector)
    expected = np.einsum("iajb,jb->ia", found.hessian, vector)
    np.testing.assert_allclose(product, expected, atol=1e-10)
