"""Wigner matrices: a representation, orthogonal, equal to e3nn's, right under reflections."""

import e3nn_jax
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from geojax.so3 import random_rotation, rotate, to_irreps, wigner_d
from geojax.so3.rotation import turn

LMAX = 10


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("pseudo", [False, True])
def test_is_a_representation(x64, key, pseudo):
    """D(R) D(S) = D(RS), D orthogonal, for proper and improper R and S."""
    one = random_rotation(jax.random.fold_in(key, 0), (3,))
    two = random_rotation(jax.random.fold_in(key, 1), (3,), improper=True)
    matrices = jnp.stack([one, two, one @ two])
    turn = jax.jit(lambda matrix: wigner_d(matrix, LMAX, pseudo=pseudo))
    blocks = [[block[i] for block in turn(matrices)] for i in range(3)]
    for l, (first, second, both) in enumerate(zip(*blocks, strict=True)):
        np.testing.assert_allclose(first @ second, both, atol=1e-13)
        identity = np.broadcast_to(np.eye(2 * l + 1), second.shape)
        np.testing.assert_allclose(second @ second.mT, identity, atol=1e-13)


@pytest.mark.slow
def test_equals_e3nn(x64, key):
    matrix = random_rotation(key)
    with jax.numpy_rank_promotion("allow"):
        for l, block in enumerate(wigner_d(matrix, 5)):
            expected = e3nn_jax.Irrep(l, 1).D_from_matrix(matrix)
            np.testing.assert_allclose(block, expected, atol=1e-12)


@pytest.mark.parametrize("pseudo", [False, True])
def test_inversion(pseudo):
    for l, block in enumerate(wigner_d(-jnp.eye(3), 6, pseudo=pseudo)):
        sign = (-1) ** (l + pseudo)
        np.testing.assert_allclose(block, sign * np.eye(2 * l + 1), atol=1e-5)


def test_reflection_of_pseudo_vectors(x64, key):
    """A cross product of vectors turns as a pseudo-vector."""
    mirror = jnp.diag(jnp.asarray([1.0, -1.0, 1.0])) @ random_rotation(key)
    a, b = jnp.asarray([0.3, -1.2, 0.7]), jnp.asarray([2.0, 0.1, 0.4])
    turned = wigner_d(mirror, 1, pseudo=True)[1] @ jnp.cross(a, b)
    np.testing.assert_allclose(turned, jnp.cross(mirror @ a, mirror @ b), atol=1e-14)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("pseudo", [False, True])
def test_rotate_equals_e3nn(x64, key, improper, pseudo):
    features = jax.random.normal(key, (2, 16, 3))
    matrix = random_rotation(key, improper=improper)
    with jax.numpy_rank_promotion("allow"):
        expected = to_irreps(features, pseudo=pseudo).transform_by_matrix(matrix).array
    result = to_irreps(rotate(matrix, features, pseudo=pseudo), pseudo=pseudo).array
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_rotate_one_matrix_per_entry(key):
    features = jax.random.normal(key, (4, 9, 2))
    matrices = random_rotation(key, (4,))
    expected = jnp.stack([rotate(m, f) for m, f in zip(matrices, features, strict=True)])
    np.testing.assert_allclose(rotate(matrices, features), expected, atol=1e-5)


def test_random_rotations_are_uniform(x64, key):
    """Moments of the Haar measure: <R_ij R_kl> = delta delta / 3, <R> = 0."""
    matrices = random_rotation(key, (20_000,))
    np.testing.assert_allclose(jnp.linalg.det(matrices), 1, atol=1e-12)
    np.testing.assert_allclose(matrices.mean(0), 0, atol=0.02)
    flat = matrices.reshape(-1, 9)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(9) / 3, atol=0.02)
    np.testing.assert_allclose(jnp.linalg.det(random_rotation(key, improper=True)), -1, atol=1e-12)


def test_derivatives_at_the_identity(x64):
    """No gimbal lock: every derivative is finite where angles are not defined."""
    flips = [2 * np.outer(axis, axis) - np.eye(3) for axis in np.eye(3)]  # half turns
    third = jax.jacfwd(jax.jacrev(jax.grad(lambda m: wigner_d(m, 3)[3].sum())))
    assert jnp.isfinite(jax.jit(jax.vmap(third))(jnp.asarray([np.eye(3), *flips]))).all()


def test_refuses_what_is_no_matrix(untyped):
    with pytest.raises(ValueError, match=r"matrices \[\.\.\., 3, 3\]; got shape \(3, 4\)"):
        wigner_d(jnp.ones((3, 4)), 1)


def test_turn_and_back(x64, key):
    x, blocks = jax.random.normal(key, (4, 16, 2)), wigner_d(random_rotation(key, (4,)), 3)
    np.testing.assert_allclose(turn(blocks, turn(blocks, x), back=True), x, atol=1e-13)
