"""Harmonics against e3nn, their norm, their symmetry, and their derivatives where angles fail."""

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from geojax.so3 import harmonics, random_rotation, slices, wigner_d

VECTORS = np.random.default_rng(0).normal(size=(7, 3))


def by_e3nn(vectors, lmax, normalize=True):
    with jax.numpy_rank_promotion("allow"):
        return e3nn_jax.spherical_harmonics(
            e3nn_jax.s2_irreps(lmax),
            vectors,
            normalize,
            normalization="component",
            algorithm=("recursive", "sparse"),
        ).array


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_e3nn(x64, normalize):
    expected = by_e3nn(jnp.asarray(VECTORS), 6, normalize)
    result = harmonics(jnp.asarray(VECTORS), 6, normalize=normalize)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


def test_equals_scipy(x64):
    """All degrees to 12 from the complex harmonics; their polar axis z is our y, their x our z."""
    x, y, z = VECTORS.T / np.linalg.norm(VECTORS, axis=1)
    result = harmonics(jnp.asarray(VECTORS), 12)
    for l in range(13):
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), np.arccos(y), np.arctan2(x, z)) * np.sqrt(4 * np.pi)
            part = value.real if m >= 0 else value.imag
            expected = part if m == 0 else (-1) ** m * np.sqrt(2) * part
            np.testing.assert_allclose(result[:, l * l + l + m], expected, atol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_length_is_divided_out(size):
    """Also where the squares of float32 components underflow or overflow."""
    vectors = jnp.asarray(VECTORS, jnp.float32)
    np.testing.assert_allclose(harmonics(vectors * size, 4), harmonics(vectors, 4), atol=2e-5)


def test_low_degrees_by_hand(x64):
    x, y, z = VECTORS.T / np.linalg.norm(VECTORS, axis=1)
    expected = [
        *(np.ones_like(x), 3**0.5 * x, 3**0.5 * y, 3**0.5 * z),
        *(15**0.5 * x * z, 15**0.5 * x * y, 5**0.5 * (3 * y**2 - 1) / 2),
        *(15**0.5 * y * z, 15**0.5 * (z**2 - x**2) / 2),
    ]
    result = harmonics(jnp.asarray(VECTORS), 2)
    np.testing.assert_allclose(result, np.stack(expected, -1), atol=1e-14)


def test_component_normalisation(x64):
    result = harmonics(jnp.asarray(VECTORS), 12)
    for l, rows in enumerate(slices(12)):
        np.testing.assert_allclose((result[:, rows] ** 2).sum(-1), 2 * l + 1, rtol=1e-13)


@pytest.mark.parametrize("improper", [False, True])
def test_turns_with_the_vector(x64, key, improper):
    turn = random_rotation(key, improper=improper)
    vectors = jnp.asarray(VECTORS)
    turned = harmonics(vectors @ turn.T, 10)
    result = harmonics(vectors, 10)
    for rows, block in zip(slices(10), wigner_d(turn, 10), strict=True):
        np.testing.assert_allclose(turned[:, rows], result[:, rows] @ block.T, atol=1e-13)


@pytest.mark.parametrize("normalize", [True, False])
def test_zero_vector(normalize):
    result = harmonics(jnp.zeros((2, 3)), 4, normalize=normalize)
    np.testing.assert_array_equal(result, np.eye(25)[[0, 0]])


@jax.jit
def derivatives(v):
    """The sums of all derivatives of order 1 to 4."""
    f, sums = lambda v: harmonics(v, 3).sum(), []
    for _ in range(4):
        f = lambda v, f=f: jax.grad(f)(v).sum()
        sums.append(f(v))
    return jnp.stack(sums)


@pytest.mark.parametrize("size", [0.0, np.finfo("f4").tiny, 1e-12, 1e-8, np.finfo("f4").eps])
def test_derivatives_are_finite(size):
    for axis in np.eye(3, dtype="f4"):
        assert jnp.isfinite(derivatives(size * axis)).all()


def test_derivatives_on_the_axes(x64):
    """No direction is special: third derivatives at the poles equal those of e3nn."""

    def third(f):
        scalar = lambda v: f(v, 2).sum()
        return jax.jit(jax.vmap(jax.jacfwd(jax.jacrev(jax.grad(scalar)))))(jnp.eye(3))

    np.testing.assert_allclose(third(harmonics), third(by_e3nn), atol=1e-10)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtype_follows(x64, dtype):
    assert harmonics(jnp.ones((2, 3), dtype), 2).dtype == dtype


def test_refuses_what_is_no_vector():
    with pytest.raises(ValueError, match=r"vectors \[\.\.\., 3\]; got shape \(5, 4\)"):
        harmonics(jnp.zeros((5, 4)), 1)
    with pytest.raises(ValueError, match="lmax=-1"):
        harmonics(jnp.zeros((5, 3)), -1)


def test_one_program():
    """Outside of a program too."""
    assert len(jax.make_jaxpr(lambda v: harmonics(v, 4))(jnp.ones((2, 3))).eqns) == 1


def test_float32_is_as_good_as_it_gets(x64):
    exact = harmonics(jnp.asarray(VECTORS), 8)
    single = harmonics(jnp.asarray(VECTORS, jnp.float32), 8)
    np.testing.assert_allclose(single, exact, atol=1e-5)
