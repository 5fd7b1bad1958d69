"""Versors: they reflect, they keep products and grades, in every metric, and rotate as matrices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import (
    Algebra,
    cl,
    embed,
    exp,
    geometric_product,
    inverse,
    of_grade,
    project,
    quadratic_form,
    quadratic_forms,
    random_versor,
    sandwich,
    vector_matrix,
)

RNG = np.random.default_rng(0)
ALGEBRAS = [
    cl(3),
    cl(3, 1),
    *(pytest.param(a, marks=pytest.mark.slow) for a in (cl(5), cl(2, 1, 1), Algebra((2.0, -0.5)))),
]
every_algebra = pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: str(a.metric))


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def versor(algebra, vectors, shape=()):
    return random_versor(jax.random.key(4), algebra, shape, vectors=vectors, dtype=jnp.float64)


def close(a, b):
    scale = max(1.0, float(np.abs(b).max()))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * scale)


@every_algebra
def test_they_keep_products_grades_and_the_quadratic_form(algebra, x64):
    size, n = 2**algebra.n, algebra.n

    @jax.jit
    def figures(w, x, y):
        act, product = (
            partial(sandwich, w, algebra=algebra),
            partial(geometric_product, algebra=algebra),
        )
        rows = x[:, :n]
        parts = [project(x, algebra, (k,)) for k in range(n + 1)]
        matrix = vector_matrix(w, algebra)
        turned = embed(jnp.einsum("ij,njc->nic", matrix, rows), algebra, 1)
        pairs = {
            "products": (act(product(x, y)), product(act(x), act(y))),
            "grades": (
                jnp.stack([act(part) for part in parts]),
                jnp.stack([project(act(x), algebra, (k,)) for k in range(n + 1)]),
            ),
            "form": (quadratic_forms(act(x), algebra), quadratic_forms(x, algebra)),
            "vectors": (act(embed(rows, algebra, 1)), turned),
        }
        return matrix, pairs

    metric = np.diag(algebra.metric)
    for vectors in (1, 2):
        matrix, pairs = figures(versor(algebra, vectors), *draw(2, 2, size, 3))
        close(matrix.T @ metric @ matrix, metric)
        close(np.linalg.det(matrix), (-1.0) ** vectors)
        for found, expected in pairs.values():
            close(found, expected)


def test_they_are_inverted_and_multiplied(x64):
    algebra = cl(3, 1)

    @jax.jit
    def figures(first, second, x):
        act = partial(sandwich, algebra=algebra)
        product = lambda a, b: geometric_product(a[..., None], b[..., None], algebra)[..., 0]
        one = jnp.broadcast_to(jnp.eye(1, 16)[0], first.shape)
        return {
            "product": (act(product(first, second), x), act(first, act(second, x))),
            "inverse": (act(inverse(first, algebra), act(first, x)), jnp.stack([x, x])),
            "one": (product(first, inverse(first, algebra)), one),
            "form": (jnp.abs(quadratic_form(first[..., None], algebra)), jnp.ones((2, 1))),
        }

    first, second = versor(algebra, 3, (2,)), versor(algebra, 2, (2,))
    for found, expected in figures(first, second, draw(16, 2)).values():
        close(found, expected)


def test_a_vector_reflects(x64):
    w, x = draw(3), draw(3, 4)
    unit = w / np.linalg.norm(w)
    found = sandwich(embed(w[:, None], cl(3), 1)[:, 0], embed(x, cl(3), 1), cl(3))
    close(of_grade(found, cl(3), 1), x - 2 * unit[:, None] * (unit @ x)[None, :])


def test_one_versor_for_each_entry_of_a_batch(x64):
    w, x = versor(cl(3), 2, (4,)), draw(4, 8, 2)
    found = sandwich(w, x, cl(3))
    for i in range(4):
        close(found[i], sandwich(w[i], x[i], cl(3)))
    close(sandwich(w[0], x, cl(3))[2], sandwich(w[0], x[2], cl(3)))


def test_exponentials_of_bivectors_are_rotations_and_boosts(x64):
    """exp(-angle/2 e12) turns e1 to e2; where e4² = -1, exp(-rapidity/2 e34) boosts."""
    algebra, angle, rapidity = cl(3, 1), 0.7, 1.3
    x = np.zeros((3, 16))
    x[(0, 2), algebra.blades.index((0, 1))] = -angle / 2
    x[(1, 2), algebra.blades.index((2, 3))] = -rapidity / 2
    turn, boost, both = vector_matrix(exp(jnp.asarray(x), algebra), algebra)
    c, s, ch, sh = np.cos(angle), np.sin(angle), np.cosh(rapidity), np.sinh(rapidity)
    close(turn[:2, :2], np.array([[c, -s], [s, c]]))
    close(turn[2:, 2:], np.eye(2))
    close(boost[:2, :2], np.eye(2))
    close(np.abs(boost[2:, 2:]), np.array([[ch, sh], [sh, ch]]))
    # Two planes at once: this exponential is no cosine and sine of one blade.
    close(both, turn @ boost)


def test_random_versors_need_a_vector_with_an_inverse():
    with pytest.raises(ValueError, match="not zero"):
        random_versor(jax.random.key(0), cl(0, 0, 2), vectors=1)
    with pytest.raises(ValueError, match="vectors=0"):
        random_versor(jax.random.key(0), cl(2), vectors=0)
