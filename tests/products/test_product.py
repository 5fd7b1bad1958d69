"""Layouts of kept paths, the choice of a method, the table of products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import (
    PRODUCTS,
    Spec,
    kept_layout,
    product,
    split_kept,
    tensor_product,
)
from geojax.so3 import paths


def features(key, *shape):
    return jax.random.normal(key, shape)


def test_kept_layout_and_split(key):
    layout = kept_layout(1, 2, 2)
    assert layout == (2, 3, 2)
    assert sum(layout) == len(paths(1, 2, 2))
    kept = tensor_product(features(key, 5, 4, 3), features(key, 5, 9, 3), lmax=2, paths="keep")
    blocks = split_kept(kept, layout)
    assert [b.shape for b in blocks] == [(5, 2, 1, 3), (5, 3, 3, 3), (5, 2, 5, 3)]
    joined = jnp.concatenate([b.reshape(5, -1, 3) for b in blocks], 1)
    np.testing.assert_array_equal(joined, kept)


def test_split_kept_refuses_another_layout(key):
    with pytest.raises(ValueError, match=r"\(1, 1\) has 4 rows; got shape \(5, 9, 3\)"):
        split_kept(features(key, 5, 9, 3), (1, 1))


def test_auto_reads_the_table(monkeypatch):
    """The first that can be used, at the nearest number of channels and degree; else cg."""
    rows = {"1": {"1": ["cartesian", "cg"]}, "64": {"1": ["escn", "cg-pallas", "cartesian", "cg"]}}
    monkeypatch.setattr(product, "FASTEST", {jax.default_backend(): rows})
    spec = Spec(1, 1, 1, "even", "sum")
    assert product.choose(spec, 2, False) == "cartesian"
    assert product.choose(spec, 32, True) == "escn"
    assert product.choose(spec, 32, False) == "cartesian"
    assert product.choose(spec._replace(lmax_x=3), 32, False) == "cg"
    monkeypatch.setattr(product, "FASTEST", {})
    assert product.choose(spec, 2, False) == "cg"


def test_the_table_names_products():
    """Of the coupled family, for numbers of channels and degrees."""
    for table in product.FASTEST.values():
        for channels, degrees in table.items():
            for lmax, names in degrees.items():
                assert int(channels) > 0 and int(lmax) > 0
                assert {PRODUCTS[name].family for name in names} == {"coupled"}


def test_a_kernel_is_entered_once():
    with pytest.raises(ValueError, match="registered once; 'cg'"):
        product.product("cg")(PRODUCTS["cg"].kernel)
