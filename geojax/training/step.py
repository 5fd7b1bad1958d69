"""One step, one epoch, one evaluation: pure functions, compiled whole by `training.plan`.

The epoch is a loop *inside* the program over the steps `[start, stop)`: it shuffles, builds each
batch from the store, and takes the step, without the host. As the bounds are arguments, the same
compiled program runs one step, a part of an epoch (to answer a signal in time) or many epochs,
which is why fused and single steps are equal bit by bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from geojax.graphs import Batch, Graph, Properties, Store, take
from geojax.metrics import error_sums
from geojax.training.losses import term_sums, weighted_loss
from geojax.training.order import Order, shuffled
from geojax.training.state import TrainState, update
from geojax.training.terms import Term

__all__ = ["make_epoch", "make_evaluate", "make_step"]

Predict = Callable[[Any, Graph], Properties]
Sums = dict[str, Float[Array, "sum"]]
AXIS = "data"


def make_step(
    predict: Predict,
    terms: Sequence[Term],
    optimizer: optax.GradientTransformation,
    *,
    steps_per_epoch: int,
    ema: float = 0.0,
    axis: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Float[Array, ""], Sums]]:
    """`step(state, batch) -> (state, loss, error sums)`.

    Args:
        predict: from `potential.predict_fn`.
        steps_per_epoch: turns the step into the epoch that weight schedules are written in.
        ema: decay of the running average of the parameters, 0 for none.
        axis: the mapped axis over which a batch is dealt out; sums are taken over it.
    """
    total = (lambda x: jax.lax.psum(x, axis)) if axis else (lambda x: x)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Float[Array, ""], Sums]:
        dtype = batch.graph.nodes["positions"].dtype
        epoch = state.step.astype(dtype) / steps_per_epoch

        def share_of_loss(params):
            predicted = predict(params, batch.graph)
            sums = term_sums(predicted, batch, terms)
            counts = {name: total(count) for name, (_, count) in sums.items()}
            loss = weighted_loss(sums, terms, epoch, counts)
            return loss, error_sums(predicted, batch)

        (loss, errors), gradient = jax.value_and_grad(share_of_loss, has_aux=True)(state.params)
        loss, errors, gradient = total(loss), total(errors), total(gradient)
        return update(state, loss, gradient, optimizer, ema), loss, errors

    return step


def make_epoch(
    step: Callable[[TrainState, Batch], tuple[TrainState, Float[Array, ""], Sums]],
    order: Order,
    seed: int,
    augment: Callable[[Batch, Array, Array], Batch] | None = None,
) -> Callable[..., tuple[TrainState, Float[Array, "2"], Sums]]:
    """`run(state, store, count, chunk, start, stop) -> (state, [loss sum, steps], error sums)`.

    `start` and `stop` count the steps over this chunk of the data since the beginning of the
    training, so that pass `p` over the chunk is `[p * order.steps, (p + 1) * order.steps)`. The
    order depends on the seed, the chunk and the pass alone: a resumed run sees what the
    uninterrupted one would have seen. The loop ends at the first step that is not finite.

    Args:
        augment: `(batch, ids, key of the pass) -> batch`, from `augmenter`.
    """

    def key_of(turn: Int[Array, ""], chunk: Int[Array, ""]) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), chunk), turn)

    def ids_of(turn: Int[Array, ""], chunk: Int[Array, ""], count: Int[Array, ""]) -> Array:
        return shuffled(key_of(turn, chunk), order, count)

    def run(state: TrainState, store: Store, count, chunk, start, stop):
        def one(carry):
            i, ids, state, losses, sums = carry
            turn, place = i // order.steps, i % order.steps
            ids = jax.lax.cond(place == 0, lambda: ids_of(turn, chunk, count), lambda: ids)
            mine = ids[place, _device(order)]
            batch = take(store, mine, order.budget)
            if augment is not None:
                batch = augment(batch, mine, jax.random.fold_in(key_of(turn, chunk), 1))
            state, loss, errors = step(state, batch)
            losses = losses + jnp.stack([loss, jnp.ones_like(loss)])
            return i + 1, ids, state, losses, jax.tree.map(jnp.add, sums, errors)

        def unfinished(carry):
            i, _, state, _, _ = carry
            return (i < stop) & (state.bad < 0)

        ids = ids_of(start // order.steps, chunk, count)
        batch = jax.eval_shape(lambda: take(store, ids[0, 0], order.budget))
        _, loss, errors = jax.eval_shape(step, state, batch)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), errors)
        carry = start, ids, state, jnp.zeros(2, loss.dtype), zeros
        _, _, state, losses, sums = jax.lax.while_loop(unfinished, one, carry)
        return state, losses, sums

    return run


def _device(order: Order) -> Int[Array, ""] | int:
    return jax.lax.axis_index(AXIS) if order.devices > 1 else 0


def make_evaluate(
    predict: Predict, terms: Sequence[Term], order: Order, *, axis: str | None = None
) -> Callable[..., tuple[Float[Array, ""], Sums]]:
    """`evaluate(params, store, ids, epoch) -> (loss, error sums)` over all batches of `ids`."""
    total = (lambda x: jax.lax.psum(x, axis)) if axis else (lambda x: x)

    def evaluate(params: Any, store: Store, ids: Int[Array, "steps device share"], epoch):
        def found(ids):
            batch = take(store, ids[_device(order)], order.budget)
            predicted = predict(params, batch.graph)
            return term_sums(predicted, batch, terms), error_sums(predicted, batch)

        add = lambda sums, ids: (jax.tree.map(jnp.add, sums, found(ids)), None)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(found, ids[0]))
        (losses, errors), _ = jax.lax.scan(add, zeros, ids)
        losses, errors = total(losses), total(errors)
        return weighted_loss(losses, terms, epoch), errors

    return evaluate
