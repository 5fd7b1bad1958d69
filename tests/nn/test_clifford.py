"""Layers on multivectors: equivariance under versors of every metric, sizes, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import cl, exp, geometric_product, parts, product_paths, sandwich
from geojax.nn import (
    FullyConnectedProduct,
    GeometricProduct,
    MultivectorLayerNorm,
    MultivectorLinear,
    MultivectorMLP,
    MultivectorNorm,
    MultivectorSiLU,
    irrep,
    multivector_blocks,
)
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)

LAYERS = {
    "linear": lambda a, m: MultivectorLinear(a, 2, modulo=m),
    "shared": lambda a, m: MultivectorLinear(a, 2, shared=True),
    "silu": lambda a, m: MultivectorSiLU(a),
    "norm": lambda a, m: MultivectorNorm(a, m),
    "layer-norm": lambda a, m: MultivectorLayerNorm(a),
    "product": lambda a, m: GeometricProduct(a, m),
    "fully-connected": lambda a, m: FullyConnectedProduct(a, 2, m),
    "cgenn": lambda a, m: MultivectorMLP(a, 2, modulo=m),
    "glgenn": lambda a, m: MultivectorMLP(a, 2, 1, 4, affine=False),
}
# Of each algebra all layers are compiled as one program.
ALGEBRAS = [
    pytest.param(cl(3), None, id="Cl(3)"),
    pytest.param(cl(1, 3), 4, id="Cl(1,3)-types", marks=pytest.mark.slow),
    pytest.param(cl(3, 1), None, id="Cl(3,1)", marks=pytest.mark.slow),
    pytest.param(cl(5), 4, id="Cl(5)-types", marks=pytest.mark.slow),
    pytest.param(cl(2, 0, 1), None, id="Cl(2,0,1)", marks=pytest.mark.slow),
]


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def parameters(layer, x):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: draw(*s.shape), shapes)


def size(layer, *shape):
    found = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(found))


def versors(algebra):
    """A rotation (with boosts of moderate rapidity), and its products with two reflections."""
    size, n = 2**algebra.n, algebra.n
    bivector = np.where(np.array(algebra.grades) == 2, 0.4 * RNG.normal(size=size), 0)
    turn = exp(jnp.asarray(bivector), algebra)
    inverted = [i for i, square in enumerate(algebra.metric) if square]
    mirrors = jnp.eye(size)[1 : n + 1][np.array([inverted[0], inverted[-1]])]
    wide = jnp.broadcast_to(turn, mirrors.shape)
    return [turn, *geometric_product(wide[..., None], mirrors[..., None], algebra)[..., 0]]


@pytest.mark.parametrize(("algebra", "modulo"), ALGEBRAS)
def test_all_layers_commute_with_versors(algebra, modulo, x64):
    x = draw(4, 2**algebra.n, 3)
    layers = {name: make(algebra, modulo) for name, make in LAYERS.items()}
    params = {name: parameters(layer, x) for name, layer in layers.items()}
    apply = jax.jit(lambda p, x: {name: layers[name].apply(p[name], x) for name in layers})
    out = apply(params, x)
    for w in versors(algebra):
        for name, found in apply(params, sandwich(w, x, algebra)).items():
            expected = sandwich(w, out[name], algebra)
            scale = float(jnp.abs(expected).max())
            assert scale > 1e-3 and np.abs(found - out[name]).max() > 1e-3, name
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * scale, err_msg=name)


def test_what_mixes_the_components_of_a_grade_would_be_seen(x64):
    algebra = cl(3)
    x, w = draw(2, 8, 3), versors(algebra)[0]
    wrong = lambda x: x * jnp.arange(8.0)[None, :, None]
    assert np.abs(wrong(sandwich(w, x, algebra)) - sandwich(w, wrong(x), algebra)).max() > 0.1


def test_the_gate_and_the_norms_by_hand(x64):
    algebra, x = cl(1, 3), np.asarray(draw(2, 16, 3))
    metric = np.array(algebra.squares, float)[None, :, None]
    grades = np.array(algebra.grades)
    q = np.stack([(metric * x**2)[:, grades == k].sum(1) for k in range(5)], 1)
    assert (q < 0).any() and (q > 0).any()
    size = lambda q: (q**2 + 1e-16) ** 0.25
    sigmoid = lambda x: 1 / (1 + np.exp(-x))

    def found(layer):
        params = parameters(layer, jnp.asarray(x))
        return jax.tree.map(np.asarray, params["params"]), layer.apply(params, jnp.asarray(x))

    p, out = found(MultivectorSiLU(algebra))
    gate = sigmoid(p["a"] * np.concatenate([x[:, :1], q[:, 1:]], 1) + p["b"])
    np.testing.assert_allclose(out, x * gate[:, grades], atol=1e-12)
    p, out = found(MultivectorNorm(algebra))
    below = sigmoid(p["a"]) * (size(q) - 1) + 1 + 1e-6
    np.testing.assert_allclose(out, x / below[:, grades], atol=1e-12)
    p, out = found(MultivectorLayerNorm(algebra))
    mean = size(q.sum(1)).mean(-1)[:, None, None]
    np.testing.assert_allclose(out, p["a"] * x / (mean + 1e-6), atol=1e-12)


def test_a_linear_map_of_parts_is_that_of_their_concatenation(x64):
    algebra, x, y = cl(3), draw(2, 8, 3), draw(2, 8, 4)
    layer = MultivectorLinear(algebra, 5)
    params = parameters(layer, jnp.concatenate([x, y], -1))
    rows = jnp.array([1, 1, 0])

    @jax.jit
    def figures(params, x, y):
        whole = layer.apply(params, jnp.concatenate([x, y], -1))
        moved = layer.apply(params, (x, lambda a: a[rows]), y[rows])
        return whole, layer.apply(params, x, y), moved

    whole, apart, moved = figures(params, x, y)
    np.testing.assert_allclose(apart, whole, atol=1e-12)
    np.testing.assert_allclose(moved, whole[rows], atol=1e-12)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    by_hand = jnp.concatenate([x, y], -1)[:, 4:7] @ kernel[2]
    np.testing.assert_allclose(whole[:, 4:7], by_hand, atol=1e-12)
    by_hand = jnp.concatenate([x, y], -1)[:, 0] @ kernel[0] + bias
    np.testing.assert_allclose(whole[:, 0], by_hand, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_types_are_grades_up_to_three_dimensions(n):
    """The same weights, then, give the same; above, grades k and k + 4 share theirs."""
    layers = [GeometricProduct(cl(n), modulo, first_order=False) for modulo in (None, 4)]
    counts = [size(layer, 1, 2**n, 8) for layer in layers]
    assert (counts[0] == counts[1]) == (n <= 3)
    assert (parts(cl(n)) == parts(cl(n), 4)) == (n <= 3)
    assert (product_paths(cl(n)) == product_paths(cl(n), 4)) == (n <= 3)
    if n == 3:
        x = jnp.asarray(RNG.normal(size=(2, 8, 8)), jnp.float32)
        params = parameters(layers[0], x)
        np.testing.assert_array_equal(*(jax.jit(layer.apply)(params, x) for layer in layers))


def test_published_sizes_of_the_blocks():
    """The five-dimensional n-body networks of the GLGENN paper: 210K and 103K parameters."""
    algebra = cl(5)

    def network(modulo, affine):
        block = lambda channels: size(
            MultivectorMLP(algebra, 28, modulo=modulo, affine=affine), 1, 32, channels
        )
        linear = lambda a, b, shared: size(
            MultivectorLinear(algebra, b, affine, modulo, shared), 1, 32, a
        )
        return linear(3, 28, affine) + 3 * (block(29) + block(56)) + linear(28, 1, False)

    assert network(None, True) == 210_113
    assert network(4, False) == 102_928


def test_starts_are_those_of_the_authors(key):
    algebra = cl(3)
    params = jax.jit(GeometricProduct(algebra).init)(key, jnp.zeros((1, 8, 100)))["params"]
    assert abs(params["weights"].std() * 2 - 1) < 0.05  # sqrt(n + 1) = 2
    assert abs(params["linear"]["kernel"].std() * 10 - 1) < 0.05
    assert not params["bias"].any() and not params["norm"]["a"].any()


@pytest.mark.slow
def test_derivatives_at_zero_and_of_tiny_multivectors_are_finite():
    algebra = cl(1, 1)
    layers = [MultivectorNorm(algebra), MultivectorLayerNorm(algebra), MultivectorSiLU(algebra)]
    params = [layer.init(jax.random.key(0), jnp.zeros((1, 4, 2))) for layer in layers]

    def value(x):
        for layer, p in zip(layers, params, strict=True):
            x = layer.apply(p, x)
        return x.sum()

    gradient = lambda f: jax.grad(lambda x: f(x).sum())
    third = jax.jit(gradient(gradient(gradient(value))))
    for figure in (0.0, 1e-30, 1e-8):
        assert np.isfinite(third(jnp.full((1, 4, 2), figure))).all()


def test_grades_are_irreps_of_rotations_and_reflections(x64):
    matrix = random_rotation(jax.random.key(1), improper=True, dtype=jnp.float64)
    a, b, c = draw(3, 3)
    wedge = lambda a, b: np.stack([a[i] * b[j] - a[j] * b[i] for i, j in ((0, 1), (0, 2), (1, 2))])
    volume = lambda a, b, c: np.linalg.det(np.stack([a, b, c]))
    column = lambda a, b, c: jnp.concatenate(
        [jnp.ones(1), a, jnp.asarray(wedge(a, b)), volume(a, b, c)[None]]
    )[None, :, None]
    before = multivector_blocks(column(a, b, c))
    after = multivector_blocks(column(*(matrix @ v for v in (a, b, c))))
    natural, pseudo = irrep(1), irrep(1, pseudo=True)
    np.testing.assert_allclose(before[pseudo][0, :, 0], np.cross(a, b), atol=1e-12)
    scalar, sign = jnp.ones((1, 1)), -jnp.ones((1, 1))
    turns = {irrep(0): scalar, natural: matrix, pseudo: -matrix, irrep(0, pseudo=True): sign}
    assert set(turns) == set(before)
    for name, turn in turns.items():
        np.testing.assert_allclose(after[name][0], turn @ before[name][0], atol=1e-12)
