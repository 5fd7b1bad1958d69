"""Machine code against the XLA form: widths of channels, threads, and when it stays away."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.native import compiler
from geojax.products import convolution, native, tensor_product
from geojax.products.edges import derivative
from geojax.so3 import paths

EDGES, NODES = 23, 5
OPTIONS = {"lmax": 1, "paths": "keep"}
pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")


def operands(key, channels, channels_y=1, dtype="float32"):
    """x at nodes; y, weights, senders and receivers of edges. Receivers are not sorted."""
    keys = jax.random.split(key, 5)
    x = jax.random.normal(keys[0], (NODES, 4, channels), dtype)
    y = jax.random.normal(keys[1], (EDGES, 4, channels_y), dtype)
    w = jax.random.normal(keys[2], (EDGES, len(paths(1, 1, 1)), channels), dtype)
    senders, receivers = (jax.random.randint(k, (EDGES,), 0, NODES) for k in keys[3:])
    return x, y, w, senders, receivers


def both(x, y, w, senders, receivers, method):
    """A product and a convolution, and all cotangents of both."""

    def energy(x, y, w):
        alone = tensor_product(x[senders], y, w, method=method, **OPTIONS)
        summed = convolution(x, y, w, senders, receivers, method=method, **OPTIONS)
        return jnp.sin(alone).sum() + jnp.sin(summed).sum(), (alone, summed)

    return jax.value_and_grad(energy, (0, 1, 2), has_aux=True)(x, y, w)


def called(function, *operands):
    """The machine code in a compiled program."""
    return jax.jit(function).lower(*operands).as_text().count("geojax_")


@pytest.mark.parametrize(
    "channels, channels_y",
    [(8, 1), *(pytest.param(*c, marks=pytest.mark.slow) for c in [(1, 1), (3, 1), (3, 3), (5, 1)])]
    + [(35, 1), *(pytest.param(*c, marks=pytest.mark.slow) for c in [(16, 16), (35, 35)])],
)
def test_any_number_of_channels(x64, key, channels, channels_y):
    """Several edges in a vector, one edge in several vectors, a rest of channels."""
    inputs = operands(key, channels, channels_y, "float64")
    found = jax.jit(partial(both, method="cg-native"))(*inputs)
    expected = jax.jit(partial(both, method="cg"))(*inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * max(1, np.abs(b).max()))
    assert called(partial(both, method="cg-native"), *inputs) == 8
    assert called(partial(both, method="cg"), *inputs) == 0


def test_stays_out_of_exported_programs(key):
    inputs = operands(key, 8)
    function = jax.jit(partial(both, method="cg-native"))
    for platforms in (["cpu"], ["cpu", "cuda", "tpu"]):
        program = jax.export.export(function, platforms=platforms)(*inputs)
        assert "geojax_" not in program.mlir_module()
    found, expected = program.call(*inputs), function(*inputs)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_other_precisions_are_left_to_xla(key):
    x, y, w, *places = operands(key, 8, dtype="bfloat16")
    product = partial(convolution, method="cg-native", **OPTIONS)
    assert called(product, x, y, w, *places) == 0


def test_many_terms_are_left_to_xla(key):
    x, y = jax.random.normal(key, (2, 36, 1)), jax.random.normal(key, (2, 36, 1))
    product = partial(tensor_product, lmax=5, method="cg-native")
    assert called(product, x, y) == 0


def test_what_does_not_compile_is_left_to_xla(key, monkeypatch):
    monkeypatch.setattr(native, "register", lambda *a: {})
    derivative.cache_clear()
    inputs = operands(key, 8)
    assert called(partial(both, method="cg-native"), *inputs) == 0
    derivative.cache_clear()


def test_no_edges(key):
    x, y, w, senders, receivers = operands(key, 8)
    function = jax.jit(partial(convolution, method="cg-native", **OPTIONS))
    none = (a[:0] for a in (y, w, senders, receivers))
    np.testing.assert_array_equal(function(x, *none), jnp.zeros((NODES, 8, 8)))


@pytest.mark.slow
def test_threads_change_no_bit():
    """Every node's sum has one order, however many threads share the nodes."""
    code = """
import jax, numpy as np
from geojax.products import convolution
from geojax.so3 import paths
rng = np.random.default_rng(0)
normal = lambda *shape: rng.normal(size=shape).astype("float32")
edges, nodes, channels = 5000, 300, 32
x, y, w = normal(nodes, 9, channels), normal(edges, 9, 1), normal(edges, len(paths(2, 2, 2)), 32)
places = (rng.integers(0, nodes, edges).astype("int32") for _ in range(2))
energy = lambda *a: (convolution(*a, lmax=2, method="cg-native") ** 2).sum()
found = jax.jit(jax.value_and_grad(energy, (0, 1, 2)))(x, y, w, *places)
print(*(np.asarray(a).tobytes().hex() for a in jax.tree.leaves(found)), sep="")
"""
    run = [sys.executable, "-c", code]
    one, four = (
        subprocess.check_output(run, env=os.environ | {"NPROC": n, "XLA_FLAGS": ""}, text=True)
        for n in ("1", "4")
    )
    assert len(one) > 1000 and one == four
