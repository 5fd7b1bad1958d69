"""Diagrams: dense matrices by loops over indices, random group elements, known dimensions."""

import itertools
import math
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from geojax.nn import Diagram, DiagramLinear, apply_diagram, diagrams

rng = np.random.default_rng(0)


def parity(order):
    pairs = itertools.combinations(order, 2)
    return 0 if len(set(order)) < len(order) else (-1) ** sum(a > b for a, b in pairs)


def symplectic(i, j, n):
    half = n // 2
    return (j == i + half) - (i == j + half)


def entry(d, index):
    """Of the matrix of a diagram, at indices of all vertices."""
    value = 1.0
    for block in d.blocks:
        own = [index[v] for v in block]
        if d.group == "Sp" and (block[0] >= d.l or block[1] < d.l):
            value *= symplectic(*own, d.n)
        else:
            value *= len(set(own)) == 1
    return value * (parity([index[v] for v in d.epsilon]) if d.epsilon else 1)


def dense(d):
    """[n**l, n**k], entry by entry."""
    found = np.zeros((d.n,) * (d.l + d.k))
    for index in np.ndindex(found.shape):
        found[index] = entry(d, index)
    return found.reshape(d.n**d.l, d.n**d.k)


def element(group, n):
    if group == "S":
        return np.eye(n)[rng.permutation(n)]
    if group == "Sp":
        a = rng.normal(size=(n, n))
        return expm(0.3 * symplectic_matrix(n) @ (a + a.T))
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    q[:, 0] *= np.sign(np.linalg.det(q)) * (1 if group == "SO" else -1)
    return q


def symplectic_matrix(n):
    return np.array([[symplectic(i, j, n) for j in range(n)] for i in range(n)], float)


def power(g, times):
    return reduce(np.kron, [g] * times, np.eye(1))


SIZES = [
    ("O", 3, 2, 2),
    ("O", 2, 1, 3),
    ("O", 3, 4, 0),
    ("SO", 3, 2, 1),
    ("SO", 3, 1, 2),
    ("SO", 3, 0, 3),
    ("SO", 2, 2, 2),
    ("SO", 3, 2, 3),
    ("Sp", 2, 2, 2),
    ("Sp", 4, 3, 1),
    ("Sp", 2, 1, 3),
    ("S", 4, 2, 2),
    ("S", 2, 2, 2),
    ("S", 3, 1, 3),
    ("S", 3, 3, 0),
]


@pytest.mark.parametrize(("group", "n", "k", "l"), SIZES)
def test_a_diagram_is_its_dense_matrix_and_that_is_equivariant(group, n, k, l, x64):
    x = rng.normal(size=(2, *(n,) * k, 3))
    g = element(group, n)
    every = jax.jit(lambda x: [apply_diagram(x, d) for d in diagrams(group, n, k, l)])
    for d, y in zip(diagrams(group, n, k, l), every(jnp.asarray(x)), strict=True):
        matrix = dense(d)
        want = np.einsum("ij,bjc->bic", matrix, x.reshape(2, n**k, 3))
        got = np.asarray(y).reshape(2, n**l, 3)
        np.testing.assert_allclose(got, want, atol=1e-12)
        turned = power(g, l) @ matrix - matrix @ power(g, k)
        np.testing.assert_allclose(turned, 0, atol=1e-10)
        assert d.gain == pytest.approx(np.sum(matrix**2) / n**l)


def stirling(m, blocks):
    signs = ((-1) ** (blocks - j) * math.comb(blocks, j) * j**m for j in range(blocks + 1))
    return sum(signs) // math.factorial(blocks)


def double_factorial(m):
    return math.prod(range(m, 0, -2))


def test_how_many_there_are():
    for m in range(7):
        paired = 0 if m % 2 else double_factorial(m - 1)
        assert len(diagrams("O", 5, m, 0)) == len(diagrams("Sp", 4, m, 0)) == paired
        most = {n: sum(stirling(m, b) for b in range(n + 1)) for n in (1, 2, 9)}
        assert {n: len(diagrams("S", n, m // 2, m - m // 2)) for n in most} == most
        free = math.comb(m, 3) * double_factorial(m - 4) if m % 2 and m > 2 else 0
        assert len(diagrams("SO", 3, m, 0)) == paired + free
    assert [len(diagrams("S", 9, k, l)) for k, l in ((2, 2), (2, 1), (1, 1))] == [15, 5, 2]


def invariant(d):
    """The vector of a diagram without inputs, as a product of its factors."""
    pair = symplectic_matrix(d.n) if d.group == "Sp" else np.eye(d.n)
    alike = lambda size: np.array(
        [len(set(i)) == 1 for i in np.ndindex((d.n,) * size)], float
    ).reshape((d.n,) * size)
    factors = [pair if len(b) == 2 else alike(len(b)) for b in d.blocks]
    if d.epsilon:
        signs = [parity(i) for i in np.ndindex((d.n,) * d.n)]
        factors.append(np.array(signs, float).reshape((d.n,) * d.n))
    order = [v for b in (*d.blocks, d.epsilon) for v in b]
    whole = reduce(np.multiply.outer, factors, np.ones(()))
    return whole.transpose(np.argsort(order)).reshape(-1)


def ranks(group, n, orders):
    """How many of the diagrams of so many vertices are independent."""
    found = []
    for m in orders:
        rows = np.stack([invariant(d) for d in diagrams(group, n, 0, m)])
        found.append(int(np.linalg.matrix_rank(rows @ rows.T)))
    return found


def motzkin_sums(most):
    """How often the trivial representation of SO(3) is in the powers of the vector."""
    a = [1, 0]
    for i in range(2, most + 1):
        a.append((i - 1) * (2 * a[-1] + 3 * a[-2]) // (i + 1))
    return a


def test_the_dimensions_of_equivariant_maps():
    invariants = motzkin_sums(8)
    assert ranks("O", 3, (2, 4, 6, 8)) == [invariants[m] for m in (2, 4, 6, 8)] == [1, 3, 15, 91]
    assert len(diagrams("O", 3, 4, 4)) == 105
    assert ranks("SO", 3, (3, 5, 7)) == [invariants[m] for m in (3, 5, 7)] == [1, 6, 36]
    assert [len(diagrams("SO", 3, 0, m)) for m in (3, 5, 7)] == [1, 10, 105]
    assert ranks("O", 2, (2, 4, 6, 8)) == [1, 3, 10, 35]
    assert ranks("SO", 2, (2, 4, 6, 8)) == [2, 6, 20, 70]
    assert ranks("Sp", 2, (2, 4, 6)) == [1, 2, 5]  # Catalan numbers: SL(2)
    assert ranks("Sp", 6, (2, 4, 6)) == [1, 3, 15]
    assert ranks("S", 4, (2, 3, 4)) == [2, 5, 15]
    assert ranks("S", 3, (4,)) == [14]


def test_maps_that_have_names(x64):
    x, y = rng.normal(size=(2, 3))
    outer = jnp.asarray(np.outer(x, y)[..., None])
    (cross,) = diagrams("SO", 3, 2, 1)
    np.testing.assert_allclose(apply_diagram(outer, cross)[:, 0], np.cross(x, y), atol=1e-12)
    (dot,) = diagrams("O", 3, 2, 0)
    np.testing.assert_allclose(apply_diagram(outer, dot), [x @ y], atol=1e-12)
    (form,) = diagrams("Sp", 2, 2, 0)
    area = apply_diagram(jnp.asarray(np.outer(x[:2], y[:2])[..., None]), form)
    np.testing.assert_allclose(area, [x[0] * y[1] - x[1] * y[0]], atol=1e-12)
    same, total = diagrams("S", 3, 1, 1)
    np.testing.assert_allclose(apply_diagram(jnp.asarray(x[:, None]), same)[:, 0], x)
    np.testing.assert_allclose(apply_diagram(jnp.asarray(x[:, None]), total)[:, 0], x.sum())


@pytest.mark.parametrize("group", ["O", "Sp", "S"])
def test_no_step_is_larger_than_its_ends(group):
    n, k, l = 6, 3, 3
    shape = jax.ShapeDtypeStruct((n,) * k + (1,), jnp.float32)
    for d in diagrams(group, n, k, l):
        jaxpr = jax.make_jaxpr(lambda x, d=d: apply_diagram(x, d))(shape)
        made = [v.aval.size for e in jaxpr.eqns for v in e.outvars]
        assert max(made) <= n ** max(k, l)


@pytest.mark.parametrize(
    ("group", "n", "k", "l"), [("O", 3, 2, 2), ("SO", 3, 2, 1), ("Sp", 4, 1, 3), ("S", 4, 2, 2)]
)
def test_the_layer_is_equivariant(group, n, k, l, x64, key):
    layer = DiagramLinear(group, n, k, l, channels=2, bias=True)
    x = jnp.asarray(rng.normal(size=(5, *(n,) * k, 3)))
    shapes = jax.eval_shape(layer.init, key, x)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), shapes)
    apply = jax.jit(layer.apply)
    g = element(group, n)

    def turned(y, times):
        rows = jnp.asarray(power(g, times)) @ y.reshape(5, n**times, -1)
        return rows.reshape(y.shape)

    np.testing.assert_allclose(apply(params, turned(x, k)), turned(apply(params, x), l), atol=1e-10)
    wrong = turned(x, k).at[0].set(x[0])
    off = apply(params, wrong) - turned(apply(params, x), l)
    assert np.abs(off[0]).max() > 1e-3 > np.abs(off[1:]).max()


def test_the_layer_is_a_sum_over_diagrams_and_pairs_of_channels(x64, key):
    layer = DiagramLinear("S", 3, 2, 1, channels=4)
    x = jnp.asarray(rng.normal(size=(3, 3, 2)))
    params = layer.init(key, x)
    weights = np.asarray(params["params"]["kernel"], np.float64)
    assert weights.shape == (5, 2, 4)
    want = np.zeros((3, 4))
    for d, w in zip(diagrams("S", 3, 2, 1), weights, strict=True):
        want += dense(d) @ np.asarray(x).reshape(9, 2) @ w / np.sqrt(5 * 2 * d.gain)
    np.testing.assert_allclose(layer.apply(params, x), want, atol=1e-12)


def test_it_starts_with_outputs_of_unit_variance(key):
    layer = DiagramLinear("S", 4, 2, 2, channels=64)
    x = jax.random.normal(key, (50, 4, 4, 32))
    y = jax.jit(lambda x: layer.apply(layer.init(key, x), x))(x)
    assert np.mean(np.square(y)) == pytest.approx(1, abs=0.1)


def test_a_bias_is_an_invariant_tensor(x64, key):
    layer = DiagramLinear("O", 3, 2, 2, channels=1, bias=True)
    params = layer.init(key, jnp.zeros((3, 3, 1)))
    assert not np.any(params["params"]["bias"])
    params["params"]["bias"] = jnp.full((1, 1, 1), 2.0)
    out = layer.apply(params, jnp.zeros((3, 3, 1)))[..., 0]
    np.testing.assert_allclose(out, out[0, 0] * np.eye(3))
    assert out[0, 0] > 1
    vectors = DiagramLinear("O", 3, 1, 1, channels=1, bias=True)
    assert set(vectors.init(key, jnp.zeros((3, 1)))["params"]) == {"kernel"}  # none is invariant


def test_what_is_refused(key):
    with pytest.raises(KeyError, match="did you mean 'SO'"):
        diagrams("so", 3, 1, 1)
    with pytest.raises(ValueError, match="even; got 3"):
        diagrams("Sp", 3, 1, 1)
    with pytest.raises(ValueError, match="positive n; got 0"):
        diagrams("O", 0, 1, 1)
    with pytest.raises(ValueError, match="zero indices or more"):
        diagrams("O", 3, -1, 1)
    with pytest.raises(ValueError, match="2 axes of length 3"):
        apply_diagram(jnp.zeros((3, 2, 1)), diagrams("O", 3, 2, 2)[0])
    with pytest.raises(ValueError, match="no equivariant map from 2 to 1"):
        DiagramLinear("O", 3, 2, 1, channels=1).init(key, jnp.zeros((3, 3, 1)))
    assert isinstance(diagrams("O", 3, 1, 1)[0], Diagram)
    assert diagrams("O", 3, 2, 1) == ()
