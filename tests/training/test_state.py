"""Updates, the running average, and steps that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from geojax.training.state import initial_state, update

PARAMS = {"w": jnp.arange(3.0)}
SGD = optax.sgd(0.5)


def test_the_average_has_its_own_memory():
    state = initial_state(PARAMS, SGD)
    assert state.ema["w"].unsafe_buffer_pointer() != state.params["w"].unsafe_buffer_pointer()


def test_the_average_warms_up():
    state, mean = initial_state(PARAMS, SGD), np.arange(3.0)
    for step in range(30):
        state = update(state, jnp.float32(1), {"w": jnp.ones(3)}, SGD, 0.8)
        decay = min(0.8, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * (np.arange(3.0) - 0.5 * (step + 1))
    np.testing.assert_allclose(state.ema["w"], mean, rtol=1e-5)
    assert int(state.step) == 30 and int(state.bad) == -1


def test_without_an_average_it_is_the_parameters():
    state = update(initial_state(PARAMS, SGD), jnp.float32(1), {"w": jnp.ones(3)}, SGD, 0.0)
    np.testing.assert_array_equal(state.ema["w"], state.params["w"])


def test_the_scale_multiplies_the_rate():
    start = initial_state(PARAMS, SGD)._replace(scale=jnp.float32(0.1))
    state = update(start, jnp.float32(1), {"w": jnp.ones(3)}, SGD, 0.0)
    np.testing.assert_allclose(state.params["w"], np.arange(3.0) - 0.05, rtol=1e-6)


def test_nothing_moves_when_loss_or_gradient_is_not_finite():
    with jax.debug_nans(False):
        start = initial_state(PARAMS, optax.adam(0.1))
        bad = jnp.float32("nan"), {"w": jnp.ones(3)}
        worse = jnp.float32(1), {"w": jnp.array([1.0, jnp.inf, 0.0])}
        for loss, gradient in (bad, worse):
            state = update(start, loss, gradient, optax.adam(0.1), 0.9)
            assert int(state.bad) == 0
            for name in ("params", "ema", "moments"):
                for a, b in zip(
                    jax.tree.leaves(getattr(state, name)),
                    jax.tree.leaves(getattr(start, name)),
                    strict=True,
                ):
                    np.testing.assert_array_equal(a, b)
