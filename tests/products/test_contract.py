"""What every product must do, for every entry of PRODUCTS.

The reference is an einsum per path with e3nn's coefficients, differentiated by autodiff. Coupled
products must equal it; Gaunt products choose their own weights of the paths, so they keep the rest.
"""

from functools import cache, partial

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, Direction, kept_layout, split_kept, tensor_product
from geojax.so3 import paths, random_rotation, rotate

COUPLED = [name for name, entry in PRODUCTS.items() if entry.family == "coupled"]
DEGREES = [(1, 1, 1), (2, 1, 2), (0, 2, 1), (2, 2, 3)]
EDGES, CHANNELS = 3, 2


@cache
def coefficients(l1, l2, l3):
    tensor = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3))
    return tensor * np.sqrt(2 * l3 + 1) / np.linalg.norm(tensor)


def reference(x, y, w, *, lmax, layout="sum", parity="even"):
    """The definition, one einsum per path."""
    lx, ly = (round(a.shape[-2] ** 0.5) - 1 for a in (x, y))
    y = jnp.broadcast_to(y, (*y.shape[:-1], x.shape[-1]))
    rows = lambda a, l: a[..., l * l : (l + 1) ** 2, :]
    kept = []
    summed = [jnp.zeros((*x.shape[:-2], 2 * l + 1, x.shape[-1]), x.dtype) for l in range(lmax + 1)]
    for i, (l1, l2, l3) in enumerate(paths(lx, ly, lmax, parity=parity)):
        t = jnp.asarray(coefficients(l1, l2, l3), x.dtype)
        part = jnp.einsum("abk,...ac,...bc->...kc", t, rows(x, l1), rows(y, l2))
        kept.append(part if w is None else part * w[..., i, None, :])
        summed[l3] += kept[-1]
    return jnp.concatenate(kept if layout == "keep" else summed, -2)


def operands(key, lx, ly, lmax, *, parity="even", channels_y=CHANNELS, dtype=None):
    """x, y and weights of EDGES rows."""
    count = len(paths(lx, ly, lmax, parity=parity))
    shapes = [((lx + 1) ** 2, CHANNELS), ((ly + 1) ** 2, channels_y), (count, CHANNELS)]
    keys = jax.random.split(key, 3)
    return tuple(
        jax.random.normal(k, (EDGES, *shape), dtype) for k, shape in zip(keys, shapes, strict=True)
    )


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("degrees", [*DEGREES, (4, 3, 4)], ids=str)
@pytest.mark.parametrize("parity", ["even", "odd", "all"])
@pytest.mark.parametrize("layout", ["sum", "keep"])
def test_equals_the_reference(x64, key, name, degrees, parity, layout):
    lmax = degrees[-1]
    if not paths(*degrees, parity=parity):
        pytest.skip("no such path")
    for channels_y in (1, CHANNELS):
        x, y, w = operands(key, *degrees, parity=parity, channels_y=channels_y)
        for weights in (None, w):
            expected = reference(x, y, weights, lmax=lmax, layout=layout, parity=parity)
            call = partial(tensor_product, lmax=lmax, method=name, paths=layout, parity=parity)
            np.testing.assert_allclose(jax.jit(call)(x, y, weights), expected, atol=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("parity", ["even", "odd"])
def test_commutes_with_rotations_and_reflections(x64, key, name, improper, parity):
    """Natural parities give natural parity by even paths and pseudo-tensors by odd ones."""
    x, y, _ = operands(key, 2, 2, 3)
    turn = random_rotation(key, improper=improper)
    call = jax.jit(partial(tensor_product, lmax=3, method=name, parity=parity))
    expected = rotate(turn, call(x, y), pseudo=parity == "odd")
    np.testing.assert_allclose(call(rotate(turn, x), rotate(turn, y)), expected, atol=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
def test_direction_turns_with_its_vectors(x64, key, name):
    x, _, w = operands(key, 2, 2, 2)
    r = jax.random.normal(key, (EDGES, 3)).at[0].set(0.0).at[1].set([0.0, -1.0, 0.0])
    turn = random_rotation(key, improper=True)
    weights = w if name in COUPLED else None
    call = jax.jit(lambda x, r: tensor_product(x, Direction(r, 2), weights, lmax=2, method=name))
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


def second_and_third_derivatives(f, inputs, directions):
    """By two and three reverse passes, by forward over reverse, and mixed."""
    pair = lambda tree: sum(jnp.vdot(a, b) for a, b in zip(tree, directions, strict=True))
    first = jax.grad(lambda a: f(*a))
    along = lambda g: lambda a: jax.jvp(g, (a,), (directions,))[1]
    back = lambda g: jax.grad(lambda a: pair(g(a)))
    maps = {
        "first": first,
        "reverse reverse": back(first),
        "forward reverse": along(first),
        "reverse reverse reverse": back(back(first)),
        "forward forward reverse": along(along(first)),
        "reverse forward reverse": back(along(first)),
    }
    return {order: jax.jit(g)(inputs) for order, g in maps.items()}


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("layout", ["sum", "keep"])
@pytest.mark.parametrize("channels_y", [1, CHANNELS])
def test_derivatives_to_third_order_equal_autodiff(x64, key, name, layout, channels_y):
    shape = {"parity": "all", "channels_y": channels_y}
    inputs = operands(key, 1, 1, 1, **shape)
    directions = operands(jax.random.fold_in(key, 1), 1, 1, 1, **shape)
    ours = partial(tensor_product, lmax=1, method=name, paths=layout, parity="all")
    exact = partial(reference, lmax=1, layout=layout, parity="all")
    energy = lambda product: lambda *a: jnp.sin(product(*a)).sum()
    result = second_and_third_derivatives(energy(ours), inputs, directions)
    expected = second_and_third_derivatives(energy(exact), inputs, directions)
    for order, value in result.items():
        for a, b in zip(value, expected[order], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11, err_msg=order)


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives_are_finite_at_zero(key, name):
    zeros = jax.tree.map(jnp.zeros_like, operands(key, 1, 1, 1)[:2])
    energy = lambda *a: jnp.sin(tensor_product(*a, lmax=1, method=name)).sum()
    derivatives = second_and_third_derivatives(energy, zeros, zeros)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(derivatives))


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("degrees", [(2, 2, 2), (4, 2, 4)], ids=str)
def test_gradients_equal_autodiff_at_higher_degrees(x64, key, name, degrees):
    inputs = operands(key, *degrees, channels_y=1)
    ours = partial(tensor_product, lmax=degrees[-1], method=name, paths="keep")
    exact = partial(reference, lmax=degrees[-1], layout="keep")
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
    """Over all operands, over some, on inner axes, and of derivatives."""
    x, y, _ = operands(key, 2, 1, 2)
    call = partial(tensor_product, lmax=2, method=name)
    gradient = jax.grad(lambda x, y: jnp.sin(call(x, y)).sum())
    for f in (call, gradient):
        over_both = jax.jit(jax.vmap(f))(x, y)
        over_x = jax.jit(jax.vmap(f, in_axes=(0, None)))(x, y[0])
        last = jax.jit(jax.vmap(f, in_axes=(2, 2), out_axes=2))(x, y)
        for i in range(EDGES):
            np.testing.assert_allclose(over_both[i], f(x[i], y[i]), atol=1e-13)
            np.testing.assert_allclose(over_x[i], f(x[i], y[0]), atol=1e-13)
        for c in range(CHANNELS):
            np.testing.assert_allclose(last[..., c], f(x[..., c], y[..., c]), atol=1e-13)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("lmax", [1, 3])
def test_lowers_for_every_platform_and_any_number_of_edges(key, name, lmax):
    """Forces and their derivatives too; the program runs here at two sizes."""
    x, y, _ = operands(key, lmax, lmax, lmax, channels_y=1)

    def energy(x, y):
        return jnp.sin(tensor_product(x, y, lmax=lmax, method=name, paths="keep")).sum()

    function = jax.jit(jax.grad(energy, (0, 1)) if lmax > 1 else second(energy))
    symbol = jax.export.symbolic_shape("edge")[0]
    shapes = [jax.ShapeDtypeStruct((symbol, *a.shape[1:]), a.dtype) for a in (x, y)]
    program = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*shapes)
    again = jax.export.deserialize(program.serialize())
    for n in (1, EDGES):
        for a, b in zip(again.call(x[:n], y[:n]), function(x[:n], y[:n]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def second(energy):
    return jax.grad(lambda x, y: (jax.grad(energy, 1)(x, y) ** 2).sum(), (0, 1))
