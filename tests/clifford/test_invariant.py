"""The quadratic form: against its definition, and the smooth norm where it vanishes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import (
    cl,
    geometric_product,
    quadratic_form,
    quadratic_forms,
    reverse,
    smooth_norm,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("algebra", [cl(3), cl(1, 3), cl(1, 1, 1)], ids=lambda a: str(a.metric))
def test_it_is_the_scalar_part_of_the_reversed_times_itself(algebra, x64):
    x = jnp.asarray(RNG.normal(size=(4, 2**algebra.n, 2)))
    expected = geometric_product(reverse(x, algebra), x, algebra)[:, 0]
    np.testing.assert_allclose(quadratic_form(x, algebra), expected, atol=1e-12)
    by_grade = quadratic_forms(x, algebra)
    assert by_grade.shape == (4, algebra.n + 1, 2)
    np.testing.assert_allclose(by_grade.sum(1), expected, atol=1e-12)
    np.testing.assert_allclose(quadratic_forms(x, algebra, 2).sum(1), expected, atol=1e-12)


def test_it_is_negative_for_vectors_like_space():
    x = jnp.zeros((16, 2)).at[2, 0].set(1.0).at[1, 1].set(1.0)
    np.testing.assert_array_equal(quadratic_form(x, cl(1, 3)), [-1.0, 1.0])


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_the_norm_is_smooth(dtype):
    with jax.enable_x64(dtype == "float64"):
        f = lambda x: smooth_norm(x * x)
        for x in (0.0, np.finfo(dtype).tiny, 1e-4, -2.0):
            g, point = f, jnp.asarray(x, dtype)
            assert abs(float(g(point)) - abs(x)) < 1.1e-4
            for _ in range(3):
                g = jax.grad(g)
                assert np.isfinite(g(point))
