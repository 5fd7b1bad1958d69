"""The three shortest lattice vectors: by search, of any cell, turned, mirrored, strained."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from geojax.nn import shortest_vectors

RNG = np.random.default_rng(0)
shortest = jax.jit(shortest_vectors)
SYMMETRIC = {
    "cubic": np.eye(3) * 4,
    "fcc": np.array([[0.0, 2, 2], [2, 0, 2], [2, 2, 0]]),
    "bcc": np.array([[-1.5, 1.5, 1.5], [1.5, -1.5, 1.5], [1.5, 1.5, -1.5]]),
    "hexagonal": np.array([[3, 0, 0], [-1.5, 1.5 * 3**0.5, 0], [0, 0, 5.0]]),
    "orthorhombic": np.diag([3.0, 4, 5]),
    "tetragonal, flat": np.diag([4.0, 4, 2.5]),
}


def rotation(rng) -> np.ndarray:
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return matrix * np.sign(np.linalg.det(matrix))


def another_basis(rng) -> np.ndarray:
    """Integers with determinant 1 or -1."""
    matrix = np.eye(3, dtype=int)[rng.permutation(3)]
    for i, j in itertools.permutations(range(3), 2):
        matrix[i] += rng.integers(-3, 4) * matrix[j]
    return matrix


N = np.array([n for n in itertools.product(range(-4, 5), repeat=3) if n > (0, 0, 0)])


def generic(count: int) -> np.ndarray:
    """Nearly reduced cells without vectors of one length or at right angles."""
    found = []
    while len(found) < count:
        cell = 4 * (np.diag([1, 1.2, 1.4]) + 0.25 * RNG.uniform(-1, 1, (3, 3)))
        lengths = np.sort(np.linalg.norm(N @ cell, axis=1))[:8]
        vectors = (N @ cell)[np.argsort(np.linalg.norm(N @ cell, axis=1))][:8]
        cosines = vectors @ vectors[0] / lengths / lengths[0]
        if np.diff(np.log(lengths)).min() > 0.005 and np.abs(cosines).min() > 0.005:
            found.append(cell)
    return np.array(found)


def by_search(cell: np.ndarray) -> np.ndarray:
    """Lengths of the three, among all sums of a nearly reduced cell."""
    vectors = N @ cell
    vectors = vectors[np.argsort(np.linalg.norm(vectors, axis=1))]
    found = vectors[:1]
    for vector in vectors:
        more = np.vstack([found, vector])
        if len(more) <= 3 and np.linalg.matrix_rank(more, tol=1e-6) == len(more):
            found = more
    return np.linalg.norm(found, axis=1)


def test_they_are_the_shortest_and_oriented_as_stated(x64):
    cells = np.concatenate([generic(40), np.array(list(SYMMETRIC.values()))])
    e = np.asarray(shortest(np.array([another_basis(RNG) @ cell for cell in cells])))
    np.testing.assert_allclose(
        np.linalg.norm(e, axis=-1), [by_search(cell) for cell in cells], rtol=1e-3
    )
    volume = np.linalg.det(e)
    np.testing.assert_allclose(volume, np.abs(np.linalg.det(cells)), rtol=1e-9)  # and right-handed
    length = np.linalg.norm(e, axis=-1)
    cosines = np.einsum("gax,gx->ga", e, e[:, 0]) / length / length[:, :1]
    assert cosines.min() > -1e-3
    inside = np.linalg.solve(cells.transpose(0, 2, 1), e.transpose(0, 2, 1))
    np.testing.assert_allclose(inside, np.round(inside), atol=1e-9)


def test_every_cell_of_a_lattice_gives_the_same(x64):
    cells = generic(46)
    others = np.array([another_basis(RNG) @ cell for cell in cells])
    assert np.abs(others - cells).max() > 10
    np.testing.assert_allclose(shortest(others), shortest(cells), atol=1e-9)


def test_they_turn_with_the_crystal_and_mirror_images_are_reversed():
    """Also where vectors are equally short or at right angles, in float32."""
    cells = np.array([*SYMMETRIC.values(), *generic(4)])
    turned = [cell @ rotation(RNG).T for cell in cells for _ in range(20)]
    e = np.asarray(shortest(np.asarray(np.repeat(cells, 20, 0), np.float32)))
    after = np.asarray(shortest(np.asarray(turned, np.float32)))
    products = lambda e: np.einsum("gax,gbx->gab", e, e)
    np.testing.assert_allclose(products(after), products(e), atol=2e-4)
    assert (np.linalg.det(after) > 0).all()

    mirror = np.diag([1.0, 1, -1])
    mirrored = shortest(np.asarray(np.repeat(cells, 20, 0) @ mirror, np.float32))
    np.testing.assert_allclose(mirrored, -e @ mirror, atol=1e-5)


def test_they_follow_a_strain(x64):
    """Also in a cube, where the smallest strain makes the vectors differ."""
    cell = np.concatenate([SYMMETRIC["cubic"][None], generic(1)])
    strain = RNG.normal(size=(3, 3))
    change_of = jax.jit(lambda cell, change: jax.jvp(shortest_vectors, (cell,), (change,)))
    e, change = change_of(cell, cell @ strain)
    np.testing.assert_allclose(change, e @ strain, atol=1e-12)
    after = shortest(cell @ (np.eye(3) + 1e-6 * strain))
    np.testing.assert_allclose(after - e, 1e-6 * change, atol=1e-12)


def test_without_a_cell_they_are_zero():
    cells = jnp.asarray(np.stack([np.zeros((3, 3)), np.eye(3)]), jnp.float32)
    e = shortest(cells)
    assert not e[0].any() and e[1].any()
    slope = jax.jit(jax.grad(lambda cells: jnp.sum(shortest_vectors(cells) ** 2)))(cells)
    np.testing.assert_allclose(slope, 2 * cells)
