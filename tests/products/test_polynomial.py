"""Polynomial forms: one of a single monomial, against autodiff of the plain expression."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from geojax.products import polynomial
from geojax.products.polynomial import ARGUMENTS, apply, by_autodiff

NODES, ROWS, CHANNELS = 5, 3, 2


@dataclass(frozen=True)
class Cubes:
    """out_i = w_i x_i x_{i+1}^2."""

    degree: int = 3

    @property
    def arguments(self) -> tuple[str, ...]:
        return ARGUMENTS

    def rows(self, target: str) -> int:
        return ROWS

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        return by_autodiff(plain, ROWS, target, given)


def plain(w, x):
    return w * x * jnp.roll(x, -1, -2) ** 2


def operands(key, count=2):
    return [jax.random.normal(k, (NODES, ROWS, CHANNELS)) for k in jax.random.split(key, count)]


product = partial(apply, Cubes())


def energy(f):
    return lambda w, x: jnp.sin(f(w, x)).sum()


def derivatives(f, every, w, x, v, u):
    """Of several orders and modes."""
    gradient = jax.grad(energy(f), (0, 1))
    along = lambda g, d: lambda w, x: jax.jvp(g, (w, x), d)[1]
    size = lambda g: lambda w, x: sum((a**2).sum() for a in g(w, x))
    back = lambda g: jax.grad(size(g), (0, 1))
    few = {
        "reverse": gradient(w, x),
        "forward": along(f, (v, u))(w, x),
        "reverse reverse": back(gradient)(w, x),
    }
    if not every:
        return few
    return few | {
        "forward reverse": along(gradient, (v, u))(w, x),
        "reverse forward": jax.grad(energy(along(f, (v, u))), (0, 1))(w, x),
        "reverse reverse reverse": back(back(gradient))(w, x),
        "forward forward forward": along(along(along(f, (v, u)), (u, v)), (v, v))(w, x),
    }


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_derivatives_equal_autodiff(x64, key, every):
    inputs = operands(key, 4)
    result = jax.jit(partial(derivatives, product, every))(*inputs)
    expected = jax.jit(partial(derivatives, plain, every))(*inputs)
    for name, value in result.items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(expected[name]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12 * max(1, np.abs(b).max()), err_msg=name)


def test_derivatives_end_after_the_degree(x64, key):
    w, x = operands(key)
    f = lambda t: product(w, x + t * x)
    for _ in range(4):
        f = partial(lambda f, t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1], f)
    assert not np.asarray(f(jnp.array(0.0))).any()


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (1, None), (2, 2)])
def test_vmap(x64, key, axes):
    """Over nodes, rows or channels of what one call sees, of the value and its gradient."""
    w, x = (
        jnp.stack([a, 2 * a, a + 1, a - 1], 0 if n is None else n)
        for a, n in zip(operands(key), axes, strict=True)
    )
    w, x = (a[0] if n is None else a for a, n in zip((w, x), axes, strict=True))
    for f, reference in ((product, plain), (jax.grad(energy(product)), jax.grad(energy(plain)))):
        result = jax.jit(jax.vmap(f, in_axes=axes))(w, x)
        np.testing.assert_allclose(result, jax.vmap(reference, in_axes=axes)(w, x), atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [2, 8])
def test_chunks_change_nothing(x64, key, monkeypatch, chunk):
    """Also where the last one is not full, or the only one larger than all nodes."""
    w, x = operands(key)
    expected = plain(w, x)
    monkeypatch.setattr(polynomial, "LARGE", 0)
    monkeypatch.setattr(polynomial, "CHUNK", chunk * 3 * ROWS * CHANNELS * 8)
    jax.clear_caches()
    result = jax.jit(lambda w, x: apply(Cubes(), w, x))(w, x)
    np.testing.assert_allclose(result, expected, atol=1e-14)
    text = jax.jit(lambda w, x: apply(Cubes(), w, x)).lower(w, x).as_text()
    assert "while" in text
    jax.clear_caches()


def test_without_nodes(key):
    w, x = (a[:0] for a in operands(key))
    assert apply(Cubes(), w, x).shape == (0, ROWS, CHANNELS)
