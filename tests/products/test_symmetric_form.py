"""The forms of x^n: every map of them against the dense tensors, term counts, and each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products.polynomial import by_autodiff
from geojax.products.symmetric_basis import monomials, symmetric_basis
from geojax.products.symmetric_form import Couplings, SignalPowers
from geojax.so3 import sphere
from geojax.so3.harmonics import harmonics_table

NODES, CHANNELS = 3, 2
AXES = "ijk"


def dense(form, w, x):
    """By the definition."""
    out = [jnp.zeros((NODES, 2 * l + 1, CHANNELS)) for l in range(form.lmax + 1)]
    for block in form.blocks():
        axes = AXES[: block.order]
        basis = jnp.asarray(symmetric_basis(form.lmax_x, block.l, block.order), x.dtype)
        powers = ",".join(f"n{axis}c" for axis in axes)
        factors = [x] * block.order
        subscripts = f"{axes}pm,npc,{powers}->nmc"
        out[block.l] += jnp.einsum(subscripts, basis, w[:, block.rows], *factors)
    return jnp.concatenate(out, -2)


def given(form, key, directions):
    rows = {"w": form.rows("w"), "out": form.rows("out"), "x": form.rows("d")}
    rows |= {f"d{i}": form.rows("d") for i in range(directions)}
    keys = jax.random.split(key, len(rows))
    shapes = zip(keys, rows.items(), strict=True)
    return {name: jax.random.normal(k, (NODES, n, CHANNELS)) for k, (name, n) in shapes}


@pytest.mark.parametrize("directions", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ["out", "w", "d"])
@pytest.mark.parametrize("lmax_x, lmax", [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_every_map_is_a_derivative_of_the_dense_form(x64, key, target, directions, lmax_x, lmax):
    form = Couplings(lmax_x, lmax, 3)
    operands = given(form, key, directions)
    operands.pop(target, None)
    reference = partial(by_autodiff, partial(dense, form), form.rows("w"), target)
    result = jax.jit(partial(form.evaluate, target))(operands)
    np.testing.assert_allclose(result, jax.jit(reference)(operands), atol=1e-12)


@pytest.mark.parametrize("kind", [Couplings, SignalPowers])
def test_shapes_without_a_coupling(key, kind):
    """Scalars have no power of degree 1: zeros."""
    form = kind(0, 1, 2)
    operands = given(form, key, 0)
    operands.pop("out")
    out = form.evaluate("out", operands)
    assert out.shape == (NODES, 4, CHANNELS) and not np.abs(out[:, 1:]).max() > 1e-7
    assert np.abs(out[:, 0]).min() > 0


def test_few_monomials_are_left():
    """What makes the unrolled form fast: counts for degrees up to 3, cubed."""
    counts = [len(monomials(3, l, 3)[0]) for l in range(4)]
    assert counts == [77, 420, 828, 986]


def test_forms_of_one_shape_are_not_one_form():
    """They are keys of caches, ours and the compiler's."""
    assert Couplings(1, 1, 2) != SignalPowers(1, 1, 2)


def test_blocks():
    assert [(b.l, b.order, b.rows) for b in Couplings(1, 1, 2).blocks()] == [
        (0, 1, slice(0, 1)),
        (0, 2, slice(1, 3)),
        (1, 1, slice(3, 4)),
        (1, 2, slice(4, 5)),
    ]
    assert [b.rows for b in SignalPowers(3, 1, 2).blocks()] == [slice(i, i + 1) for i in range(4)]
    assert Couplings(3, 1, 3).rows("w") == 29 and SignalPowers(3, 1, 3).rows("w") == 6


@pytest.mark.parametrize("lmax_x, lmax, degree", [(2, 1, 3), (4, 2, 4), (1, 3, 2)])
def test_signal_powers_are_pointwise_powers(x64, key, lmax_x, lmax, degree):
    """On a much finer grid."""
    form = SignalPowers(lmax_x, lmax, degree)
    operands = given(form, key, 0)
    operands.pop("out")
    grid = sphere(2 * degree * lmax_x + lmax + 5)
    signal = np.einsum("pm,nmc->npc", harmonics_table(grid.points, lmax_x), operands["x"])
    back = harmonics_table(grid.points, lmax) * grid.weights[:, None]
    expected = np.zeros((NODES, (lmax + 1) ** 2, CHANNELS))
    for l, order, rows in form.blocks():
        own = slice(l * l, (l + 1) ** 2)
        power = np.einsum("pm,npc->nmc", back[:, own], signal**order)
        expected[:, own] += operands["w"][:, rows] * power
    result = jax.jit(partial(form.evaluate, "out"))(operands)
    np.testing.assert_allclose(result, expected, atol=1e-12 * np.abs(expected).max())
