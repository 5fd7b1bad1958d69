"""What every product must do, for every entry of PRODUCTS.

The reference is an einsum per path with e3nn's coefficients, differentiated by autodiff. Products
of the family "gaunt" fix the weights of the paths, so the reference is given those.
"""

from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import PRODUCTS, Direction, kept_layout, split_kept, tensor_product
from geojax.so3 import (
    bracket_weight,
    gaunt_weight,
    harmonics,
    paths,
    random_rotation,
    rotate,
)

EDGES, CHANNELS = 3, 2
# What has code of its own elsewhere is `cg` here, and is tried in full with the slow tests.
MARKS = {name: [pytest.mark.slow] if e.platform == "cuda" else [] for name, e in PRODUCTS.items()}
NAMES = [pytest.param(name, marks=marks) for name, marks in MARKS.items()]
# Of what takes longest to compile `make test` tries a few, and `make test-all` everything.
FEW = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("cg", "cg-native", "gaunt-grid")))
    for name in PRODUCTS
]
PARITIES = [
    pytest.param(name, parity, marks=MARKS[name])
    for name, entry in PRODUCTS.items()
    for parity in entry.parities
]
# Its last parity, "all" for those that have it; the others with the slow tests.
LAST_PARITY = [
    pytest.param(
        name,
        parity,
        marks=MARKS[name] + [pytest.mark.slow] * (parity != entry.parities[-1]),
    )
    for name, entry in PRODUCTS.items()
    for parity in entry.parities
]
# The layout of the result, the channels of y, with weights or not.
LAYOUTS = [("sum", CHANNELS, False), ("keep", 1, True)]
LAYOUTS += [
    pytest.param(*layout, marks=pytest.mark.slow)
    for layout in product(("sum", "keep"), (1, CHANNELS), (False, True))
    if layout not in LAYOUTS
]
LARGE = [(7, 2, 7), (8, 8, 8), (10, 3, 10), (10, 10, 10)]


class Case(NamedTuple):
    """A product and its operands' degrees. The second operand is a leaf: features, or vectors."""

    name: str
    lx: int
    ly: int
    lmax: int
    parity: Any = None  # even, or odd for the bracket
    channels_y: int = CHANNELS

    @property
    def entry(self):
        return PRODUCTS[self.name]

    @property
    def paths(self):
        return paths(self.lx, self.ly, self.lmax, parity=self.kind)

    @property
    def kind(self):
        return self.parity or ("odd" if self.name == "vector-signal" else "even")

    @property
    def fixed(self):
        return self.entry.family == "gaunt"

    def operands(self, key, dtype=None):
        """x, the leaf and weights of EDGES rows."""
        rows = self.lx + self.ly + self.lmax + 3 if self.fixed else len(self.paths)
        shapes = [((self.lx + 1) ** 2, CHANNELS), self.leaf, (rows, CHANNELS)]
        keys = jax.random.split(key, 3)
        make = lambda k, shape: jax.random.normal(k, (EDGES, *shape), dtype)
        return tuple(make(k, shape) for k, shape in zip(keys, shapes, strict=True))

    @property
    def leaf(self):
        return (3,) if self.entry.direction else ((self.ly + 1) ** 2, self.channels_y)

    def product(self, x, leaf, weights=None, *, layout="sum"):
        y = Direction(leaf, self.ly) if self.entry.direction else leaf
        options = {"lmax": self.lmax, "parity": self.kind, "method": self.name}
        return tensor_product(x, y, weights, **options, paths=layout)

    def reference(self, x, leaf, weights=None, *, layout="sum", xp: Any = np):
        """The definition, one einsum per path, by numpy or (for derivatives) by jax."""
        y = harmonics(leaf, self.ly)[..., None] if self.entry.direction else leaf
        y = xp.broadcast_to(y, (*y.shape[:-1], x.shape[-1]))
        rows = lambda a, l: a[..., l * l : (l + 1) ** 2, :]
        kept = []
        summed = [xp.zeros((*x.shape[:-2], 2 * l + 1, x.shape[-1])) for l in range(self.lmax + 1)]
        for i, path in enumerate(self.paths):
            t = xp.asarray(coefficients(*path))
            part = xp.einsum("abk,...ac,...bc->...kc", t, rows(x, path.l1), rows(y, path.l2))
            kept.append(part * self.weight(i, weights))
            summed[path.l3] = summed[path.l3] + kept[-1]
        return xp.concatenate(kept if layout == "keep" else summed, -2)

    def weight(self, i, weights):
        """The factor of path i, `[..., 1, channel]` or a number."""
        path = self.paths[i]
        if not self.fixed:
            return 1 if weights is None else weights[..., i, None, :]
        fixed = gaunt_weight(path) + bracket_weight(path)
        if weights is None:
            return fixed
        places = (path.l1, self.lx + 1 + path.l2, self.lx + self.ly + 2 + path.l3)
        of_x, of_y, of_out = (weights[..., place, None, :] for place in places)
        return fixed * of_x * of_y * of_out


@cache
def coefficients(l1, l2, l3):
    tensor = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3))
    return tensor * np.sqrt(2 * l3 + 1) / np.linalg.norm(tensor)


def numpy(a):
    return None if a is None else np.asarray(a)


def turned(case, turn, x, leaf):
    other = leaf @ turn.T if case.entry.direction else rotate(turn, leaf)
    return rotate(turn, x), other


def fits(case):
    limit = case.entry.lmax
    if limit is not None and max(case.lx, case.ly, case.lmax) > limit:
        pytest.skip(f"{case.name} ends at degree {limit}")
    if not case.paths:
        pytest.skip("no path of this parity")
    return case


@pytest.mark.parametrize("name, parity", PARITIES)
@pytest.mark.parametrize(
    "degrees",
    [
        (2, 1, 2),
        *(pytest.param(d, marks=pytest.mark.slow) for d in [(1, 1, 1), (0, 2, 2), (1, 2, 3)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout, channels_y, weighted", LAYOUTS)
def test_equals_the_reference(x64, key, name, parity, degrees, layout, channels_y, weighted):
    case = fits(Case(name, *degrees, parity, channels_y))
    x, leaf, weights = case.operands(key)
    weights = weights if weighted else None
    result = jax.jit(partial(case.product, layout=layout))(x, leaf, weights)
    expected = case.reference(np.asarray(x), leaf, numpy(weights), layout=layout)
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lmax", [3, *(pytest.param(l, marks=pytest.mark.slow) for l in (4, 5, 6))])
def test_equals_the_reference_at_higher_degrees(x64, key, name, lmax):
    case = fits(Case(name, lmax, lmax, lmax, None, 1))
    x, leaf, w = case.operands(key)
    result = jax.jit(case.product)(x, leaf, w)
    scale = np.abs(expected := case.reference(np.asarray(x), leaf, np.asarray(w))).max()
    np.testing.assert_allclose(result, expected, atol=1e-12 * max(1, scale))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("degrees", LARGE, ids=str)
def test_equals_the_reference_at_high_degrees(x64, key, name, degrees):
    case = fits(Case(name, *degrees, None, 1))
    x, leaf, _ = case.operands(key)
    result = jax.jit(case.product)(x, leaf)
    scale = np.abs(expected := case.reference(np.asarray(x), leaf)).max()
    np.testing.assert_allclose(result, expected, atol=1e-12 * max(1, scale))


@pytest.mark.parametrize("name, parity", PARITIES)
def test_commutes_with_rotations_and_reflections(x64, key, name, parity):
    """Natural parities give natural parity by even paths and pseudo-tensors by odd ones."""
    case = Case(name, 2, 1, 2, parity)
    x, leaf, _ = case.operands(key)
    # paths of both parities respect rotations only
    turn = random_rotation(key, improper=parity != "all")
    call = jax.jit(case.product)
    expected = rotate(turn, call(x, leaf), pseudo=parity == "odd")
    np.testing.assert_allclose(call(*turned(case, turn, x, leaf)), expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_direction_turns_with_its_vectors(x64, key, name):
    """Also where it is zero, up or down the polar axis."""
    x, _, _ = Case(name, 1, 2, 1).operands(key)
    r = jax.random.normal(key, (5, 3)).at[:3].set([[0.0, 0, 0], [0, -1, 0], [0, 1, 0]])
    x = jnp.concatenate([x, x])[:5]
    turn = random_rotation(key, improper=True)
    call = jax.jit(lambda x, r: tensor_product(x, Direction(r, 2), lmax=1, method=name))
    np.testing.assert_allclose(
        call(rotate(turn, x), r @ turn.T), rotate(turn, call(x, r)), atol=1e-12
    )
    exact = jax.jit(lambda x, r: tensor_product(x, harmonics(r, 2)[..., None], lmax=1, method="cg"))
    if PRODUCTS[name].family == "coupled":
        for f in (lambda c: c(x, r), lambda c: jax.grad(lambda r: jnp.sin(c(x, r)).sum())(r)):
            np.testing.assert_allclose(f(call), f(exact), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_is_bilinear(x64, key, name):
    """In x always, and in the features y."""
    case = Case(name, 2, 1, 2)
    x, y, _ = case.operands(key)
    u, v, _ = case.operands(jax.random.fold_in(key, 1))
    call = jax.jit(case.product)
    expected = 2 * call(x, y) - call(u, y)
    np.testing.assert_allclose(call(2 * x - u, y), expected, atol=1e-12)
    if not case.entry.direction:
        expected = call(x, y) + 3 * call(x, v)
        np.testing.assert_allclose(call(x, y + 3 * v), expected, atol=1e-12)


@pytest.mark.parametrize("name, parity", LAST_PARITY)
def test_kept_paths_add_up_to_the_sum(x64, key, name, parity):
    case = Case(name, 2, 2, 2, parity)
    x, leaf, _ = case.operands(key)
    call = jax.jit(case.product, static_argnames="layout")
    blocks = split_kept(call(x, leaf, layout="keep"), kept_layout(2, 2, 2, parity=parity))
    total = jnp.concatenate([block.sum(-3) for block in blocks], -2)
    np.testing.assert_allclose(call(x, leaf), total, atol=1e-13)


def derivatives(f, inputs, directions, every=False):
    """The gradient and derivatives of it along `directions`: two ways to go, or every way."""
    pair = lambda tree: sum(jnp.vdot(a, b) for a, b in zip(tree, directions, strict=True))
    along = lambda g: lambda a: jax.jvp(g, (a,), (directions,))[1]
    back = lambda g: jax.grad(lambda a: pair(g(a)))

    first = jax.grad(lambda a: f(*a))
    modes = {"first": first, "forward forward reverse": along(along(first))}
    if every:
        modes |= {
            "reverse reverse": back(first),
            "forward reverse": along(first),
            "reverse reverse reverse": back(back(first)),
            "reverse forward reverse": back(along(first)),
        }
    return jax.jit(lambda inputs: {name: mode(inputs) for name, mode in modes.items()})(inputs)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    "layout, channels_y, every",
    [
        ("keep", 1, False),
        pytest.param("keep", 1, True, marks=pytest.mark.slow),
        pytest.param("sum", CHANNELS, True, marks=pytest.mark.slow),
    ],
)
def test_derivatives_to_third_order_equal_autodiff(x64, key, name, layout, channels_y, every):
    case = Case(name, 1, 1, 1, PRODUCTS[name].parities[-1], channels_y)
    inputs = case.operands(key)
    directions = case.operands(jax.random.fold_in(key, 1))
    energy = lambda product: lambda *a: jnp.sin(product(*a, layout=layout)).sum()
    result = derivatives(energy(case.product), inputs, directions, every)
    expected = derivatives(energy(partial(case.reference, xp=jnp)), inputs, directions, every)
    for order, value in result.items():
        for a, b in zip(value, expected[order], strict=True):
            scale = max(1, np.abs(b).max())
            np.testing.assert_allclose(a, b, atol=1e-12 * scale, err_msg=order)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_finite_at_zero(key, name):
    case = Case(name, 1, 1, 1)
    zeros = jax.tree.map(jnp.zeros_like, case.operands(key)[:2])
    energy = lambda *a: jnp.sin(case.product(*a)).sum()
    leaves = jax.tree.leaves(derivatives(energy, zeros, zeros))
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_autodiff_at_higher_degrees(x64, key, name):
    case = Case(name, 2, 2, 2, None, 1)
    inputs = case.operands(key)
    energy = lambda product: lambda a: jnp.sin(product(*a, layout="keep")).sum()
    gradient = lambda product: jax.jit(jax.grad(energy(product)))(inputs)
    exact = partial(case.reference, xp=jnp)
    for a, b in zip(gradient(case.product), gradient(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_dtype_follows(x64, key, name, dtype):
    case = Case(name, 1, 1, 1)
    x, leaf, _ = case.operands(key, dtype)
    energy = lambda *a: case.product(*a).sum()
    assert case.product(x, leaf).dtype == dtype
    assert [g.dtype for g in jax.jit(jax.grad(energy, (0, 1)))(x, leaf)] == [dtype, dtype]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["gradient", pytest.param("product", marks=pytest.mark.slow)])
def test_vmap(x64, key, name, of):
    """Over both operands, over one, over the last axis; of the product and of its gradient."""
    case = Case(name, 1, 1, 1)
    x, leaf, _ = case.operands(key)
    gradient = jax.grad(lambda *a: jnp.sin(case.product(*a)).sum())
    f = gradient if of == "gradient" else case.product

    @jax.jit
    def mapped(x, leaf):
        last = jax.vmap(f, in_axes=(2, leaf.ndim - 1), out_axes=2)
        turned = last(jnp.moveaxis(x, 0, 2), jnp.moveaxis(leaf, 0, -1))
        single = jax.vmap(f, in_axes=(0, None))(x, leaf[0])
        return jax.vmap(f)(x, leaf), single, jnp.moveaxis(turned, 2, 0)

    one = jax.jit(f)
    expected = np.stack([one(x[i], leaf[i]) for i in range(EDGES)])
    both, single, last = mapped(x, leaf)
    np.testing.assert_allclose(both, expected, atol=1e-13)
    np.testing.assert_allclose(single[0], expected[0], atol=1e-13)
    np.testing.assert_allclose(last, expected, atol=1e-13)


def exported(function, shapes):
    """The function as a program for all platforms and any number of edges, stored and read back."""
    symbol = jax.export.symbolic_shape("edge")[0]
    arguments = [jax.ShapeDtypeStruct((symbol, *shape), "float32") for shape in shapes]
    program = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*arguments)
    return jax.export.deserialize(program.serialize()).call


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_product_exports(key, name):
    case = Case(name, 2, 1, 2, None, 1)
    x, leaf, w = case.operands(key)
    function = jax.jit(partial(case.product, layout="keep"))
    again = exported(function, (x.shape[1:], leaf.shape[1:], w.shape[1:]))
    np.testing.assert_allclose(again(x, leaf, w), function(x, leaf, w), atol=1e-5)


@pytest.mark.parametrize("name", FEW)
def test_derivatives_of_forces_export(key, name):
    """Two reverse passes, run at two sizes."""
    case = Case(name, 1, 1, 1, None, 1)
    x, leaf, _ = case.operands(key)
    energy = lambda *a: jnp.sin(case.product(*a)).sum()
    function = jax.jit(jax.grad(lambda x, y: (jax.grad(energy, 1)(x, y) ** 2).sum()))
    again = exported(function, (x.shape[1:], leaf.shape[1:]))
    for n in (1, EDGES):
        np.testing.assert_allclose(again(x[:n], leaf[:n]), function(x[:n], leaf[:n]), atol=1e-4)
