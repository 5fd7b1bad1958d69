"""The layout of features, and the way to e3nn's type and back."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax.so3 import degree, degrees, expand_by_degree, from_irreps, slices, to_irreps


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_degree():
    assert [degree(jnp.zeros(((l + 1) ** 2, 1))) for l in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(5, 2), (0, 2), (9,)])
def test_degree_refuses_other_shapes(untyped, shape):
    with pytest.raises(ValueError, match=r"\(lmax\+1\)\*\*2, channel\]; got shape"):
        degree(jnp.zeros(shape))


def test_rows_of_a_degree():
    np.testing.assert_array_equal(degrees(2), [0, 1, 1, 1, 2, 2, 2, 2, 2])
    for l, rows in enumerate(slices(4)):
        assert (degrees(4)[rows] == l).all()
    assert sum(rows.stop - rows.start for rows in slices(4)) == 25


def test_expand_by_degree(key):
    values = jax.random.normal(key, (2, 4, 3))
    expected = np.asarray(values)[:, degrees(3)]
    np.testing.assert_array_equal(expand_by_degree(values), expected)
    gradient = jax.grad(lambda v: expand_by_degree(v).sum())(values)
    expected = np.broadcast_to((2 * np.arange(4) + 1.0)[:, None], (2, 4, 3))
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("pseudo, irreps", [(False, "3x0e+3x1o+3x2e"), (True, "3x0o+3x1e+3x2o")])
def test_to_irreps_and_back(key, pseudo, irreps):
    features = jax.random.normal(key, (2, 9, 3))
    array = to_irreps(features, pseudo=pseudo)
    assert str(array.irreps) == irreps
    np.testing.assert_array_equal(array.array[:, 3:6], features[:, 1:4, 0])
    np.testing.assert_array_equal(from_irreps(array, pseudo=pseudo), features)


def test_absent_degrees_are_zero():
    vectors = IrrepsArray("2x1o", jnp.arange(6.0)[None])
    expected = [[0, 0], [0, 3], [1, 4], [2, 5]]
    np.testing.assert_array_equal(from_irreps(vectors)[0], expected)


def test_repeated_irreps_are_channels():
    array = IrrepsArray("1o+0e+1o+0e", jnp.arange(8.0))
    expected = [[3, 7], [0, 4], [1, 5], [2, 6]]
    np.testing.assert_array_equal(from_irreps(array), expected)


def test_other_irreps_are_refused():
    with pytest.raises(ValueError, match=r"parity \(-1\)\*\*l; got 1x1e.*pseudo=True"):
        from_irreps(IrrepsArray("1e", jnp.zeros(3)))
    with pytest.raises(ValueError, match="same number of channels; got 2x0e"):
        from_irreps(IrrepsArray("2x0e+1o", jnp.zeros(5)))
