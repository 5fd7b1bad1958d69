"""The symmetric contraction as a layer: weights by species and their scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn.linear import FEW_SPECIES
from geojax.nn.symmetric import SymmetricContraction
from geojax.products import symmetric_blocks, symmetric_contraction
from geojax.so3 import random_rotation, rotate

CHANNELS = 2


def layer_and_input(key, kinds, method="cg", nodes=6):
    x = jax.random.normal(key, (nodes, 9, CHANNELS))
    species = jax.nn.one_hot(jnp.array([0, 1, 2, 1, 0, 2])[:nodes], kinds)
    layer = SymmetricContraction(lmax=1, correlation=2, method=method)
    return layer, layer.init(key, x, species), x, species


@pytest.mark.parametrize("kinds", [3, FEW_SPECIES + 2])
def test_each_species_has_its_own_weights(key, kinds):
    layer, params, x, species = layer_and_input(key, kinds)
    species = species.at[5].set(0)
    out = layer.apply(params, x, species)
    weights = params["params"]["weights"]
    assert weights.shape == (kinds, symmetric_blocks(2, 1, 2)[-1].rows.stop, CHANNELS)
    scaled = np.array(weights)
    for block in symmetric_blocks(2, 1, 2):
        scaled[:, block.rows] /= block.rows.stop - block.rows.start
    for node in range(5):
        own = jnp.asarray(scaled[np.argmax(species[node])])
        expected = symmetric_contraction(x[node], own, lmax=1, correlation=2)
        np.testing.assert_allclose(out[node], expected, rtol=1e-5, atol=1e-5)
    assert not np.asarray(out[5]).any()


@pytest.mark.parametrize("kinds", [3, FEW_SPECIES + 2])
def test_a_node_of_no_species_is_not_a_number(key, kinds):
    layer, params, x, species = layer_and_input(key, kinds)
    with jax.debug_nans(False):
        missing = np.isnan(layer.apply(params, x, species.at[2].set(jnp.nan))).all((1, 2))
    np.testing.assert_array_equal(missing, np.arange(6) == 2)


@pytest.mark.parametrize("method", ["cg", "gaunt"])
def test_commutes_with_rotations_and_reflections(key, method):
    layer, params, x, species = layer_and_input(key, 3, method)
    turn = random_rotation(key, improper=True)
    after = layer.apply(params, rotate(turn, x), species)
    np.testing.assert_allclose(after, rotate(turn, layer.apply(params, x, species)), atol=2e-5)
