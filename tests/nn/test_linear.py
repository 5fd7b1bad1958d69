"""Equivariant linear layers against e3nn-jax, by hand, and under rotations."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep
from e3nn_jax.legacy import FunctionalFullyConnectedTensorProduct

from geojax.nn.linear import FEW_SPECIES, Linear, LinearBlocks, SpeciesLinear
from geojax.so3 import random_rotation, rotate, to_irreps, wigner_d

S, V, T = Irrep(0, 1), Irrep(1, -1), Irrep(2, 1)


def blocks(key, nodes=6, channels=(5, 4, 3)):
    keys = jax.random.split(key, 3)
    return {
        irrep: jax.random.normal(k, (nodes, 2 * irrep.l + 1, c))
        for irrep, k, c in zip((S, V, T), keys, channels, strict=True)
    }


@pytest.mark.slow
def test_features_mix_as_in_e3nn(key):
    """Weights, path normalisation and order are those of e3nn's own layer."""
    x = jax.random.normal(key, (6, 9, 4))
    layer = Linear(3)
    params = layer.init(key, x)
    theirs = e3nn.FunctionalLinear(to_irreps(x).irreps, "3x0e+3x1o+3x2e")
    weights = [params["params"]["kernel"][l] for l in range(3)]
    expected = jax.vmap(lambda row: theirs(weights, row))(to_irreps(x))
    np.testing.assert_allclose(
        to_irreps(layer.apply(params, x)).array, expected.array, rtol=1e-5, atol=1e-6
    )


def test_features_commute_with_rotations(key):
    x = jax.random.normal(key, (6, 9, 4))
    layer = Linear(3, bias=True)
    params = jax.tree.map(lambda p: p + 0.3, layer.init(key, x))
    turn = random_rotation(key, improper=True)
    after = layer.apply(params, rotate(turn, x))
    np.testing.assert_allclose(after, rotate(turn, layer.apply(params, x)), atol=2e-5)


def test_blocks_without_a_width_are_dropped(key):
    x = blocks(key)
    layer = LinearBlocks({S: 2, T: 7})
    params = layer.init(key, x)
    out = layer.apply(params, x)
    assert {i: v.shape for i, v in out.items()} == {S: (6, 1, 2), T: (6, 5, 7)}
    np.testing.assert_allclose(out[T], x[T] @ params["params"]["2e"] / np.sqrt(3), atol=1e-6)


@pytest.mark.parametrize("kinds", [3, FEW_SPECIES + 2])
def test_each_species_has_its_own_matrix(key, kinds):
    x = blocks(key)
    species = jnp.array([0, 1, 2, 1, 0, 2])
    layer = SpeciesLinear({S: 2, V: 3})
    one_hot = jax.nn.one_hot(species, kinds).at[5].set(0)
    params = layer.init(key, x, one_hot)
    out = layer.apply(params, x, one_hot)
    for node in range(5):
        own = params["params"]["1o"][species[node]]
        expected = x[V][node] @ own / np.sqrt(4 * kinds)
        np.testing.assert_allclose(out[V][node], expected, atol=1e-6)
    assert not np.asarray(out[S][5]).any() and T not in out


@pytest.mark.parametrize("kinds", [3, FEW_SPECIES + 2])
def test_a_node_of_no_species_is_not_a_number(key, kinds):
    x = blocks(key)
    with jax.debug_nans(False):
        one_hot = jax.nn.one_hot(jnp.zeros(6, int), kinds).at[2].set(jnp.nan)
        layer = SpeciesLinear({V: 3})
        params = layer.init(key, x, one_hot)
        missing = np.isnan(layer.apply(params, x, one_hot)[V]).all((1, 2))
    np.testing.assert_array_equal(missing, np.arange(6) == 2)


def test_species_matrices_are_the_tensor_product_with_the_one_hot_species(key):
    """e3nn's fully connected tensor product of 4x1o with 3x0e, with its normalisation."""
    x, one_hot = blocks(key), jax.nn.one_hot(jnp.array([0, 1, 2, 1, 0, 2]), 3)
    layer = SpeciesLinear({V: 3})
    params = layer.init(key, x, one_hot)
    theirs = FunctionalFullyConnectedTensorProduct("4x1o", "3x0e", "3x1o")
    weights = [jnp.moveaxis(params["params"]["1o"], 0, 1)]
    features = jnp.swapaxes(x[V], -1, -2).reshape(6, 12)
    features, kinds = e3nn.IrrepsArray("4x1o", features), e3nn.IrrepsArray("3x0e", one_hot)
    expected = jax.vmap(lambda a, b: theirs.left_right(weights, a, b).array)(features, kinds)
    out = jnp.swapaxes(layer.apply(params, x, one_hot)[V], -1, -2).reshape(6, 9)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_blocks_commute_with_rotations(key):
    x = blocks(key)
    turn = wigner_d(random_rotation(key, improper=True), 2)
    rotated = {i: jnp.einsum("ab,nbc->nac", turn[i.l], v) for i, v in x.items()}
    layer = LinearBlocks({S: 2, V: 2, T: 2})
    params = layer.init(key, x)
    after, before = layer.apply(params, rotated), layer.apply(params, x)
    for i in (S, V, T):
        np.testing.assert_allclose(
            after[i], jnp.einsum("ab,nbc->nac", turn[i.l], before[i]), atol=1e-5
        )
