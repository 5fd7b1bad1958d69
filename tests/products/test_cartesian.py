"""Cartesian operations against vectors and matrices, and the degrees that there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import cartesian, tensor_product
from geojax.so3 import clebsch_gordan, paths


def test_every_path_has_its_operation():
    assert set(cartesian.OPERATIONS) == set(paths(2, 2, 2, parity="all"))


@pytest.mark.parametrize("path", paths(2, 2, 2, parity="all"), ids=str)
def test_operations_are_coupling_tensors(path):
    """Every entry, not only the one that the scale is taken from."""
    unit = lambda l, m: jnp.eye(2 * l + 1)[:, m : m + 1]
    found = np.zeros([2 * l + 1 for l in path])
    for i, j in np.ndindex(*found.shape[:2]):
        tensors = (cartesian._tensor(unit(l, m), l) for l, m in ((path.l1, i), (path.l2, j)))
        found[i, j] = cartesian._couple(*tensors, path)[:, 0]
    np.testing.assert_allclose(found, clebsch_gordan(*path), atol=1e-6)


def test_rows_of_degree_two_are_traceless_matrices(key):
    block = jax.random.normal(key, (5, 1))
    matrix = np.asarray(jnp.stack([jnp.stack(row) for row in cartesian._tensor(block, 2)]))[..., 0]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_allclose(np.trace(matrix), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix), np.linalg.norm(block), rtol=1e-6)
    np.testing.assert_allclose(cartesian._rows(cartesian._tensor(block, 2), 2), block, atol=1e-6)


def test_degree_three_is_refused(key):
    x = jax.random.normal(key, (16, 1))
    with pytest.raises(ValueError, match="knows degrees up to 2; got 3 x 3 -> 1; use 'cg'"):
        tensor_product(x, x, lmax=1, method="cartesian")
