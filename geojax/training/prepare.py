"""From samples, loss and options to a run that is sized, planned and compiled."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from geojax.graphs import Batch, Sample, Store, take
from geojax.training.chunks import Chunks
from geojax.training.devices import data_mesh, on_mesh, put
from geojax.training.loop import Options, Prepared
from geojax.training.optimizer import Optimizer, build
from geojax.training.order import Order, fit_order, in_turn, sort_by_size
from geojax.training.plan import Plan, compile_program
from geojax.training.processes import agreement
from geojax.training.state import TrainState, initial_state
from geojax.training.step import AXIS, Predict, make_epoch, make_evaluate, make_step
from geojax.training.terms import Term

__all__ = ["prepare"]


def prepare(
    init: Callable[[Any, Any], Any],
    predict: Predict,
    train: Sequence[Sample],
    valid: Sequence[Sample],
    terms: Sequence[Term],
    optimizer: Optimizer,
    options: Options,
    *,
    slots: int | None = None,
    augment: Callable[..., Batch] | None = None,
) -> Prepared:
    """Fit the sizes, then compile every program that the run may use.

    Args:
        init: `(key, graph) -> params`, from the network.
        predict: `(params, graph) -> Properties`, from `potential.predict_fn`.
        train, valid: samples, labels relative to their references. Without validation data the
            training loss decides which parameters are best.
        slots: edges per node, in the table layout.
        augment: changes the training batches, from `augmenter`.

    Raises:
        ValueError: no training data; options that do not fit them or the devices.
    """
    if not len(train):
        raise ValueError("training needs at least one structure; the training set is empty")
    mesh = data_mesh(options.devices)
    dtype = np.dtype(options.dtype)
    sizes = [_size(s) for s in train]
    deal = partial(Chunks, train, limit=options.data_limit, dtype=dtype, seed=options.seed)
    chunks = deal()
    order = fit_order(
        sizes, options.batch_size, chunks=chunks.members, devices=mesh.size, slots=slots
    )
    if order.strata > 1:
        chunks = deal(by_size=True)
    steps = order.steps * len(chunks)
    transformation = build(optimizer, steps * options.epochs)
    axis = AXIS if mesh.size > 1 else None

    def start(store: Store) -> TrainState:
        ids = np.array([0] + [-1] * (order.budget.n_graph - 2), np.int32)
        params = init(jax.random.key(options.seed), take(store, ids, order.budget).graph)
        params = jax.tree.map(lambda x: x.astype(dtype), params)
        return initial_state(params, transformation)

    first = put(chunks[0], mesh)
    shapes = jax.eval_shape(start, first).params
    plan = Plan(
        structures=len(train),
        order=order,
        padding=_padding(sizes, order, len(chunks)),
        chunks=len(chunks),
        parameters=sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes)),
        epochs=options.epochs,
    )
    plan.programs["init"] = compile_program(on_mesh(start, mesh), first)
    state = plan.programs["init"].run(first)
    step = make_step(
        predict, terms, transformation, steps_per_epoch=steps, ema=options.ema, axis=axis
    )
    epoch = on_mesh(make_epoch(step, order, options.seed, augment), mesh)
    counters = [np.int32(0)] * 4
    plan.programs["epoch"] = compile_program(epoch, state, first, *counters, donate=[0])
    data = None
    if len(valid):
        own = fit_order(
            [_size(s) for s in valid], options.batch_size, devices=mesh.size, slots=slots
        )
        rank = sort_by_size(valid) if own.strata > 1 else range(len(valid))
        store = Chunks([valid[i] for i in rank], dtype=dtype)[0]
        data = put(store, mesh), in_turn(own, len(valid))
        evaluate = on_mesh(make_evaluate(predict, terms, own, axis=axis), mesh)
        plan.programs["evaluate"] = compile_program(evaluate, state.ema, *data, dtype.type(0))
    if (agree := agreement(mesh)) is not None:
        plan.programs["agree"] = agree
    plateau = optimizer.plateau, optimizer.plateau_factor
    return Prepared(plan, chunks, mesh, data, plateau)


def _size(sample: Sample) -> tuple[int, int]:
    return int(sample.graph.n_node[0]), int(sample.graph.n_edge[0])


def _padding(sizes: Sequence[tuple[int, int]], order: Order, chunks: int) -> tuple[float, float]:
    """The share of node and edge rows that hold nothing real."""
    batches = order.steps * order.devices * chunks
    nodes, edges = (sum(column) for column in zip(*sizes, strict=True))
    rows = order.budget
    return 1 - nodes / (batches * rows.n_node), 1 - edges / (batches * rows.n_edge)
