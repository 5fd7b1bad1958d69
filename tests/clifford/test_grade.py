"""Grades: in and out, the three involutions, and one value per part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import (
    cl,
    conjugate,
    embed,
    expand,
    geometric_product,
    involute,
    of_grade,
    project,
    reverse,
    sums,
)

RNG = np.random.default_rng(0)
SPACETIME = cl(1, 3)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def test_a_grade_goes_in_and_comes_out(x64):
    values = draw(2, 6, 3)
    x = embed(values, SPACETIME, 2)
    assert x.shape == (2, 16, 3)
    np.testing.assert_array_equal(of_grade(x, SPACETIME, 2), values)
    np.testing.assert_array_equal(project(x, SPACETIME, (2,)), x)
    assert not project(x, SPACETIME, (0, 1, 3, 4)).any()
    with pytest.raises(ValueError, match="has 4 components"):
        embed(values, SPACETIME, 1)


def test_involutions_turn_products_round_or_keep_them(x64):
    x, y = draw(3, 16, 2), draw(3, 16, 2)
    product = lambda a, b: geometric_product(a, b, SPACETIME)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12)
    r, i, c = (lambda a, f=f: f(a, SPACETIME) for f in (reverse, involute, conjugate))
    close(r(product(x, y)), product(r(y), r(x)))
    close(i(product(x, y)), product(i(x), i(y)))
    close(c(x), r(i(x)))
    for f in (r, i, c):
        close(f(f(x)), x)
    v = embed(draw(3, 4, 2), SPACETIME, 1)
    close(r(v), v)
    close(i(v), -v)


@pytest.mark.parametrize("modulo", [None, 4, 2])
def test_sums_are_the_transpose_of_expand(modulo, x64):
    algebra = cl(5)
    part_of = np.array([k if modulo is None else k % modulo for k in algebra.grades])
    values, x = draw(2, part_of.max() + 1, 3), draw(2, 32, 3)
    np.testing.assert_array_equal(expand(values, algebra, modulo), values[:, part_of])
    expected = np.stack([x[:, part_of == part].sum(1) for part in range(part_of.max() + 1)], 1)
    np.testing.assert_allclose(sums(x, algebra, modulo), expected, atol=1e-12)
    pulled = jax.vjp(lambda v: expand(v, algebra, modulo), values)[1](x)[0]
    np.testing.assert_allclose(pulled, expected, atol=1e-12)
    pulled = jax.vjp(lambda x: sums(x, algebra, modulo), x)[1](values)[0]
    np.testing.assert_array_equal(pulled, values[:, part_of])
