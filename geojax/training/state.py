"""All that training carries from step to step, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

__all__ = ["TrainState", "initial_state", "update"]


class TrainState(NamedTuple):
    """The whole state; a checkpoint is this and nothing else.

    Attributes:
        step: how many steps were taken.
        params: what is trained.
        ema: their running average, what is evaluated and kept; the same tree as `params`.
        moments: the optimizer's.
        scale: times the learning rate (lowered on a plateau by the host).
        bad: the first step whose loss or gradient was not finite, -1 while there is none. Such a
            step changes nothing, so the state stays the last good one.
    """

    step: Int[Array, ""]
    params: Any
    ema: Any
    moments: Any
    scale: Float[Array, ""]
    bad: Int[Array, ""]


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),  # not the same buffers: the state is donated
        moments=optimizer.init(params),
        scale=jnp.ones((), jnp.float32),
        bad=jnp.full((), -1, jnp.int32),
    )


def update(
    state: TrainState,
    loss: Float[Array, ""],
    gradient: Any,
    optimizer: optax.GradientTransformation,
    decay: float,
) -> TrainState:
    """The state after one step.

    Args:
        decay: of the running average, d = min(decay, (1 + step) / (10 + step)); 0: no average.
    """
    good = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
    updates, moments = optimizer.update(gradient, state.moments, state.params)
    scaled = jax.tree.map(lambda p, u: p + state.scale.astype(p.dtype) * u, state.params, updates)
    step = state.step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + step) / (10 + step))
    mean = jax.tree.map(lambda e, p: e + (1 - d).astype(e.dtype) * (p - e), state.ema, scaled)
    keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)
    return TrainState(
        step=state.step + 1,
        params=keep(scaled, state.params),
        ema=keep(mean if decay else scaled, state.ema),
        moments=keep(moments, state.moments),
        scale=state.scale,
        bad=jnp.where(good | (state.bad >= 0), state.bad, state.step),
    )
