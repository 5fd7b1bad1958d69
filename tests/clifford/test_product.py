"""Products: the laws of the algebra, weights by hand, and every derivative against autodiff."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import (
    Algebra,
    cayley,
    cl,
    embed,
    fully_connected_product,
    geometric_product,
    inner,
    part_of_grade,
    product_paths,
    wedge,
)

RNG = np.random.default_rng(0)
ALGEBRAS = [cl(3), cl(2, 1, 1), Algebra((2.0, -0.5, 3.0))]
every_algebra = pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: str(a.metric))


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def multivectors(algebra, *shape):
    return draw(*shape[:-1], 2**algebra.n, shape[-1])


def dense(algebra, modulo=None):
    """The whole table `[path, left, right, out]`."""
    paths, part = product_paths(algebra, modulo), part_of_grade(algebra, modulo)
    found = np.zeros((len(paths), *[2**algebra.n] * 3))
    for left, right, out, value in cayley(algebra):
        grades = [algebra.grades[i] for i in (left, right, out)]
        found[paths.index(tuple(part[k] for k in grades)), left, right, out] = value
    return jnp.asarray(found)


@every_algebra
def test_the_product_is_associative_and_has_a_one(algebra, x64):
    x, y, z = (multivectors(algebra, 2, 3) for _ in range(3))
    product = lambda a, b: geometric_product(a, b, algebra)
    np.testing.assert_allclose(product(product(x, y), z), product(x, product(y, z)), atol=1e-12)
    one = jnp.zeros_like(x).at[:, 0].set(1)
    np.testing.assert_array_equal(product(one, x), x)
    np.testing.assert_array_equal(product(x, one), x)


@every_algebra
def test_vectors_anticommute_up_to_their_inner_product(algebra, x64):
    values = draw(2, algebra.n, 4)
    x, y = (embed(v, algebra, 1) for v in values[:, None])
    metric = np.array(algebra.metric, float)
    anticommutator = geometric_product(x, y, algebra) + geometric_product(y, x, algebra)
    dot = (metric[:, None] * values[0] * values[1]).sum(0)
    np.testing.assert_allclose(anticommutator[0, 0], 2 * dot, atol=1e-12)
    np.testing.assert_allclose(anticommutator[0, 1:], 0, atol=1e-12)
    # x y = x · y + x ∧ y
    np.testing.assert_allclose(inner(x, y, algebra)[0, 0], dot, atol=1e-12)
    both = inner(x, y, algebra) + wedge(x, y, algebra)
    np.testing.assert_allclose(both, geometric_product(x, y, algebra), atol=1e-12)


def test_the_wedge_of_vectors_is_a_determinant(x64):
    algebra, vectors = cl(3), draw(3, 3)
    a, b, c = (embed(v[:, None], algebra, 1) for v in vectors)
    volume = wedge(wedge(a, b, algebra), c, algebra)
    np.testing.assert_allclose(volume[7, 0], np.linalg.det(vectors), atol=1e-12)
    np.testing.assert_allclose(volume[:7], 0, atol=1e-12)
    assert not wedge(a, a, algebra).any()


def test_the_numbers_of_paths():
    assert [len(product_paths(cl(n))) for n in range(1, 6)] == [4, 10, 20, 35, 56]
    assert [len(product_paths(cl(n), 4)) for n in range(2, 8)] == [10, 20, 29, 32, 32, 32]
    assert [len(product_paths(cl(1, n - 1))) for n in range(1, 6)] == [4, 10, 20, 35, 56]
    assert product_paths(cl(3)) == product_paths(cl(3), 4)
    assert all(a < b for a, b in pairwise(product_paths(cl(4))))


@pytest.mark.parametrize(
    ("algebra", "modulo"),
    [
        (cl(3), None),
        pytest.param(cl(2, 1, 1), None, marks=pytest.mark.slow),
        (cl(3, 1), 4),
        pytest.param(cl(5), 4, marks=pytest.mark.slow),
    ],
)
def test_weighted_products_are_those_of_the_dense_table(algebra, modulo, x64):
    table = dense(algebra, modulo)
    x, y = multivectors(algebra, 2, 3), multivectors(algebra, 2, 3)
    each, mixed = draw(len(table), 3), draw(len(table), 3, 5)
    found = geometric_product(x, y, algebra, each, modulo=modulo)
    expected = np.einsum("pijk,pc,nic,njc->nkc", table, each, x, y, optimize=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = fully_connected_product(x, y, algebra, mixed, modulo=modulo)
    expected = np.einsum("pijk,pco,nic,njc->nko", table, mixed, x, y, optimize=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_derivatives_in_both_modes_and_to_third_order(x64):
    """Of products of x with itself too, against the dense table."""
    algebra = cl(1, 1)
    table = dense(algebra)
    operands = (draw(len(table), 2), multivectors(algebra, 3, 2), multivectors(algebra, 3, 2))
    slow = lambda w, x, y: jnp.einsum("pijk,pc,nic,njc->nkc", table, w, x, y, precision="highest")
    fast = lambda w, x, y: geometric_product(x, y, algebra, w)
    tangents = jax.tree.map(lambda a: draw(*a.shape), operands)

    def figures(product):
        def value(w, x, y):
            return jnp.sum(jnp.sin(product(w, x, y + x)))

        gradient = jax.grad(value, (0, 1, 2))
        along = lambda f: lambda *a: jax.jvp(f, a, tangents)[1]
        second = along(gradient)
        return jax.jit(lambda *a: (gradient(*a), second(*a), along(second)(*a)))(*operands)

    for found, expected in zip(*map(jax.tree.leaves, map(figures, (fast, slow))), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_it_maps_over_batches_and_shared_weights(x64):
    algebra = cl(2)
    w, x, y = draw(10, 2), multivectors(algebra, 3, 4, 2), multivectors(algebra, 3, 4, 2)
    product = lambda x, y: geometric_product(x, y, algebra, w)
    np.testing.assert_allclose(jax.vmap(product)(x, y), product(x, y), atol=1e-14)
    np.testing.assert_allclose(jax.vmap(product, 1, 1)(x, y), product(x, y), atol=1e-14)


def test_shapes_that_do_not_fit_are_refused():
    x = jnp.zeros((2, 8, 3))
    with pytest.raises(ValueError, match=r"\[\.\.\., 4, channel\]"):
        geometric_product(x, x, cl(2))
    with pytest.raises(ValueError, match=r"here \(20, 3, \.\.\.\)"):
        geometric_product(x, x, cl(3), jnp.zeros((19, 3)))
