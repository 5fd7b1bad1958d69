"""Feed-forward networks of nodes: gates are exact, grids approach the exact answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn import FEED_FORWARDS, GridFeedForward, on_sphere
from geojax.products import tensor_product
from geojax.so3 import paths, random_rotation, rotate
from geojax.so3.sphere import gaunt_weight

LMAX, C = 2, 3


def parameters(layer, x):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), shapes)


def test_a_square_on_the_sphere_is_the_product_of_the_signals(x64, key):
    """Exact when the quadrature resolves three factors of degree lmax."""
    x = jax.random.normal(key, (4, 9, C))
    found = on_sphere(x, lambda values: values * values, degree=3 * LMAX)
    weights = jnp.asarray([gaunt_weight(path) for path in paths(LMAX, LMAX, LMAX)])
    weights = jnp.broadcast_to(weights[:, None], (4, len(weights), C))
    expected = tensor_product(x, x, weights, lmax=LMAX, method="cg") / (LMAX + 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def error(layer, x, turn):
    """How far a layer is from commuting with a rotation."""
    params, apply = parameters(layer, x), jax.jit(layer.apply)
    expected = rotate(turn, apply(params, x))
    return np.abs(apply(params, rotate(turn, x)) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("kind", FEED_FORWARDS)
def test_commutes_with_rotations(x64, key, kind):
    x, turn = jax.random.normal(key, (5, 9, C)), random_rotation(key, improper=True)
    make, exact = FEED_FORWARDS[kind]
    if exact:
        assert error(make(4, 2, None, "layer"), x, turn) < 1e-13
        return
    coarse, fine = (error(make(4, 2, degree, "layer"), x, turn) for degree in (8, 24))
    assert 1e-9 < coarse < 0.1 and fine < 0.01 * coarse


def test_scalars_of_a_grid_network_do_not_pass_the_grid(x64, key):
    x = jax.random.normal(key, (5, 9, C))
    layer = GridFeedForward(4, 2)
    params, apply = parameters(layer, x), jax.jit(layer.apply)
    changed = x.at[:, 1:].multiply(-2.0)
    np.testing.assert_array_equal(apply(params, changed)[:, 0], apply(params, x)[:, 0])
    assert np.abs(apply(params, changed) - apply(params, x))[:, 1:].min() > 1e-6
