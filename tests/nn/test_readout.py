"""Readout: the order of an output, its turn with the features, and irreps that are not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irreps

from geojax import so3
from geojax.nn.readout import Readout, as_blocks, counts, in_order


def test_blocks_are_the_degrees_of_features(key):
    x = jax.random.normal(key, (4, 9, 2))
    blocks = as_blocks(x)
    assert [str(i) for i in blocks] == ["0e", "1o", "2e"]
    assert [str(i) for i in as_blocks(x, pseudo=True)] == ["0o", "1e", "2o"]
    np.testing.assert_array_equal(jnp.concatenate(list(blocks.values()), -2), x)


def test_an_output_has_its_channels_in_the_order_that_was_asked_for(key):
    irreps = "1x1o+2x0e+1x1o"
    assert {str(i): n for i, n in counts(irreps).items()} == {"1o": 2, "0e": 2}
    x = {i: jax.random.normal(key, (3, i.dim, n)) for i, n in counts(irreps).items()}
    out = in_order(x, irreps)
    vectors, scalars = x[Irreps("1o")[0].ir], x[Irreps("0e")[0].ir]
    expected = [vectors[..., 0], scalars[:, 0, :], vectors[..., 1]]
    np.testing.assert_array_equal(out.array, np.concatenate(expected, -1))
    assert str(out.irreps) == irreps


def test_an_output_turns_as_its_irreps_say(key, x64):
    x = jax.random.normal(key, (3, 9, 4), jnp.float64)
    layer = Readout("2x1o+0e+2e")
    params = layer.init(key, as_blocks(x))
    turn = so3.random_rotation(key, dtype=jnp.float64)
    turned = layer.apply(params, as_blocks(so3.rotate(turn, x)))
    expected = layer.apply(params, as_blocks(x)).transform_by_matrix(turn)
    np.testing.assert_allclose(turned.array, expected.array, atol=1e-12)


def test_an_irrep_that_is_not_there_is_named(key):
    x = as_blocks(jnp.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="with 2e"):
        Readout("0e+2e").init(key, x)
