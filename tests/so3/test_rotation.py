"""Wigner matrices: a representation, orthogonal, equal to e3nn's, right under reflections."""

from functools import partial

import e3nn_jax
import jax
import jax.export
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from geojax.so3 import harmonics, random_rotation, rotate, to_irreps, wigner_d
from geojax.so3.rotation import turn, turn_degree

LMAX = 12


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("pseudo", [True, pytest.param(False, marks=pytest.mark.slow)])
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


@pytest.mark.parametrize(
    "improper, pseudo",
    [(True, True), *(pytest.param(*c, marks=pytest.mark.slow) for c in [(0, 0), (0, 1), (1, 0)])],
)
def test_rotate_equals_e3nn(x64, key, improper, pseudo):
    features = jax.random.normal(key, (2, 16, 3))
    improper, pseudo = bool(improper), bool(pseudo)
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


@pytest.mark.parametrize("sign", [-1, pytest.param(1, marks=pytest.mark.slow)])
def test_derivatives_are_those_along_rotations(x64, sign):
    """To third order, from Y(R v) = D(R) Y(v) with R (Cayley's form) a function of a vector."""
    v = jnp.asarray([0.3, -1.2, 0.7])
    mix = jnp.sin(jnp.arange(9.0))

    def matrix(w):
        a = jnp.stack([jnp.cross(w, e) for e in jnp.eye(3)], -1)
        square = w @ w
        whole = (1 - square) * jnp.eye(3) + 2 * jnp.outer(w, w) + 2 * a
        return sign * whole / (1 + square)

    def turned(w):
        features = rotate(matrix(w), harmonics(v, 2)[:, None])[:, 0]
        return jnp.sin(features @ mix), features

    def of_turned_vector(w):
        features = harmonics(matrix(w) @ v, 2)
        return jnp.sin(features @ mix), features

    @partial(jax.jit, static_argnums=0)
    def derivatives(f, w, along):
        first = jax.grad(lambda w: f(w)[0])
        second = lambda w: jax.jvp(first, (w,), (along,))[1]
        return *f(w), first(w), *jax.jvp(second, (w,), (along,))

    operands = jnp.asarray([0.2, 0.5, -0.4]), jnp.asarray([1.0, -0.3, 0.6])
    both = derivatives(turned, *operands), derivatives(of_turned_vector, *operands)
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-11)


def test_derivatives_of_turning(x64, key):
    """In the matrices and the features, to second order, as of a plain product of matrices."""
    keys = jax.random.split(key, 2)
    block, x = jax.random.normal(keys[0], (2, 3, 3)), jax.random.normal(keys[1], (2, 3, 4))
    plain = {False: "nij,njc->nic", True: "nji,njc->nic"}

    @partial(jax.jit, static_argnums=0)
    def derivatives(f):
        g = lambda block, x: jnp.sin(f(block, x)).sum()
        along = lambda *a: sum((d**2).sum() for d in jax.grad(g, (0, 1))(*a))
        return jax.grad(g, (0, 1))(block, x), jax.grad(along, (0, 1))(block, x)

    for back, axes in plain.items():
        ours = derivatives(partial(turn_degree, back=back))
        reference = derivatives(partial(jnp.einsum, axes))
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-12), ours, reference)


def test_one_program(key):
    """Outside of a program too; and it can be exported for any number of matrices."""
    matrices = random_rotation(key, (3,))
    assert len(jax.make_jaxpr(lambda m: wigner_d(m, 4))(matrices).eqns) == 1
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 3, 3"), matrices.dtype)
    exported = jax.export.export(
        jax.jit(lambda m: wigner_d(m, 2)[2]), platforms=("cpu", "cuda", "tpu")
    )(shape)
    np.testing.assert_allclose(exported.call(matrices), wigner_d(matrices, 2)[2], atol=1e-6)
    single = jax.vmap(lambda m: wigner_d(m, 2)[2])(matrices)
    np.testing.assert_allclose(single, wigner_d(matrices, 2)[2], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtype_follows(x64, dtype):
    matrix = jnp.eye(3, dtype=dtype)
    both = jax.jit(lambda m: jax.jvp(lambda m: wigner_d(m, 3, pseudo=True), (m,), (m,)))
    assert {block.dtype for block in jax.tree.leaves(both(matrix))} == {jnp.dtype(dtype)}


def test_matrices_and_features_of_two_dtypes(x64, key):
    matrix = random_rotation(key, dtype="float64")
    assert rotate(matrix, jnp.ones((4, 2), "float32")).dtype == "float64"


def test_refuses_what_is_no_matrix(untyped):
    with pytest.raises(ValueError, match=r"matrices \[\.\.\., 3, 3\]; got shape \(3, 4\)"):
        wigner_d(jnp.ones((3, 4)), 1)


def test_turn_and_back(x64, key):
    x, blocks = jax.random.normal(key, (4, 16, 2)), wigner_d(random_rotation(key, (4,)), 3)
    np.testing.assert_allclose(turn(blocks, turn(blocks, x), back=True), x, atol=1e-13)
    with pytest.raises(ValueError, match="0 or more; got lmax=-1"):
        wigner_d(jnp.eye(3), -1)
