"""Layers in edges' frames: equal to the tensor product with the edge's harmonics, free of roll."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from geojax.nn.so2 import SO2Linear, edge_frames, from_edge_frame, gain_count, to_edge_frame
from geojax.products import escn
from geojax.so3 import clebsch_gordan, harmonics, paths, random_rotation, rotate, wigner_d

EDGES, C, D = 5, 3, 2
ALONG_Y = np.array([[0.0, 1, 0], [0, -2, 0], [0, 0, 0]])


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def operands(key, lmax=2):
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (EDGES, (lmax + 1) ** 2, C))
    return x, jax.random.normal(keys[1], (EDGES, 3)), keys[2]


@partial(jax.jit, static_argnums=0)
def convolved(layer, params, x, vectors):
    """There, through the layer, and back."""
    lmax = max(layer.lmax, int(x.shape[-2] ** 0.5) - 1)
    blocks = edge_frames(vectors, lmax)
    rows = to_edge_frame(blocks, x, m_max=layer.m_max)
    out, scalars = layer.apply(params, rows)
    return from_edge_frame(blocks, out, m_max=layer.m_max), scalars


@partial(jax.jit, static_argnums=0)
def init(layer, key, x, vectors):
    rows = to_edge_frame(edge_frames(vectors, 3), x, m_max=layer.m_max)
    return jax.tree.map(lambda p: p + 0.1, layer.init(key, rows))


@pytest.mark.parametrize("parity", ["even", pytest.param("odd", marks=pytest.mark.slow), "all"])
@pytest.mark.parametrize("lin, lout", [(2, 3), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_equals_the_tensor_product(x64, key, parity, lin, lout):
    """Every path l1 x l2 -> l3 with all harmonics of the edge, mixing all channels."""
    x, vectors, _ = operands(key, lin)
    y = np.asarray(harmonics(vectors, lin + lout))
    rng = np.random.default_rng(0)
    expected = np.zeros((EDGES, (lout + 1) ** 2, D))
    shape = lambda m: ((lin + 1 - m) * C, (lout + 1 - m) * D)
    real = {m: np.zeros(shape(m)) for m in range(min(lin, lout) + 1)}
    imaginary = {m: np.zeros(shape(m)) for m in range(1, min(lin, lout) + 1)}
    for l1, l2, l3 in paths(lin, lin + lout, lout, parity=parity):
        mix, t = rng.normal(size=(C, D)), clebsch_gordan(l1, l2, l3)
        rows = lambda l: slice(l * l, (l + 1) ** 2)
        expected[:, rows(l3)] += np.einsum(
            "abk,eac,eb,cd->ekd", t, x[:, rows(l1)], y[:, rows(l2)], mix
        )
        pole = t[:, l2] * np.sqrt(2 * l2 + 1)  # harmonics of y have m = 0 only
        for m in range(min(l1, l3) + 1):
            place = np.s_[(l1 - m) * C :, (l3 - m) * D :]
            real[m][place][:C, :D] += pole[l1 + m, l3 + m] * mix
            if m:
                imaginary[m][place][:C, :D] -= pole[l1 - m, l3 + m] * mix
    params = {"bias": np.zeros((lout + 1) * D), "kernel_0": real[0] * np.sqrt((lin + 1) * C)}
    kinds = {"even": {"r": real}, "odd": {"i": imaginary}, "all": {"r": real, "i": imaginary}}
    for kind, weights in kinds[parity].items():
        for m in range(1, min(lin, lout) + 1):
            fan_in = (lin + 1 - m) * C * len(kinds[parity])
            params[f"kernel_{m}{kind}"] = weights[m] * np.sqrt(fan_in)
    if parity == "odd":
        del params["bias"], params["kernel_0"]
    layer = SO2Linear(D, lout, parity=parity)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, jax.eval_shape(layer.init, key, x)["params"]
    )
    found, scalars = convolved(layer, {"params": params}, x, vectors)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert scalars.shape == (EDGES, 0)


@pytest.mark.parametrize("m_max", [1, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("parity", ["even", pytest.param("odd", marks=pytest.mark.slow), "all"])
def test_commutes_with_rotations_and_reflections(x64, key, m_max, parity):
    """Truncated too; both matrices together respect rotations alone."""
    layer = SO2Linear(D, 3, m_max, 4 if parity != "odd" else 0, parity)
    x, vectors, key = operands(key)
    params = init(layer, key, x, vectors)
    turn = random_rotation(key, improper=parity != "all")
    turned, same = convolved(layer, params, rotate(turn, x), vectors @ turn.T)
    plain, scalars = convolved(layer, params, x, vectors)
    assert plain.shape == (EDGES, 16, D) and np.abs(np.asarray(plain)).max() > 0.1
    np.testing.assert_allclose(turned, rotate(turn, plain, pseudo=parity == "odd"), atol=1e-12)
    np.testing.assert_allclose(same, scalars, atol=1e-12)


@pytest.mark.parametrize("m_max", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_roll_has_no_effect(x64, key, m_max):
    """Not on the result and not on derivatives, to second order."""
    layer = SO2Linear(D, 2, m_max, parity="all")
    x, vectors, key = operands(key)
    params = init(layer, key, x, vectors)

    def call(roll, v):
        blocks = wigner_d(roll @ escn.frame(v), 2)
        out, _ = layer.apply(params, to_edge_frame(blocks, x, m_max=m_max))
        return jnp.sin(from_edge_frame(blocks, out, m_max=m_max)).sum()

    roll = lambda a: jnp.asarray([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])

    @jax.jit
    def derivatives(roll):
        slope = jax.grad(call, argnums=1)
        along = jax.jvp(lambda v: slope(roll, v), (vectors,), (jnp.cos(vectors),))
        return call(roll, vectors), *along

    for one, two in zip(derivatives(roll(0.0)), derivatives(roll(0.7)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-11)


def test_truncation_keeps_the_variance(key):
    """Of the orders that are kept nothing changes, and rotating back spreads them."""
    x = jax.random.normal(key, (4000, 25, 1))
    blocks = wigner_d(random_rotation(key, (4000,)), 4)
    there_and_back = jax.jit(
        lambda m_max: from_edge_frame(blocks, to_edge_frame(blocks, x, m_max=m_max), m_max=m_max),
        static_argnums=0,
    )
    back = there_and_back(1)
    for l in range(5):
        spread = np.asarray(back[:, l * l : (l + 1) ** 2]).var()
        assert spread == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(there_and_back(None), x, atol=2e-5)


def test_initial_variance(key):
    for parity in ("even", "all"):
        layer = SO2Linear(64, 2, parity=parity)
        x = jax.random.normal(key, (200, 9, 64))
        out, _ = jax.jit(layer.init_with_output)(key, x)[0]
        np.testing.assert_allclose(np.asarray(out).var((0, 2)), 1, atol=0.15)


def test_gains_scale_degree_and_order(key):
    """The gain of (l, |m|) multiplies rows +m and -m of degree l."""
    layer = SO2Linear(D, 2, 1)
    x = jax.random.normal(key, (EDGES, 7, C))
    params, call = jax.jit(layer.init)(key, x), jax.jit(layer.apply)
    gains = jax.random.normal(key, (EDGES, gain_count(2, 1), C))
    place = np.array([0, 2, 1, 2, 4, 3, 4])  # (0,0) (1,0) (1,1) (2,0) (2,1)
    expected, _ = call(params, x * gains[:, place])
    found, _ = call(params, x, gains)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradients_along_the_pole_and_of_padding(x64, key):
    """Finite for edges along +y, -y and of length zero, to second order."""
    layer = SO2Linear(D, 2, parity="all")
    x = jax.random.normal(key, (3, 9, C))
    along = jnp.asarray(ALONG_Y)
    params = init(layer, key, x, along)
    f = lambda v: jnp.sin(convolved(layer, params, x, v)[0]).sum()
    slope, second = jax.jit(
        lambda v: (jax.grad(f)(v), jax.jvp(jax.grad(f), (v,), (jnp.ones_like(v),))[1])
    )(along)
    assert jnp.isfinite(slope).all() and jnp.isfinite(second).all()
    step = 1e-5 * np.eye(3)
    for edge in range(2):
        lines = [along.at[edge].add(s * d) for d in step for s in (1, -1)]
        up = np.asarray(jax.jit(jax.vmap(f))(jnp.stack(lines))).reshape(3, 2)
        np.testing.assert_allclose(slope[edge], (up[:, 0] - up[:, 1]) / 2e-5, atol=1e-8)
    assert not np.asarray(slope[2]).any()


def test_dtype_and_batch_axes(key):
    layer = SO2Linear(D, 1, scalars=3)
    x = jax.random.normal(key, (2, EDGES, 9, C), "float16")
    params, call = jax.jit(layer.init)(key, x), jax.jit(layer.apply)
    out, scalars = call(params, x)
    assert out.shape == (2, EDGES, 4, D) and out.dtype == "float16"
    assert scalars.shape == (2, EDGES, 3) and scalars.dtype == "float16"
    np.testing.assert_array_equal(call(params, x[1])[0], out[1])


def test_refuses_what_does_not_fit(key, untyped):
    x = jnp.zeros((EDGES, 7, C))
    with pytest.raises(ValueError, match=r"got shape \(5, 7, 3\) with m_max=None"):
        SO2Linear(D, 2).init(key, x)
    with pytest.raises(ValueError, match=r"\[..., 5, 3\] for lmax=2 and m_max=1; got shape"):
        SO2Linear(D, 2, 1).init(key, x, jnp.zeros((EDGES, 6, C)))
    with pytest.raises(ValueError, match="no row of order 0; got scalars=2"):
        SO2Linear(D, 2, 1, scalars=2, parity="odd").init(key, x)
    with pytest.raises(ValueError, match="got m_max=-1"):
        gain_count(2, -1)
    with pytest.raises(ValueError, match="parity is one of .*; got 'none'"):
        SO2Linear(D, 2, 1, parity="none").init(key, x)
