"""The symmetric contraction against the full power of x times the basis, and what must hold."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from geojax.products import tensor_product
from geojax.products.symmetric import symmetric_blocks, symmetric_contraction
from geojax.products.symmetric_basis import symmetric_basis
from geojax.so3 import harmonics_table, random_rotation, rotate, sphere

NODES, CHANNELS = 4, 2
METHODS = ["cg", "gaunt"]
slow = partial(pytest.param, marks=pytest.mark.slow)


def rows(lmax_x, lmax, correlation, method="cg"):
    return symmetric_blocks(lmax_x, lmax, correlation, method=method)[-1].rows.stop


def operands(key, lmax_x, lmax, correlation, method="cg", dtype=None):
    """x and weights of every node."""
    make = lambda k, n: jax.random.normal(k, (NODES, n, CHANNELS), dtype)
    first, second = jax.random.split(key)
    return make(first, (lmax_x + 1) ** 2), make(second, rows(lmax_x, lmax, correlation, method))


@cache
def gaunt_basis(lmax_x, l, order):
    """The means of products of harmonics, `[..., 1, 2l+1]`."""
    grid = sphere(order * lmax_x + l)
    at = lambda lmax: harmonics_table(grid.points, lmax)
    axes = "abcd"[:order]
    factors = [at(lmax_x)] * order
    subscripts = ",".join(f"p{axis}" for axis in axes) + f",pm,p->{axes}m"
    basis = np.einsum(subscripts, *factors, at(l)[:, l * l :], grid.weights, optimize=True)
    return basis[..., None, :]


def brute_force(x, weights, *, lmax, correlation, method="cg"):
    """The whole power of x, component by component, times the basis."""
    lmax_x = int(np.sqrt(x.shape[-2])) - 1
    basis = {"cg": symmetric_basis, "gaunt": gaunt_basis}[method]
    out = [jnp.zeros((*x.shape[:-2], 2 * l + 1, x.shape[-1])) for l in range(lmax + 1)]
    for l, order, own in symmetric_blocks(lmax_x, lmax, correlation, method=method):
        power = x
        if own.start == own.stop:
            continue
        for _ in range(order - 1):
            power = (power[:, :, None, :] * x[:, None, :, :]).reshape(len(x), -1, x.shape[-1])
        table = jnp.asarray(basis(lmax_x, l, order))
        table = table.reshape(-1, *table.shape[-2:])
        mapped = jnp.einsum("apm,nac->npmc", table, power)
        out[l] = out[l] + (mapped * weights[:, own, None, :]).sum(1)
    return jnp.concatenate(out, -2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "lmax_x, lmax, correlation",
    [
        (1, 2, 2),
        (2, 0, 3),
        slow(2, 1, 3),
        slow(3, 1, 3),
        slow(2, 2, 3),
        slow(1, 1, 4),
        slow(3, 3, 2),
    ],
)
def test_equals_the_power_times_the_basis(x64, key, lmax_x, lmax, correlation, method):
    options = {"lmax": lmax, "correlation": correlation, "method": method}
    x, w = operands(key, lmax_x, lmax, correlation, method)
    result = jax.jit(partial(symmetric_contraction, **options))(x, w)
    expected = brute_force(x, w, **options)
    np.testing.assert_allclose(result, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("improper", [False, True])
def test_commutes_with_rotations_and_reflections(x64, key, method, improper):
    x, w = operands(key, 2, 1, 3, method)
    turn = random_rotation(key, improper=improper)
    call = jax.jit(partial(symmetric_contraction, lmax=1, correlation=3, method=method))
    expected = rotate(turn, call(x, w))
    np.testing.assert_allclose(call(rotate(turn, x), w), expected, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_order_one_is_linear(x64, key, method):
    """Each degree times its weight; degrees that x lacks are zero."""
    x, w = operands(key, 1, 2, 1, method)
    out = symmetric_contraction(x, w, lmax=2, correlation=1, method=method)
    own = jnp.concatenate([w[:, :1], jnp.repeat(w[:, 1:2], 3, 1)], 1)
    np.testing.assert_allclose(out[:, :4], x * own, atol=1e-14)
    np.testing.assert_allclose(out[:, 4:], 0, atol=1e-14)


def test_orders_add_up(x64, key):
    """Homogeneous parts: order n of x scaled by t is scaled by t^n."""
    x, w = operands(key, 1, 1, 3)
    call = jax.jit(partial(symmetric_contraction, lmax=1, correlation=3))
    total = 0
    for order in (1, 2, 3):
        part = jnp.zeros_like(w)
        for block in symmetric_blocks(1, 1, 3):
            if block.order == order:
                part = part.at[:, block.rows].set(w[:, block.rows])
        total = total + call(x, part)
        np.testing.assert_allclose(call(2 * x, part), 2**order * call(x, part), atol=1e-12)
    np.testing.assert_allclose(call(x, w), total, atol=1e-12)


def test_cubes_of_a_signal_are_products_of_products(x64, key):
    """((x x) x) by the product of two signals, which keeps all degrees of x x."""
    x, _ = operands(key, 2, 2, 3)
    cube = jnp.zeros((rows(2, 2, 3, "gaunt"), CHANNELS))
    for _, order, own in symmetric_blocks(2, 2, 3, method="gaunt"):
        cube = cube.at[own].set(float(order == 3))
    product = partial(tensor_product, method="gaunt-grid")
    expected = product(product(x, x, lmax=4), x, lmax=2)
    result = symmetric_contraction(x, cube, lmax=2, correlation=3, method="gaunt")
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("l, order", [(0, 3), (1, 3), (2, 2)])
def test_gaunt_is_one_direction_among_the_couplings(x64, l, order):
    """Its tensor lies in the span of the basis; it cannot choose how."""
    basis, own = symmetric_basis(2, l, order), gaunt_basis(2, l, order)[..., 0, :]
    axes = "abc"[:order]
    weights = np.einsum(f"{axes}pm,{axes}m->p", basis, own) / (2 * l + 1)
    np.testing.assert_allclose(np.einsum(f"{axes}pm,p->{axes}m", basis, weights), own, atol=1e-12)
    assert basis.shape[-2] > 1 and np.linalg.norm(weights) > 0.1


def derivatives(f, x, w, every):
    """Gradients, and gradients of their squares."""
    size = lambda g: lambda x, w: sum((a**2).sum() for a in g(x, w))
    first = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
    second = jax.grad(size(first), (0, 1))
    third = jax.grad(size(second), (0, 1)) if every else second
    return jax.jit(lambda x, w: (first(x, w), second(x, w), third(x, w)))(x, w)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "lmax_x, lmax, correlation, every",
    [(1, 0, 3, False), slow(1, 0, 3, True), slow(1, 1, 3, True), slow(2, 0, 2, True)],
)
def test_derivatives_equal_autodiff(x64, key, lmax_x, lmax, correlation, every, method):
    options = {"lmax": lmax, "correlation": correlation, "method": method}
    x, w = operands(key, lmax_x, lmax, correlation, method)
    result = derivatives(partial(symmetric_contraction, **options), x, w, every)
    expected = derivatives(partial(brute_force, **options), x, w, every)
    for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_are_finite_at_zero(key, method):
    x, w = operands(key, 1, 0, 3, method)
    f = partial(symmetric_contraction, lmax=0, correlation=3, method=method)
    leaves = jax.tree.leaves(derivatives(f, jnp.zeros_like(x), w, False))
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)


def test_batch_axes_broadcast(x64, key):
    """In size and in number."""
    x, w = operands(key, 1, 1, 2)
    call = jax.jit(partial(symmetric_contraction, lmax=1, correlation=2))
    expected = np.stack([call(x, jnp.broadcast_to(own, w.shape)) for own in w])
    np.testing.assert_allclose(call(x, w[:, None]), expected, atol=1e-14)
    np.testing.assert_allclose(call(x, w[0]), expected[0], atol=1e-14)
    np.testing.assert_allclose(call(x[0], w[0]), expected[0, 0], atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_vmap(x64, key, method):
    x, w = operands(key, 1, 1, 2, method)
    f = partial(symmetric_contraction, lmax=1, correlation=2, method=method)
    gradient = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum())
    for g in (f, gradient):
        expected = np.stack([g(x[i], w[i]) for i in range(NODES)])
        np.testing.assert_allclose(jax.vmap(g)(x, w), expected, atol=1e-13)
        shared = jax.vmap(g, in_axes=(0, None))(x, w[0])
        np.testing.assert_allclose(shared[0], expected[0], atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtype_follows(x64, key, method, dtype):
    x, w = operands(key, 1, 0, 2, method, dtype)
    f = partial(symmetric_contraction, lmax=0, correlation=2, method=method)
    assert f(x, w).dtype == dtype
    assert jax.grad(lambda x: f(x, w).sum())(x).dtype == dtype


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_of_forces_export(key, method):
    """Two reverse passes for all platforms and any number of nodes, run at two sizes."""
    x, w = operands(key, 1, 0, 2, method)
    f = partial(symmetric_contraction, lmax=0, correlation=2, method=method)
    force = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum())
    function = jax.jit(jax.grad(lambda x, w: (force(x, w) ** 2).sum(), (0, 1)))
    (node,) = jax.export.symbolic_shape("node")
    shapes = [jax.ShapeDtypeStruct((node, *a.shape[1:]), a.dtype) for a in (x, w)]
    program = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*shapes)
    again = jax.export.deserialize(program.serialize()).call
    for n in (1, NODES):
        for a, b in zip(again(x[:n], w[:n]), function(x[:n], w[:n]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


X, W = jnp.ones((NODES, 4, CHANNELS)), jnp.ones((NODES, 5, CHANNELS))


@pytest.mark.parametrize(
    "x, weights, options, error, message",
    [
        (X, W[:, :4], {}, ValueError, r"one row per path.*\[\.\.\., 5, 2\].*got shape \(4, 4, 2\)"),
        (X, W[..., :1], {}, ValueError, r"the channels of x.*got shape \(4, 5, 1\)"),
        (X[:3], W, {}, ValueError, r"broadcast.*\(3, 4, 2\) of x and \(4, 5, 2\)"),
        (X[:, :3], W, {}, ValueError, "spherical features have shape"),
        (X, W, {"correlation": 0}, ValueError, "highest power is 1 or more.*correlation=0"),
        (X, W, {"lmax": -1}, ValueError, "degrees are 0 or more.*lmax=-1"),
        (X, W, {"method": "grid"}, ValueError, "method is one of .*'gaunt'.*'grid'"),
        (X.astype(int), W, {}, TypeError, "floating-point.*got x of int"),
    ],
)
def test_refuses(untyped, x, weights, options, error, message):
    with pytest.raises(error, match=message):
        symmetric_contraction(x, weights, **{"lmax": 1, "correlation": 2, **options})
