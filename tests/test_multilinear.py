"""Values and derivatives of any order and mode against plain jnp, under every transformation.

The map is `scale(x, w, index)[e] = x[index[e]] * w[e]`, a gather times a weight: bilinear, with an
integer operand. Its transposes are written out, and count how often they are used.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.multilinear import Multilinear

NODES, EDGES, D = 4, 7, 2
RNG = np.random.default_rng(0)
INDEX = jnp.asarray(RNG.integers(NODES, size=EDGES), jnp.int32)
USED: Counter[str] = Counter()


def scale_forward(x, w, index):
    return x[index] * w


def scatter_forward(g, w, index):
    return jnp.zeros((NODES, g.shape[1]), g.dtype).at[index].add(g * w)


def scale_to_x(g, w, index):
    USED["x"] += 1
    return scatter(g, w, index)


def scale_to_w(g, x, index):
    USED["w"] += 1
    return scale(x, g, index)


def scatter_to_g(h, w, index):
    return scale(h, w, index)


def scatter_to_w(h, g, index):
    return scale(h, g, index)


scale = Multilinear(scale_forward, (scale_to_x, scale_to_w, None))
scatter = Multilinear(scatter_forward, (scatter_to_g, scatter_to_w, None))


def numbers(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, W = numbers(NODES, D), numbers(EDGES, D, seed=2)


def close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def both(run, *arguments):
    """`run(f, *arguments)` of the primitive and of plain jnp agree."""
    jitted = jax.jit(run, static_argnums=0)
    close(jitted(scale, *arguments), jitted(scale_forward, *arguments))


def curved(f):
    """A scalar that is nonlinear in x and w."""
    return lambda x, w: jnp.sum(jnp.sin(f(x, w, INDEX)) * f(jnp.cos(x), x[INDEX] * w, INDEX))


def test_the_value_with_and_without_jit():
    close(scale(X, W, INDEX), X[INDEX] * W)
    both(lambda f, x, w: f(x, w, INDEX), X, W)


def test_tangents_of_any_subset_of_operands():
    dx, dw = numbers(NODES, D, seed=3), numbers(EDGES, D, seed=4)
    none = np.zeros(EDGES, jax.dtypes.float0)
    both(lambda f, x, w: jax.jvp(lambda x, w: f(x, w, INDEX), (x, w), (dx, dw)), X, W)
    both(lambda f, x, w: jax.jvp(lambda x: f(x, w, INDEX), (x,), (dx,)), X, W)
    both(lambda f, x, w: jax.jvp(lambda w: f(x, w, INDEX), (w,), (dw,)), X, W)
    both(lambda f, x, w: jax.jvp(f, (x, w, INDEX), (dx, dw, none)), X, W)


def test_a_constant_operand_alone_has_no_tangent():
    none = np.zeros(EDGES, jax.dtypes.float0)
    value, tangent = jax.jvp(lambda index: scale(X, W, index), (INDEX,), (none,))
    close(value, scale(X, W, INDEX))
    assert not np.asarray(tangent).any()


@pytest.mark.parametrize("operand", [0, 1])
def test_the_transpose_is_the_given_one(operand):
    others = [X, W]
    place = lambda f, z: f(*others[:operand], z, *others[operand + 1 :], INDEX)
    g = numbers(EDGES, D, seed=5)
    USED.clear()
    found = jax.linear_transpose(lambda z: place(scale, z), others[operand])(g)
    assert USED == {"xw"[operand]: 1}
    close(found, jax.linear_transpose(lambda z: place(scale_forward, z), others[operand])(g))


def test_the_transpose_is_the_adjoint():
    """<g, T x> = <T' g, x>."""
    g = numbers(EDGES, D, seed=5)
    (back,) = jax.linear_transpose(lambda x: scale(x, W, INDEX), X)(g)
    assert float(jnp.sum(back * X)) == pytest.approx(float(jnp.sum(g * scale(X, W, INDEX))), 1e-5)


def test_a_cotangent_of_zero_is_zero():
    gradient = jax.grad(lambda x: jnp.sum(jax.lax.stop_gradient(scale(x, W, INDEX)) * 2.0))(X)
    assert not np.asarray(gradient).any()


MODES = {
    "forward": (jax.jacfwd,),
    "reverse": (jax.jacrev,),
    "forward over reverse": (jax.jacrev, jax.jacfwd),
    "reverse over forward": (jax.jacfwd, jax.jacrev),
    "reverse over reverse": (jax.jacrev, jax.jacrev),
    "forward over forward": (jax.jacfwd, jax.jacfwd),
    "third": (jax.jacrev, jax.jacfwd, jax.jacrev),
}


@pytest.mark.parametrize("mode", MODES)
def test_derivatives_of_a_curved_function(mode):
    def run(f, x, w):
        derivative = curved(f)
        for of in MODES[mode]:
            derivative = of(derivative, argnums=(0, 1))
        return derivative(x, w)

    both(run, X[:, :1], W[:, :1])


AXES = [(0, None), (None, 0), (0, 0), (1, 2), (2, None), (None, 1)]


def stacked(x, w, axes, count=3):
    """Operands with a batch axis at `axes`."""
    return tuple(
        z if axis is None else jnp.stack([z * (i + 1) for i in range(count)], axis)
        for z, axis in zip((x, w), axes, strict=True)
    )


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_vmap_over_any_axes_of_any_operands(axes):
    arguments = stacked(X, W, axes)
    both(lambda f, x, w: jax.vmap(lambda x, w: f(x, w, INDEX), in_axes=axes)(x, w), *arguments)
    both(lambda f, x, w: jax.vmap(jax.grad(curved(f), (0, 1)), in_axes=axes)(x, w), *arguments)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_derivatives_of_a_vmap(axes):
    def run(f, x, w):
        return jax.grad(lambda x, w: jax.vmap(curved(f), in_axes=axes)(x, w).sum(), (0, 1))(x, w)

    both(run, *stacked(X, W, axes))


def test_the_constant_operand_may_be_batched_too():
    index = jnp.stack([INDEX, (INDEX + 1) % NODES])

    def run(f, x, w):
        total = lambda x, w, index: jnp.sum(f(x, w, index) ** 2)
        return jax.vmap(jax.grad(total, (0, 1)), in_axes=(None, None, 0))(x, w, index)

    both(run, X, W)


def test_vmap_in_vmap():
    def run(f, x, w):
        inner = jax.vmap(lambda x, w: f(x, w, INDEX), in_axes=(0, None))
        return jax.vmap(inner, in_axes=(None, 0))(x, w)

    both(run, jnp.stack([X, 2 * X]), jnp.stack([W, 3 * W, -W]))


def test_inside_scan_and_checkpoint():
    def run(f, x, w):
        step = jax.checkpoint(lambda c, _: (c + scatter_like(f, c, w), jnp.sum(c)))
        return jax.grad(lambda x, w: jax.lax.scan(step, x, None, 3)[0].sum(), (0, 1))(x, w)

    def scatter_like(f, x, w):
        return jnp.zeros_like(x).at[INDEX].add(0.1 * f(x, w, INDEX))

    both(run, X, W)


def test_shapes_and_dtypes_are_those_of_the_call(x64):
    for dtype in ("float32", "float64"):
        out = jax.eval_shape(scale, X.astype(dtype), W.astype(dtype), INDEX)
        assert out.shape == (EDGES, D) and out.dtype == dtype
    with pytest.raises(TypeError, match="incompatible shapes for broadcasting"):
        scale(X, W[:3], INDEX)


def test_programs_of_any_size_are_exported_with_their_derivatives():
    (n,) = jax.export.symbolic_shape("n")
    struct = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    edges = jax.ShapeDtypeStruct((n,), jnp.int32)

    def run(x, w, index):
        total = lambda w: jnp.sum(jnp.sin(scale(x, w, index)))
        return total(w), jax.grad(total)(w)

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(
        struct(NODES, D), struct(n, D), edges
    )
    again = jax.export.deserialize(exported.serialize())
    for rows in (slice(None), slice(3)):
        found = again.call(X, W[rows], INDEX[rows])
        expected = jnp.sin(X[INDEX] * W)[rows].sum(), (jnp.cos(X[INDEX] * W) * X[INDEX])[rows]
        close(found, expected)


def test_native_code_is_asked_for_where_it_can_be_called():
    """On a CPU, for programs that stay: not for exported, mapped or spread ones."""
    asked = []

    def find(platform, result, *operands):
        asked.append((platform, result.shape, *(a.shape for a in operands)))
        return lambda x, w, index: scale_forward(x, w, index) + 1

    rule = Multilinear(scale_forward, (scale_to_x, scale_to_w, None), find)
    np.testing.assert_array_equal(jax.jit(rule)(X, W, INDEX), scale(X, W, INDEX) + 1)
    assert asked == [("cpu", (EDGES, D), X.shape, W.shape, INDEX.shape)]
    asked.clear()
    jax.export.export(jax.jit(rule), platforms=["cpu"])(X, W, INDEX)
    jax.jit(jax.vmap(rule, (0, None, None)))(X[None], W, INDEX)
    assert asked == []
