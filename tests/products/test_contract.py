"""What every product must do, for every entry of PRODUCTS.

The reference is an einsum per path with e3nn's coefficients, differentiated by autodiff. Coupled
products must equal it; Gaunt products choose their own weights of the paths, so they keep the rest.
"""

from functools import cache, partial
from typing import Any

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, Direction, kept_layout, split_kept, tensor_product
from geojax.so3 import Parity, paths, random_rotation, rotate

COUPLED = [name for name, entry in PRODUCTS.items() if entry.family == "coupled"]
CASES = [(1, 1, 1, "all"), (2, 1, 2, "even"), (0, 2, 1, "even"), (1, 2, 3, "odd")]
EDGES, CHANNELS = 3, 2


@cache
def coefficients(l1, l2, l3):
    tensor = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3))
    return tensor * np.sqrt(2 * l3 + 1) / np.linalg.norm(tensor)


def reference(x, y, w, *, lmax, layout="sum", parity: Parity = "even", xp: Any = np):
    """The definition, one einsum per path, by numpy or (for derivatives) by jax."""
    lx, ly = (round(a.shape[-2] ** 0.5) - 1 for a in (x, y))
    y = xp.broadcast_to(y, (*y.shape[:-1], x.shape[-1]))
    rows = lambda a, l: a[..., l * l : (l + 1) ** 2, :]
    kept = []
    summed = [xp.zeros((*x.shape[:-2], 2 * l + 1, x.shape[-1])) for l in range(lmax + 1)]
    for i, (l1, l2, l3) in enumerate(paths(lx, ly, lmax, parity=parity)):
        t = xp.asarray(coefficients(l1, l2, l3))
        part = xp.einsum("abk,...ac,...bc->...kc", t, rows(x, l1), rows(y, l2))
        kept.append(part if w is None else part * w[..., i, None, :])
        summed[l3] = summed[l3] + kept[-1]
    return xp.concatenate(kept if layout == "keep" else summed, -2)


def operands(key, lx, ly, lmax, *, parity: Parity = "even", channels_y=CHANNELS, dtype=None):
    """x, y and weights of EDGES rows."""
    count = len(paths(lx, ly, lmax, parity=parity))
    shapes = [((lx + 1) ** 2, CHANNELS), ((ly + 1) ** 2, channels_y), (count, CHANNELS)]
    keys = jax.random.split(key, 3)
    return tuple(
        jax.random.normal(k, (EDGES, *shape), dtype) for k, shape in zip(keys, shapes, strict=True)
    )


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("layout", ["sum", "keep"])
def test_equals_the_reference(x64, key, name, case, layout):
    *degrees, parity = case
    x, y, w = operands(key, *degrees, parity=parity)
    options = {"lmax": degrees[-1], "parity": parity}
    call = jax.jit(partial(tensor_product, **options, method=name, paths=layout))
    for second, weights in ((y[..., :1], w), (y, w), (y, None)):
        expected = reference(np.asarray(x), second, weights, **options, layout=layout)
        np.testing.assert_allclose(call(x, second, weights), expected, atol=1e-12)


@pytest.mark.parametrize("name", COUPLED)
def test_equals_the_reference_at_higher_degrees(x64, key, name):
    x, y, w = operands(key, 4, 3, 4, channels_y=1)
    call = jax.jit(partial(tensor_product, lmax=4, method=name, paths="keep"))
    expected = reference(*map(np.asarray, (x, y, w)), lmax=4, layout="keep")
    np.testing.assert_allclose(call(x, y, w), expected, atol=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("parity", ["even", "odd"])
def test_commutes_with_rotations_and_reflections(x64, key, name, improper, parity):
    """Natural parities give natural parity by even paths and pseudo-tensors by odd ones."""
    x, y, _ = operands(key, 2, 1, 2)
    turn = random_rotation(key, improper=improper)
    call = jax.jit(partial(tensor_product, lmax=2, method=name, parity=parity))
    expected = rotate(turn, call(x, y), pseudo=parity == "odd")
    np.testing.assert_allclose(call(rotate(turn, x), rotate(turn, y)), expected, atol=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
def test_direction_turns_with_its_vectors(x64, key, name):
    x, _, w = operands(key, 1, 2, 1)
    r = jax.random.normal(key, (EDGES, 3)).at[0].set(0.0).at[1].set([0.0, -1.0, 0.0])
    turn = random_rotation(key, improper=True)
    weights = w if name in COUPLED else None
    call = jax.jit(lambda x, r: tensor_product(x, Direction(r, 2), weights, lmax=1, method=name))
    turned = call(rotate(turn, x), r @ turn.T)
    np.testing.assert_allclose(turned, rotate(turn, call(x, r)), atol=1e-12)
    gradient = jax.jit(jax.grad(lambda r: (call(x, r) ** 2).sum()))(r)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", PRODUCTS)
def test_is_bilinear(x64, key, name):
    x, y, _ = operands(key, 2, 1, 2)
    u, v, _ = operands(jax.random.fold_in(key, 1), 2, 1, 2)
    call = jax.jit(partial(tensor_product, lmax=2, method=name))
    np.testing.assert_allclose(
        call(2 * x - u, y + 3 * v),
        2 * call(x, y) + 6 * call(x, v) - call(u, y) - 3 * call(u, v),
        atol=1e-12,
    )


@pytest.mark.parametrize("name", COUPLED)
def test_each_weight_scales_its_path(x64, key, name):
    x, y, w = operands(key, 1, 2, 2, parity="all")
    call = jax.jit(partial(tensor_product, lmax=2, method=name, paths="keep", parity="all"))
    layout = kept_layout(1, 2, 2, parity="all")
    start = 0
    for plain, weighted in zip(
        split_kept(call(x, y), layout), split_kept(call(x, y, w), layout), strict=True
    ):
        scale = w[:, start : start + plain.shape[1], None]
        np.testing.assert_allclose(weighted, plain * scale, atol=1e-13)
        start += plain.shape[1]


@pytest.mark.parametrize("name", PRODUCTS)
def test_kept_paths_add_up_to_the_sum(x64, key, name):
    x, y, _ = operands(key, 2, 2, 2)
    call = jax.jit(partial(tensor_product, lmax=2, method=name), static_argnames="paths")
    blocks = split_kept(call(x, y, paths="keep"), kept_layout(2, 2, 2))
    total = jnp.concatenate([block.sum(-3) for block in blocks], -2)
    np.testing.assert_allclose(call(x, y), total, atol=1e-13)


def derivatives(f, inputs, directions):
    """The gradient and its derivatives along `directions`, by reverse and by forward passes."""
    pair = lambda tree: sum(jnp.vdot(a, b) for a, b in zip(tree, directions, strict=True))
    along = lambda g: lambda a: jax.jvp(g, (a,), (directions,))[1]
    back = lambda g: jax.grad(lambda a: pair(g(a)))

    @jax.jit
    def evaluate(inputs):
        first = jax.grad(lambda a: f(*a))
        return {
            "first": first(inputs),
            "reverse reverse": back(first)(inputs),
            "forward reverse": along(first)(inputs),
            "reverse reverse reverse": back(back(first))(inputs),
            "forward forward reverse": along(along(first))(inputs),
            "reverse forward reverse": back(along(first))(inputs),
        }

    return evaluate(inputs)


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("layout, channels_y", [("sum", CHANNELS), ("keep", 1)])
def test_derivatives_to_third_order_equal_autodiff(x64, key, name, layout, channels_y):
    shape = {"parity": "all", "channels_y": channels_y}
    inputs = operands(key, 1, 1, 1, **shape)
    directions = operands(jax.random.fold_in(key, 1), 1, 1, 1, **shape)
    ours = partial(tensor_product, lmax=1, method=name, paths=layout, parity="all")
    exact = partial(reference, lmax=1, layout=layout, parity="all", xp=jnp)
    energy = lambda product: lambda *a: jnp.sin(product(*a)).sum()
    result = derivatives(energy(ours), inputs, directions)
    expected = derivatives(energy(exact), inputs, directions)
    for order, value in result.items():
        for a, b in zip(value, expected[order], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11, err_msg=order)


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives_are_finite_at_zero(key, name):
    zeros = jax.tree.map(jnp.zeros_like, operands(key, 1, 1, 1)[:2])
    energy = lambda *a: jnp.sin(tensor_product(*a, lmax=1, method=name)).sum()
    leaves = jax.tree.leaves(derivatives(energy, zeros, zeros))
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize("name", COUPLED)
def test_gradients_equal_autodiff_at_higher_degrees(x64, key, name):
    inputs = operands(key, 2, 2, 2, channels_y=1)
    ours = partial(tensor_product, lmax=2, method=name, paths="keep")
    exact = partial(reference, lmax=2, layout="keep", xp=jnp)
    gradient = lambda f: jax.jit(jax.grad(lambda a: jnp.sin(f(*a)).sum()))(inputs)
    for a, b in zip(gradient(ours), gradient(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtype_follows(x64, key, name, dtype):
    x, y, _ = operands(key, 1, 1, 1, dtype=dtype)
    energy = lambda x, y: tensor_product(x, y, lmax=1, method=name).sum()
    assert tensor_product(x, y, lmax=1, method=name).dtype == dtype
    assert [g.dtype for g in jax.jit(jax.grad(energy, (0, 1)))(x, y)] == [dtype, dtype]


@pytest.mark.parametrize("name", PRODUCTS)
def test_vmap(x64, key, name):
    """Over both operands, over one, over the last axis; of the product and of its gradient."""
    x, y, _ = operands(key, 1, 1, 1)
    call = partial(tensor_product, lmax=1, method=name)
    gradient = jax.grad(lambda x, y: jnp.sin(call(x, y)).sum())
    for f in (call, gradient):
        last = jax.vmap(f, in_axes=(2, 2), out_axes=2)
        both, one = jax.jit(jax.vmap(f)), jax.jit(jax.vmap(f, in_axes=(0, None)))
        expected = np.stack([f(x[i], y[i]) for i in range(EDGES)])
        np.testing.assert_allclose(both(x, y), expected, atol=1e-13)
        np.testing.assert_allclose(one(x, y[0])[0], expected[0], atol=1e-13)
        turned = jax.jit(last)(jnp.moveaxis(x, 0, 2), jnp.moveaxis(y, 0, 2))
        np.testing.assert_allclose(jnp.moveaxis(turned, 2, 0), expected, atol=1e-13)


def exported(function, shapes):
    """The function as a program for all platforms and any number of edges, stored and read back."""
    symbol = jax.export.symbolic_shape("edge")[0]
    arguments = [jax.ShapeDtypeStruct((symbol, *shape), "float32") for shape in shapes]
    program = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*arguments)
    return jax.export.deserialize(program.serialize()).call


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_exports(key, name):
    x, y, _ = operands(key, 3, 2, 3, channels_y=1)
    function = jax.jit(partial(tensor_product, lmax=3, method=name, paths="keep"))
    again = exported(function, (x.shape[1:], y.shape[1:]))
    np.testing.assert_allclose(again(x, y), function(x, y), atol=1e-5)


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives_of_forces_export(key, name):
    """Two reverse passes, run at two sizes."""
    x, y, _ = operands(key, 1, 1, 1, channels_y=1)
    energy = lambda x, y: jnp.sin(tensor_product(x, y, lmax=1, method=name)).sum()
    function = jax.jit(jax.grad(lambda x, y: (jax.grad(energy, 1)(x, y) ** 2).sum()))
    again = exported(function, (x.shape[1:], y.shape[1:]))
    for n in (1, EDGES):
        np.testing.assert_allclose(again(x[:n], y[:n]), function(x[:n], y[:n]), atol=1e-5)
