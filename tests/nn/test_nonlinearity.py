"""Which functions are legal on which irreps, and that the legal ones commute with rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.nn import norm_activation, parity_of, scalar_activation, sphere_activation
from geojax.so3 import random_rotation, rotate, wigner_d

EVEN, ODD, VECTOR = Irrep("0e"), Irrep("0o"), Irrep("1o")


@pytest.mark.parametrize(
    "name, parity",
    [("tanh", -1), ("identity", -1), ("abs", 1), ("silu", 0), ("relu", 0), ("sigmoid", 0)],
)
def test_parity_of_functions(name, parity):
    assert parity_of(name) == parity


@pytest.mark.parametrize("name", ["silu", "tanh", "identity", "relu"])
def test_entries_of_vectors_are_refused(key, name):
    x = {VECTOR: jax.random.normal(key, (2, 3, 4))}
    with pytest.raises(ValueError, match=f"only on scalars; got '{name}' on 1o; use a gate"):
        scalar_activation(x, name)


def test_functions_without_parity_are_refused_on_pseudoscalars(key):
    x = {ODD: jax.random.normal(key, (2, 1, 4))}
    for name in ("silu", "relu", "gelu", "sigmoid"):
        with pytest.raises(ValueError, match=r"odd or even.*use tanh \(0o -> 0o\) or abs"):
            scalar_activation(x, name)


def test_pseudoscalars_keep_or_lose_their_sign(key):
    x = {EVEN: jnp.ones((2, 1, 3)), ODD: jax.random.normal(key, (2, 1, 4))}
    mirrored = x | {ODD: -x[ODD]}
    odd, even = scalar_activation(x, "tanh"), scalar_activation(x, "abs")
    np.testing.assert_array_equal(scalar_activation(mirrored, "tanh")[ODD], -odd[ODD])
    assert set(even) == {EVEN} and even[EVEN].shape == (2, 1, 7)
    np.testing.assert_array_equal(scalar_activation(mirrored, "abs")[EVEN], even[EVEN])


def test_norms_commute_with_rotations_and_are_smooth_at_zero(x64, key):
    x = {VECTOR: jax.random.normal(key, (5, 3, 4))}
    turn = wigner_d(random_rotation(key, improper=True), 1)[1]
    turned = {VECTOR: jnp.einsum("ij,njc->nic", turn, x[VECTOR])}
    expected = jnp.einsum("ij,njc->nic", turn, norm_activation(x)[VECTOR])
    np.testing.assert_allclose(norm_activation(turned)[VECTOR], expected, atol=1e-13)
    f = lambda v: norm_activation({VECTOR: v[None, :, None]})[VECTOR].sum()
    third = jax.jacfwd(jax.jacfwd(jax.grad(f)))(jnp.zeros(3))
    assert jnp.isfinite(third).all()


def test_identity_on_the_sphere_is_exact(x64, key):
    x = jax.random.normal(key, (3, 16, 2))
    np.testing.assert_allclose(sphere_activation(x, "identity"), x, atol=1e-13)


@pytest.mark.parametrize("separable", [False, True])
def test_error_of_the_sphere_falls_with_its_degree(x64, key, separable):
    """Nearly equivariant: the error is aliasing, so a finer grid has less of it."""
    x, scalars = jax.random.normal(key, (5, 9, 4)), jax.random.normal(key, (5, 4))
    turn = random_rotation(key)

    def error(degree):
        call = lambda x: sphere_activation(x, scalars=scalars if separable else None, degree=degree)
        return jnp.abs(call(rotate(turn, x)) - rotate(turn, call(x))).max()

    coarse, fine = error(6), error(24)
    assert fine < 1e-3 * coarse
    assert coarse > 1e-6


def test_separable_scalars_do_not_see_the_sphere(key):
    x, scalars = jax.random.normal(key, (5, 9, 4)), jax.random.normal(key, (5, 4))
    plain, separate = sphere_activation(x), sphere_activation(x, scalars=scalars)
    np.testing.assert_array_equal(plain[:, 1:], separate[:, 1:])
    np.testing.assert_allclose(separate[:, 0], scalar_activation({EVEN: scalars})[EVEN])
