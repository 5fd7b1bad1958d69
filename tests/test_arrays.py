"""Safe arithmetic: the textbook values, and finite derivatives where the textbook has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geojax.arrays import safe_divide, safe_norm, safe_power, unit

TINY = {dtype: float(np.finfo(dtype).tiny) for dtype in ("float32", "float64")}
# A processor may take smaller numbers for zero.
NORMAL = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
few = settings(max_examples=60, derandomize=True, deadline=None)


def total(function):
    """A scalar function of the first entry of x, whose other entries stay."""
    return lambda t, rest: function(jnp.concatenate([t[None], rest])).sum()


# float32 throughout: sizes from the smallest normal number to nearly the largest
exponents = st.integers(-35, 37)
digits = st.lists(st.integers(-999, 999), min_size=3, max_size=3)


@few
@given(digits, exponents)
def test_norm_and_direction_of_vectors_of_every_size(numbers, exponent):
    x = np.array(numbers, np.float64) / 1000 * 10.0**exponent
    x = x.astype(np.float32).astype(np.float64)
    length = np.linalg.norm(x)
    single = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(safe_norm(single), length, rtol=1e-6, atol=TINY["float32"])
    expected = x / length if length else np.zeros(3)
    np.testing.assert_allclose(unit(single), expected, atol=1e-6, rtol=0)
    if np.abs(x).max() > 1e-30:
        assert float(jnp.linalg.norm(unit(single))) == pytest.approx(float(length > 0), abs=1e-6)


def test_the_norm_is_along_any_axis():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for axis in (0, 1, 2, -1, -3):
        found = safe_norm(jnp.asarray(x), axis)
        np.testing.assert_allclose(found, np.linalg.norm(x, axis=axis), rtol=1e-6)


def test_derivatives_are_those_of_the_textbook(x64):
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))
    plain = lambda x: jnp.sqrt(jnp.sum(x * x))
    safe = lambda x: jnp.stack(
        [safe_norm(x), unit(x) @ y, safe_power(x @ x, 1.5), safe_divide(x[0], x[1] * x[2])]
    )
    textbook = lambda x: jnp.stack([plain(x), x @ y / plain(x), plain(x) ** 3, x[0] / x[1] / x[2]])
    for _ in range(4):
        np.testing.assert_allclose(jax.jit(safe)(x), jax.jit(textbook)(x), rtol=1e-10, atol=1e-12)
        safe, textbook = jax.jacfwd(safe), jax.jacfwd(textbook)


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("function", [safe_norm, unit], ids=["norm", "unit"])
def test_derivatives_are_finite_to_fourth_order_at_any_size(function, dtype):
    with jax.enable_x64(dtype == "float64"):
        rest = jnp.zeros(2, dtype)
        derivative, stack = total(function), []
        for _ in range(5):
            stack.append(derivative)
            derivative = jax.grad(derivative)
        every = jax.jit(lambda t: jnp.stack([f(t, rest) for f in stack]))
        for size in (0.0, TINY[dtype], 1e-10, 1e-7, float(np.finfo(dtype).eps), 1.0, 1e8, 1e30):
            found = np.asarray(every(jnp.asarray(size, dtype)))
            assert found.dtype == dtype
            assert np.isfinite(found).all(), size
        assert not np.asarray(every(jnp.zeros((), dtype))).any()


def test_in_a_batch_one_vector_does_not_spoil_another():
    """Each row has its own scale: neither a huge nor a zero row changes the others."""
    x = jnp.asarray([[3.0, 4.0, 0.0], [1e30, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1e-30, 0.0]])
    np.testing.assert_allclose(safe_norm(x), [5, 1e30, 0, 1e-30], rtol=1e-6)
    np.testing.assert_allclose(unit(x)[0], [0.6, 0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(unit(x)[1:], [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    gradient = jax.grad(lambda x: safe_norm(x).sum())(x)
    np.testing.assert_allclose(gradient[:3], [[0.6, 0.8, 0], [1, 0, 0], [0, 0, 0]], rtol=1e-6)


@few
@given(
    st.lists(NORMAL, min_size=1, max_size=5),
    st.lists(NORMAL, min_size=1, max_size=5),
)
def test_quotients_are_exact_and_zero_where_the_divisor_is(above, below):
    n = min(len(above), len(below))
    x, y = np.array(above[:n], np.float32), np.array(below[:n], np.float32)
    y = np.where(np.abs(y) < 1e-30, 0, y).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(y == 0, 0, x / y)
    np.testing.assert_allclose(safe_divide(jnp.asarray(x), jnp.asarray(y)), expected, rtol=2e-7)


def test_quotients_and_powers_have_zero_derivatives_outside_their_range():
    zero = jnp.zeros(())
    assert jax.grad(safe_divide)(jnp.ones(()), zero) == 0
    assert jax.grad(safe_divide, 1)(jnp.ones(()), zero) == 0
    for exponent in (-2.0, -0.5, 0.5, 1.5, 3.0):
        for x in (zero, -jnp.ones(())):
            assert safe_power(x, exponent) == 0
            assert jax.grad(safe_power)(x, exponent) == 0
            assert jax.grad(jax.grad(safe_power))(x, exponent) == 0
    np.testing.assert_allclose(safe_power(jnp.float32(4.0), -0.5), 0.5, rtol=1e-6)


def test_nan_stays_nan():
    """A wrong number must not turn into a plausible one."""
    with jax.debug_nans(False):
        x = jnp.asarray([jnp.nan, 1.0, 0.0])
        assert np.isnan(safe_norm(x)) and np.isnan(unit(x)).any()
        assert np.isnan(safe_divide(x, jnp.ones(3))[0]) and np.isnan(safe_divide(x, x)[0])
        assert np.isnan(safe_power(x, 0.5)[0])


def test_padding_does_not_disturb_the_sum_of_gradients():
    """The derivative of a masked norm is that of the real rows: the reason for all of this."""
    x = jnp.asarray([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    mask = jnp.asarray([1.0, 0.0])
    gradient = jax.grad(lambda x: jnp.sum(mask * safe_norm(x) ** 3))(x)
    np.testing.assert_allclose(gradient, [[9, 18, 18], [0, 0, 0]], rtol=1e-6)
