"""Tuples: products against the algebra, layers against loops, and the table of parities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax import clifford
from geojax.nn import (
    TUPLE_MODES,
    TupleAttention,
    TupleOutput,
    multivector_blocks,
    smooth_length,
    tuple_invariants,
    tuple_irreps,
    tuple_products,
)

SPACE = clifford.cl(3)
RNG = np.random.default_rng(0)
R = RNG.normal(size=(2, 4, 3))
H = RNG.normal(size=(2, 4, 5))
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
MIRROR = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
MIRROR = -MIRROR * np.linalg.det(MIRROR)
CASES = [(rank, mode) for rank in (2, 3) for mode in TUPLE_MODES]
RUNS = {"single": ["ij", "ijk"], "partial": ["i ij", "i ij ijk"]}
RUNS["full"] = ["i ij j", "i ij ijk j jk k"]
TABLE = {
    (2, "single"): "0e 1e",
    (2, "partial"): "0e 1o 1e",
    (2, "full"): "0e 1o 1e",
    (3, "single"): "1o 0o",
    (3, "partial"): "0e 1o 1e 0o",
    (3, "full"): "0e 1o 1e 0o",
}


def parameters(layer, *inputs):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape)), shapes)


def by_the_algebra(vectors):
    """The geometric product of vectors, as irreps."""
    embedded = [clifford.embed(jnp.asarray(v)[:, None], SPACE, 1) for v in vectors]
    product = embedded[0]
    for other in embedded[1:]:
        product = clifford.geometric_product(product, other, SPACE)
    return {i: np.asarray(x[:, 0]) for i, x in multivector_blocks(product).items()}


def of_tuple(rank, mode, places):
    """The products of one tuple of the first cloud, by the algebra, in the order of the table."""
    where = dict(zip("ijk", places, strict=False))
    names = RUNS[mode][rank - 2].split()
    found = [by_the_algebra([R[0][where[k]] for k in name]) for name in sorted(names, key=order)]
    kept = {1: ("1o",), 2: ("0e", "1e"), 3: ("1o", "0o")}
    return [
        {i: found[k][Irrep(i)] for i in kept[len(name)]}
        for k, name in enumerate(sorted(names, key=order))
    ]


def order(name):
    """By the first place and then by length."""
    return "ijk".index(name[0]), len(name)


@pytest.mark.parametrize(("rank", "mode"), CASES)
def test_products_are_those_of_the_algebra(rank, mode, x64):
    products = tuple_products(jnp.asarray(R), rank, mode)
    for places in [(0, 1, 3)[:rank], (2, 2, 1)[:rank], (3, 0, 3)[:rank]]:
        for found, expected in zip(products, of_tuple(rank, mode, places), strict=True):
            assert [str(i) for i in found.parts] == list(expected)
            for item, x in found.parts.items():
                at = [p if s > 1 else 0 for p, s in zip(places, x.shape[1:-1], strict=True)]
                np.testing.assert_allclose(x[0][tuple(at)], expected[str(item)], atol=1e-13)


def test_products_of_triples_have_the_signed_volume(x64):
    (product,) = tuple_products(jnp.asarray(R), 3, "single")
    volume = product.parts[Irrep("0o")][0, 1, 2, 3, 0]
    np.testing.assert_allclose(volume, np.linalg.det(R[0, 1:4]), atol=1e-13)


def perceptron(p, x):
    x = x @ p["affine_0"]["kernel"] + p["affine_0"]["bias"]
    x = x / (1 + np.exp(-x))
    return x @ p["affine_1"]["kernel"] + p["affine_1"]["bias"]


def length(x):
    return np.sqrt(1 + x @ x) - 1


def values(p, rank, mode, places, merge, join, chiral):
    """v and the score of one tuple of the first cloud, and its products."""
    products = of_tuple(rank, mode, places)
    signed = ("0e", "0o") if chiral else ("0e",)
    q = [x[0] if i in signed else length(x) for parts in products for i, x in parts.items()]
    p = p["tuples"]
    one, two = p["invariants_0"], p["invariants_1"]
    known = np.array(q) @ one["kernel"] + one["bias"]
    known = (known - known.mean()) / np.sqrt(known.var() + 1e-5) * p["norm"]["gain"]
    known = known + p["norm"]["shift"]
    known = known / (1 + np.exp(-known)) @ two["kernel"] + two["bias"]
    h = [H[0][k] for k in places]
    if merge == "concat":
        merged = np.concatenate(h) @ p["merge"]["kernel"] + p["merge"]["bias"]
    else:
        merged = np.mean(h, 0)
    if join == "concat":
        v = np.concatenate([known, merged]) @ p["join"]["kernel"] + p["join"]["bias"]
    else:
        v = (known + merged) / 2
    return v, perceptron(p["score"], v)[0], products


@pytest.mark.parametrize(
    ("rank", "mode", "merge", "join", "chiral"),
    [
        (2, "partial", "concat", "mean", True),
        (2, "full", "mean", "concat", True),
        (3, "partial", "concat", "concat", False),
        (3, "single", "concat", "mean", True),
    ],
)
def test_layers_equal_loops(rank, mode, merge, join, chiral, x64):
    options = {"rank": rank, "mode": mode, "merge": merge, "join": join, "chiral": chiral}
    widths = {i: 2 for i in sorted(tuple_irreps(rank, mode))}
    inputs = jnp.asarray(H), jnp.asarray(R), jnp.asarray(MASK)
    scalars, tensors = TupleAttention(6, **options), TupleOutput(widths, 6, **options)
    params = parameters(tensors, *inputs)
    tree = jax.tree.map(np.asarray, params["params"])
    inside = {"params": {"tuples": params["params"]["tuples"]}}
    y = np.asarray(jax.jit(scalars.apply)(inside, *inputs))
    t = jax.jit(tensors.apply)(params, *inputs)
    others = list(np.ndindex(*[4] * (rank - 1)))
    for i in range(4):
        rows = [values(tree, rank, mode, (i, *k), merge, join, chiral) for k in others]
        w = np.exp([score for _, score, _ in rows])
        w /= w.sum()
        np.testing.assert_allclose(
            y[0, i], sum(a * r[0] for a, r in zip(w, rows, strict=True)), atol=1e-12
        )
        expected = {item: np.zeros((2 * item.l + 1, 2)) for item in widths}
        for a, (v, _, parts) in zip(w, rows, strict=True):
            factors = perceptron(tree["factor"], v).reshape(-1, 2)
            terms = [(item, x) for product in parts for item, x in product.items()]
            for factor, (item, x) in zip(factors, terms, strict=True):
                expected[Irrep(item)] += a * np.outer(x, factor)
        for item, x in t.items():
            np.testing.assert_allclose(x[0, i], expected[item], atol=1e-12)


@pytest.mark.parametrize(("rank", "mode"), CASES)
def test_the_table_of_parities(rank, mode, x64):
    """With an improper rotation, which tells 1o from 1e and 0e from 0o."""
    assert tuple_irreps(rank, mode) == {Irrep(i) for i in TABLE[rank, mode].split()}
    widths = {i: 1 for i in tuple_irreps(rank, mode)}
    layer = TupleOutput(widths, 4, rank, mode, chiral=False)
    mask = jnp.asarray(MASK)
    run = jax.jit(lambda p, r: layer.apply(p, jnp.asarray(H), r, mask))
    params = parameters(layer, jnp.asarray(H), jnp.asarray(R), mask)
    before, after = run(params, jnp.asarray(R)), run(params, jnp.asarray(R @ MIRROR.T))
    for item, x in before.items():
        sign = item.p * (-1) ** item.l  # of the determinant
        expected = np.linalg.det(MIRROR) ** (sign < 0) * np.asarray(x)
        expected = np.einsum("ab,nibc->niac", MIRROR, expected) if item.l else expected
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(after[item], expected, atol=1e-12)
        assert np.abs(np.asarray(after[item]) + expected).max() > 1e-3


def test_only_signed_volumes_leave_the_mirror(x64):
    for rank, chiral, kept in [(2, True, True), (3, False, True), (3, True, False)]:
        products = [tuple_products(jnp.asarray(r), rank, "full") for r in (R, R @ MIRROR.T)]
        before, after = (
            np.concatenate([q.ravel() for q in tuple_invariants(p, chiral)]) for p in products
        )
        assert np.allclose(before, after, atol=1e-12) == kept


def test_masked_points_are_not_heard(x64):
    """And have zeros, whatever they know."""
    layer, mask = TupleAttention(4, 3, "full"), jnp.asarray(MASK)
    params = parameters(layer, jnp.asarray(H), jnp.asarray(R), mask)
    run = jax.jit(lambda r, h: layer.apply(params, h, r, mask))
    other = [x.copy() for x in (R, H)]
    for x in other:
        x[1, 3] = 7.0
    before, after = run(jnp.asarray(R), jnp.asarray(H)), run(*map(jnp.asarray, other))
    np.testing.assert_allclose(after, before, atol=1e-13)
    assert not np.asarray(before[1, 3]).any() and np.asarray(before[1, :3]).all()


def test_lengths_are_smooth_at_zero(x64):
    x = jnp.asarray([3.0, 0.0, 4.0])
    np.testing.assert_allclose(smooth_length(x)[0], np.sqrt(26) - 1, atol=1e-14)
    along = lambda t: smooth_length(jnp.stack([t, 0 * t, 0 * t]))[0]
    slopes = [
        along,
        jax.grad(along),
        jax.grad(jax.grad(along)),
        jax.grad(jax.grad(jax.grad(along))),
    ]
    np.testing.assert_allclose([float(f(0.0)) for f in slopes], [0, 0, 1, 0], atol=1e-14)
    assert float(along(1e-9)) == pytest.approx(5e-19, rel=1e-12), "no digits are lost"


def test_what_is_refused(x64):
    inputs = jnp.asarray(H), jnp.asarray(R), jnp.asarray(MASK)
    with pytest.raises(ValueError, match="1o of pairs needs mode 'partial'"):
        TupleOutput({Irrep("1o"): 1}, 4, 2, "single").init(jax.random.key(0), *inputs)
    with pytest.raises(ValueError, match="merged by concat, mean; got 'sum'"):
        TupleAttention(4, mode="single", merge="sum").init(jax.random.key(0), *inputs)
    with pytest.raises(ValueError, match="pairs .* or triples .* got rank 4"):
        tuple_products(jnp.asarray(R), 4, "single")
    with pytest.raises(ValueError, match="did you mean 'partial'"):
        tuple_products(jnp.asarray(R), 2, "partail")
