"""On the grid and by every other way, the product of two signals is the product of their values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, tensor_product
from geojax.so3 import harmonics

EVEN = [name for name, entry in PRODUCTS.items() if entry.family == "gaunt"]


@pytest.mark.parametrize("name", EVEN)
@pytest.mark.parametrize("lx, ly", [(1, 1), (3, 2), (0, 2)])
def test_values_of_the_product_are_products_of_values(x64, key, name, lx, ly):
    """At points that no grid knows: nothing is lost if the result has all lx + ly degrees."""
    x, y, points = (
        jax.random.normal(key, shape) for shape in (((lx + 1) ** 2, 2), ((ly + 1) ** 2, 2), (5, 3))
    )
    value = lambda a, l: harmonics(points, l) @ a
    out = tensor_product(x, y, lmax=lx + ly, method=name)
    np.testing.assert_allclose(value(out, lx + ly), value(x, lx) * value(y, ly), atol=1e-12)


@pytest.mark.parametrize("name", EVEN)
def test_the_square_of_a_vector_has_no_vector(x64, key, name):
    """1 x 1 -> 1 is antisymmetric, and products of signals are symmetric."""
    a, b = jax.random.normal(key, (2, 4, 1)).at[:, 0].set(0)
    out = tensor_product(a, b, lmax=1, method=name)
    np.testing.assert_allclose(out, tensor_product(b, a, lmax=1, method=name), atol=1e-14)
    np.testing.assert_allclose(out[1:], 0, atol=1e-14)
    np.testing.assert_allclose(out[0], jnp.vdot(a, b), atol=1e-14)


@pytest.mark.parametrize("name", [name for name in EVEN if name != "vector-signal"])
def test_antisymmetric_couplings_are_refused(key, name):
    x = jax.random.normal(key, (4, 1))
    for parity in ("odd", "all"):
        with pytest.raises(ValueError, match="no cross product; got parity=.*vector-signal"):
            tensor_product(x, x, lmax=1, method=name, parity=parity)
