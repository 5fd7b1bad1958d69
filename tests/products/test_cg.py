"""The two forms of the CG kernel, unrolled and path by path, are one product."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import Spec, cg, tensor_product
from geojax.products.edges import derivative
from geojax.so3 import paths

FORMS = {
    "unrolled": {"UNROLL": 10**9},
    "by path": {"UNROLL": 0},
}


@pytest.fixture
def choose(monkeypatch):
    """A function that fixes the form; the programs made before and after it are forgotten."""

    def fix(form):
        for name, value in FORMS[form].items():
            monkeypatch.setattr(cg, name, value)
        derivative.cache_clear()

    yield fix
    derivative.cache_clear()


@pytest.mark.parametrize("layout", ["sum", "keep"])
@pytest.mark.parametrize("channels_y", [1, 2])
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_forms_agree(x64, key, choose, layout, channels_y, weighted):
    """In value and in all cotangents; no path reads degree 3 of y."""
    count = len(paths(1, 3, 1))
    shapes = [(3, 4, 2), (3, 16, channels_y)] + [(3, count, 2)] * weighted
    inputs = [jax.random.normal(key, shape) for shape in shapes]

    def evaluate(form):
        choose(form)
        product = partial(tensor_product, lmax=1, paths=layout)
        value, pull = jax.vjp(product, *inputs)
        return value, *pull(jnp.cos(value))

    expected, *others = [jax.jit(lambda form=form: evaluate(form))() for form in FORMS]
    for other in others:
        for a, b in zip(other, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)


@pytest.mark.parametrize("lmax, terms", [(1, 10), (2, 83), (3, 353), (4, 1158)])
def test_number_of_terms(lmax, terms):
    """What is unrolled: the non-zero coefficients, no more."""
    assert len(cg._terms(cg.Coefficients(Spec(lmax, lmax, lmax, "even", "keep"), False))) == terms
