"""Derivatives of a form are its other maps; at once and in chunks, over rows and over edges."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, Direction, Spec, convolution, edges, tensor_product
from geojax.products.edges import OverEdges, derivative
from geojax.so3 import paths

EDGES, NODES = 53, 6


class Triple(NamedTuple):
    """F(a, b, c) = sum of a b c; counts how often each derivative is evaluated."""

    names: tuple[str, ...] = ("a", "b", "c")

    @property
    def arguments(self):
        return self.names

    def evaluate(self, target, given):
        CALLED.append(target)
        first, second = given.values()
        return first * second


CALLED: list[str] = []


def test_cotangents_are_the_other_maps(x64, key):
    b, c, g = jax.random.normal(key, (3, 4, 1, 1))
    value, pull = jax.vjp(derivative(OverEdges(Triple()), "a"), b, c)
    np.testing.assert_allclose(value, b * c)
    CALLED.clear()
    for found, expected in zip(pull(g), (g * c, g * b), strict=True):
        np.testing.assert_allclose(found, expected)
    assert set(CALLED) == {"b", "c"}


def test_equal_forms_share_their_maps():
    assert derivative(OverEdges(Triple()), "a") is derivative(OverEdges(Triple()), "a")


def test_forms_of_two_products_differ(key):
    """No two products may find each other's programs in a cache."""
    y, w = jnp.ones((1, 4, 1)), jnp.ones((1, 4, 2))
    spec = Spec(1, 1, 1, "even", "keep")
    forms = []
    for entry in PRODUCTS.values():
        weights = w if entry.family == "coupled" else None
        second = Direction(y[:, :3, 0], 1) if entry.direction else y
        forms.append(entry.kernel(second, weights, spec, 2).form)
    assert len(set(forms)) == len(forms)


@pytest.fixture
def chunks(monkeypatch):
    """A function that asks for chunks of 16 edges from then on."""

    def cut():
        for name in ("CHUNK", "LARGE"):
            monkeypatch.setattr(edges, name, 1)
        derivative.cache_clear()

    yield cut
    derivative.cache_clear()


def operands(key, method="cg"):
    """x at nodes; y, weights, senders and (in ascending order) receivers of edges."""
    keys = jax.random.split(key, 5)
    x = jax.random.normal(keys[0], (NODES, 4, 2))
    y = jax.random.normal(keys[1], (EDGES, 3) if method == "escn" else (EDGES, 4, 1))
    w = jax.random.normal(keys[2], (EDGES, len(paths(1, 1, 1)), 2))
    senders = jax.random.randint(keys[3], (EDGES,), 0, NODES)
    return x, y, w, senders, jnp.sort(jax.random.randint(keys[4], (EDGES,), 0, NODES - 1))


def second(y):
    return Direction(y, 1) if y.ndim == 2 else y


def convolve(x, y, w, senders, receivers, **options):
    return convolution(x, second(y), w, senders, receivers, lmax=1, paths="keep", **options)


def reference(x, y, w, senders, receivers, **options):
    """Gather, product, sum."""
    messages = tensor_product(x[senders], second(y), w, lmax=1, paths="keep", **options)
    return jnp.zeros((NODES, *messages.shape[1:]), x.dtype).at[receivers].add(messages)


def forces(function, method, places):
    """A loss on a gradient, as in force training: value, gradients of the value and of the loss."""

    def both(x, y, w):
        energy = lambda y: jnp.sin(function(x, y, w, *places, method=method)).sum()
        return energy(y), (jax.grad(energy)(y) ** 2).sum()

    gradient = lambda i: jax.grad(lambda *a: both(*a)[i], (0, 1, 2))
    return jax.jit(lambda *a: (both(*a), gradient(0)(*a), gradient(1)(*a)))


def agree(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("method", ["cg", pytest.param("escn", marks=pytest.mark.slow)])
def test_a_convolution_is_a_sum_over_edges(x64, key, method):
    x, y, w, *places = operands(key, method)
    expected = forces(reference, method, places)(x, y, w)
    agree(forces(convolve, method, places)(x, y, w), expected)


@pytest.mark.parametrize("method", ["cg", pytest.param("escn", marks=pytest.mark.slow)])
def test_chunks_change_nothing(x64, key, method, chunks):
    """In no derivative; the last chunk is not full."""
    x, y, w, *places = operands(key, method)
    expected = forces(reference, method, places)(x, y, w)
    chunks()
    for function in (convolve, reference):
        agree(forces(function, method, places)(x, y, w), expected)


def test_gaunt_weights_are_factors_at_each_edge(x64, key):
    x, y, _, *places = operands(key)
    w = jax.random.normal(key, (EDGES, 6, 2))
    agree(
        convolve(x, y, w, *places, method="gaunt-direct"),
        reference(x, y, w, *places, method="gaunt-direct"),
    )


@pytest.mark.slow
def test_chunks_of_unknown_number_export(key, chunks):
    chunks()
    x, y, w, *places = operands(key)
    n, m = jax.export.symbolic_shape("node, edge")
    sizes = [n, *[m] * 4]
    arguments = [
        jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype)
        for size, a in zip(sizes, (x, y, w, *places), strict=True)
    ]
    program = jax.export.export(jax.jit(convolve), platforms=("cpu", "cuda", "tpu"))(*arguments)
    call = jax.export.deserialize(program.serialize()).call
    for count in (5, EDGES):
        some = [a[:count] for a in (y, w, *places)]
        np.testing.assert_allclose(call(x, *some), reference(x, *some), atol=1e-5)


def test_chunks_under_vmap(x64, key, chunks):
    chunks()
    x, y, w, *places = operands(key)
    many = jnp.stack([x, 2 * x])
    found = jax.jit(jax.vmap(lambda x: convolve(x, y, w, *places)))(many)
    expected = reference(x, y, w, *places)
    np.testing.assert_allclose(found, jnp.stack([expected, 2 * expected]), atol=1e-12)
