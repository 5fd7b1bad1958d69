"""The cosine transform against scipy's, angles against arccos, and what a trajectory is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dct

from geojax.nn import angles_between, cosine_transform, vector_count

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_the_cosine_transform_is_orthonormal_dct_2(n):
    x = RNG.normal(size=(n, 3))
    matrix = cosine_transform(n)
    np.testing.assert_allclose(matrix @ x, dct(x, axis=0, norm="ortho"), atol=1e-13)
    np.testing.assert_allclose(matrix.T @ (matrix @ x), x, atol=1e-13)  # and back again


def test_a_constant_has_one_frequency():
    np.testing.assert_allclose(cosine_transform(4) @ np.ones(4), [2, 0, 0, 0], atol=1e-15)
    with pytest.raises(ValueError, match="one value or more; got 0"):
        cosine_transform(0)


def test_angles_are_those_of_arccos(x64):
    a, b = RNG.normal(size=(2, 50, 3))
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    found = angles_between(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, np.arccos(cosine), atol=1e-12)


def test_parallel_opposite_and_no_vectors(x64):
    """Where arccos has no derivative, this one has a finite one."""
    a = jnp.asarray([[1.0, 2, 2], [1, 2, 2], [0, 0, 0], [1e-30, 0, 0]])
    b = jnp.asarray([[2.0, 4, 4], [-3, -6, -6], [1, 0, 0], [0, 1e-30, 0]])
    np.testing.assert_allclose(angles_between(a, b), [0, np.pi, 0, np.pi / 2], atol=1e-7)
    slope = jax.grad(lambda a: jnp.sum(angles_between(a, b)))(a)
    assert np.isfinite(slope).all()


def test_a_trajectory_is_polar_vectors():
    assert vector_count("10x1o") == 10 and vector_count("1o+2x1o") == 3
    for irreps in ("0e+1o", "1e", ""):
        with pytest.raises(ValueError, match="as in '10x1o'; got irreps_out"):
            vector_count(irreps)
