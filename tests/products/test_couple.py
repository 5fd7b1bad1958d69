"""What users call: checks, broadcasting, directions, dtypes, empty products."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from geojax.arrays import unit
from geojax.products import PRODUCTS, Direction, kept_layout, split_kept, tensor_product
from geojax.so3 import harmonics


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def features(key, *shape):
    return jax.random.normal(key, shape)


X, Y = jnp.ones((2, 4, 3)), jnp.ones((2, 9, 3))


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((jnp.ones((2, 5, 3)), Y), {}, ValueError, r"\(lmax\+1\)\*\*2.*\(2, 5, 3\)"),
        ((X, jnp.ones((2, 9, 2))), {}, ValueError, r"\(2, 4, 3\) and \(2, 9, 2\).*linear layer"),
        ((X, jnp.ones((3, 9, 3))), {}, ValueError, "batch axes .* broadcast"),
        ((X, Y, jnp.ones((2, 6, 3))), {}, ValueError, r"one row per path.*5, 3\].*\(2, 6, 3\)"),
        ((X, Y, jnp.ones((2, 5, 1))), {}, ValueError, r"channels of x.*5, 3\].*\(2, 5, 1\)"),
        ((X.astype(int), Y), {}, TypeError, "floating-point.*x of int"),
        ((Direction(X[:, 0], 1), Y), {}, TypeError, r"x\.harmonics\(\)"),
        ((X, Direction(jnp.ones((2, 4)), 1)), {}, ValueError, r"\[\.\.\., 3\]; got shape \(2, 4\)"),
        ((X, Y), {"method": "cgg"}, KeyError, "no product 'cgg'; did you mean 'cg'"),
        ((X, Y), {"paths": "mean"}, ValueError, "paths is one of .*'mean'"),
        ((X, Y), {"parity": "natural"}, ValueError, "parity is one of .*'natural'"),
        ((X, Y), {"lmax": -1}, ValueError, "lmax=-1"),
    ],
)
def test_refuses(untyped, arguments, options, error, message):
    with pytest.raises(error, match=message):
        tensor_product(*arguments, **{"lmax": 1, **options})


def test_batch_axes_broadcast(key):
    """Shared weights, one y for many x, more axes in one than in the other."""
    x, y, w = features(key, 5, 2, 4, 3), features(key, 2, 4, 1), features(key, 4, 3)
    result = tensor_product(x, y, w, lmax=1)
    full = tensor_product(x, jnp.tile(y, (5, 1, 1, 3)), jnp.broadcast_to(w, (5, 2, 4, 3)), lmax=1)
    assert result.shape == (5, 2, 4, 3)
    np.testing.assert_allclose(result, full, rtol=1e-6)


def test_gradient_of_shared_weights(key):
    x, y, w = features(key, 5, 4, 3), features(key, 5, 4, 1), features(key, 4, 3)
    shared = jax.grad(lambda w: (tensor_product(x, y, w, lmax=1) ** 2).sum())(w)
    apart = jnp.broadcast_to(w, (5, 4, 3))
    apart = jax.grad(lambda w: (tensor_product(x, y, w, lmax=1) ** 2).sum())(apart)
    np.testing.assert_allclose(shared, apart.sum(0), rtol=1e-5)


def test_direction_is_its_harmonics(key):
    x, r = features(key, 5, 4, 3), features(key, 5, 3)
    expected = tensor_product(x, harmonics(r, 2)[..., None], lmax=2)
    result = tensor_product(x, Direction(unit(r), 2), lmax=2)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    through_jit = jax.jit(lambda x, d: tensor_product(x, d, lmax=2))(x, Direction(r, 2))
    np.testing.assert_allclose(through_jit, expected, atol=1e-5)


def test_operands_of_two_dtypes_are_promoted(x64, key):
    x, y = features(key, 5, 4, 3).astype("float32"), features(key, 5, 4, 1).astype("float64")
    assert tensor_product(x, y, lmax=1).dtype == "float64"
    gradient = jax.grad(lambda x: tensor_product(x, y, lmax=1).sum())(x)
    assert gradient.dtype == "float32"


def test_degrees_that_nothing_couples_into_are_zero(key):
    result = tensor_product(features(key, 4, 3), features(key, 1, 3), lmax=2)
    assert result.shape == (9, 3)
    np.testing.assert_array_equal(result[4:], 0)


def test_no_path_at_all(key):
    """Odd paths between scalars: nothing to sum, nothing to keep."""
    x = features(key, 2, 1, 3)
    summed = tensor_product(x, x, lmax=1, parity="odd")
    np.testing.assert_array_equal(summed, jnp.zeros((2, 4, 3)))
    assert tensor_product(x, x, lmax=1, parity="odd", paths="keep").shape == (2, 0, 3)


def test_unit_variance(key):
    """Independent factors of unit variance give every kept path unit variance."""
    x, y = features(key, 20_000, 9, 1), features(jax.random.fold_in(key, 1), 20_000, 9, 1)
    kept = jax.jit(partial(tensor_product, lmax=2, paths="keep"))(x, y)
    for block in split_kept(kept, kept_layout(2, 2, 2)):
        np.testing.assert_allclose((block**2).mean((0, 2, 3)), 1, atol=0.06)


SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from geojax.products import PRODUCTS, Direction, tensor_product

rows = NamedSharding(Mesh(jax.devices(), "rows"), PartitionSpec("rows"))
keys = jax.random.split(jax.random.key(0), 3)
x, y, r = (jax.random.normal(k, (8, *s)) for k, s in zip(keys, [(4, 2), (4, 1), (3,)]))
for name in sys.argv[1:]:
    entry = PRODUCTS[name]
    second = lambda leaf: Direction(leaf, 1) if entry.direction else leaf
    leaf = r if entry.direction else y
    energy = lambda x, leaf: jnp.sin(tensor_product(x, second(leaf), lmax=1, method=name)).sum()
    gradient = jax.jit(jax.grad(energy, (0, 1)))
    expected = gradient(x, leaf)
    found = gradient(*(jax.device_put(a, rows) for a in (x, leaf)))
    for a, b in zip(found, expected, strict=True):
        assert len(a.sharding.device_set) == 2, name
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)
print("the same on", jax.device_count(), "devices")
"""


@pytest.mark.parametrize(
    "names", [("cg-native",), pytest.param(tuple(PRODUCTS), marks=pytest.mark.slow)]
)
def test_rows_are_spread_over_devices(names):
    """Products and their cotangents, batch axes sharded."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    run = [sys.executable, "-c", SHARDED, *names]
    out = subprocess.check_output(run, env=environment, text=True)
    assert out.strip() == "the same on 2 devices"
