"""Quadratures, generators, and the weights of products and brackets of signals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from geojax.so3 import (
    bracket_weight,
    clebsch_gordan,
    degrees,
    gaunt_weight,
    harmonics,
    paths,
    slices,
    wigner_d,
)
from geojax.so3.harmonics import harmonics_table
from geojax.so3.sphere import generators, hemisphere, rotation_derivatives, sphere


@pytest.mark.parametrize("degree", [0, 1, 5, 8, 13, 24])
def test_sphere_integrates_its_degree(degree):
    """All harmonics but the first have mean zero; of the next degree some are wrong."""
    grid = sphere(degree)
    means = grid.weights @ harmonics_table(grid.points, degree + 1)
    np.testing.assert_allclose(np.linalg.norm(grid.points, axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(means[: (degree + 1) ** 2], np.eye((degree + 1) ** 2)[0], atol=1e-14)
    assert np.abs(means[(degree + 1) ** 2 :]).max() > 1e-3


@pytest.mark.parametrize("degree", [0, 2, 3, 6, 8, 12, 24])
def test_hemisphere_integrates_even_harmonics(degree):
    grid = hemisphere(degree)
    means = grid.weights @ harmonics_table(grid.points, degree)
    even = degrees(degree) % 2 == 0
    np.testing.assert_allclose(means[even], np.eye((degree + 1) ** 2)[0][even], atol=1e-14)
    assert len(grid.points) <= (len(sphere(degree).points) + degree + 1) / 2 + 1


@pytest.mark.parametrize("l", range(6))
def test_generators_generate_wigner_matrices(x64, l):
    vector = np.array([0.3, -0.5, 0.8])
    matrix = Rotation.from_rotvec(vector).as_matrix()
    exponential = expm(np.tensordot(vector, generators(l), 1))
    np.testing.assert_allclose(exponential, wigner_d(jnp.asarray(matrix), l)[l], atol=1e-12)


@pytest.mark.parametrize("path", paths(4, 4, 4, parity="all"), ids=str)
def test_weights_equal_integrals(path):
    """Of Y Y Y, and of Y n.(grad Y x grad Y); each path gives a multiple of its coupling tensor."""
    grid = sphere(12)
    rows = [slices(4)[l] for l in path]
    table, turned = harmonics_table(grid.points, 4), rotation_derivatives(grid.points, 4)
    mean = lambda a, b: np.einsum(
        "p,pi,pj,pk->ijk", grid.weights, a[:, rows[0]], b[:, rows[1]], table[:, rows[2]]
    )
    tensor = np.sqrt(2 * path.l3 + 1) * clebsch_gordan(*path)
    bracket = mean(turned[0], turned[1]) - mean(turned[1], turned[0])
    np.testing.assert_allclose(mean(table, table), gaunt_weight(path) * tensor, atol=1e-13)
    np.testing.assert_allclose(bracket, bracket_weight(path) * tensor, atol=1e-12)


def test_rotation_derivatives_equal_autodiff(x64):
    """The two components of n x grad Y, so |grad Y|^2 is the sum of their squares."""
    points = np.random.default_rng(0).normal(size=(5, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    gradients = jax.jit(jax.vmap(jax.jacfwd(lambda n: harmonics(n, 3))))(jnp.asarray(points))
    expected = np.linalg.norm(gradients, axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(rotation_derivatives(points, 3), axis=0), expected, atol=1e-12
    )


def test_product_and_bracket_reach_every_path():
    """No weight is zero by accident: with both, all paths to degree 12 are there."""
    for path in paths(12, 12, 12, parity="all"):
        even = sum(path) % 2 == 0
        assert (gaunt_weight(path) > 1e-3) == even
        assert (bracket_weight(path) > 1e-3) != even
