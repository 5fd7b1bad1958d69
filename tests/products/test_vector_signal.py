"""The bracket of signals against gradients by autodiff, and against the cross product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import tensor_product
from geojax.so3 import harmonics


@pytest.mark.parametrize("lx, ly", [(1, 1), (3, 2), (0, 2)])
def test_values_of_the_bracket(x64, key, lx, ly):
    """n . (grad x cross grad y) at points that the grid does not know."""
    x, y = jax.random.normal(key, ((lx + 1) ** 2,)), jax.random.normal(key, ((ly + 1) ** 2,))
    points = jax.random.normal(key, (5, 3))
    points = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
    out = tensor_product(x[:, None], y[:, None], lmax=lx + ly, method="vector-signal", parity="odd")

    def bracket(n):
        gradient = lambda a, l: jax.jacfwd(lambda n: harmonics(n, l) @ a)(n)
        return n @ jnp.cross(gradient(x, lx), gradient(y, ly))

    values = harmonics(points, lx + ly) @ out[:, 0]
    np.testing.assert_allclose(values, jax.vmap(bracket)(points), atol=1e-11)


def test_two_vectors_give_their_cross_product(x64, key):
    a, b = jax.random.normal(key, (2, 3))
    embed = lambda v: jnp.concatenate([jnp.zeros(1), v])[:, None]
    out = tensor_product(embed(a), embed(b), lmax=1, method="vector-signal", parity="odd")
    np.testing.assert_allclose(out[1:, 0], np.sqrt(3) * jnp.cross(a, b), atol=1e-13)


def test_even_and_odd_paths_add_up(x64, key):
    x, y = jax.random.normal(key, (2, 9, 3))
    call = lambda parity: tensor_product(x, y, lmax=2, method="vector-signal", parity=parity)
    np.testing.assert_allclose(call("all"), call("even") + call("odd"), atol=1e-13)
