"""Weights by degree, and what products of signals can reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, kept_layout, split_kept, tensor_product
from geojax.so3 import expand_by_degree, paths

FEATURES = [name for name, entry in PRODUCTS.items() if not entry.direction]


@pytest.mark.parametrize("name", [n for n in FEATURES if PRODUCTS[n].family == "gaunt"])
def test_weights_scale_degrees(x64, key, name):
    x, y, w = (jax.random.normal(key, shape) for shape in ((4, 2), (9, 2), (2 + 3 + 3, 2)))
    of_x, of_y, of_out = (expand_by_degree(part) for part in jnp.split(w, (2, 5)))
    expected = of_out * tensor_product(of_x * x, of_y * y, lmax=2, method=name)
    np.testing.assert_allclose(tensor_product(x, y, w, lmax=2, method=name), expected, atol=1e-13)
    with pytest.raises(ValueError, match=r"one row per degree of x, of y .* \[..., 8, 2\]"):
        tensor_product(x, y, w[:5], lmax=2, method=name)


def couplings(name, lmax, parity):
    """One row per path: the bilinear map that the method makes of it."""
    rows = (lmax + 1) ** 2
    x = jnp.broadcast_to(jnp.eye(rows)[:, None, :, None], (rows, rows, rows, 1))
    y = jnp.swapaxes(x, 0, 1)
    kept = tensor_product(x, y, lmax=lmax, method=name, parity=parity, paths="keep")
    blocks = split_kept(kept, kept_layout(lmax, lmax, lmax, parity=parity))
    maps = []
    for l, block in enumerate(blocks):
        for path in range(block.shape[-3]):
            full = np.zeros((rows, rows, rows))
            full[..., l * l : (l + 1) ** 2] = block[..., path, :, 0]
            maps.append(full.ravel())
    return np.stack(maps)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize(
    "lmax, every, symmetric",
    [(1, 5, 4), (2, 15, 11), pytest.param(3, 34, 23, marks=pytest.mark.slow)],
)
def test_rank_of_reachable_couplings(x64, name, lmax, every, symmetric):
    """How many independent couplings there are: all of them, or those with l1 + l2 + l3 even.

    The counts are those of Xie et al., "The price of freedom", 2025.
    """
    entry = PRODUCTS[name]
    if entry.lmax is not None and lmax > entry.lmax:
        pytest.skip(f"{name} ends at degree {entry.lmax}")
    full = "all" in entry.parities
    maps = couplings(name, lmax, "all" if full else "even")
    assert np.linalg.matrix_rank(maps, tol=1e-8) == (every if full else symmetric)
    assert len(paths(lmax, lmax, lmax, parity="all")) == every
