"""Fused steps equal single steps, bit by bit, and the epoch sees every structure once."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import pytest

from geojax.graphs import Properties, leaves, take
from geojax.networks.egnn import EGNN
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training.chunks import Chunks
from geojax.training.optimizer import Optimizer, build
from geojax.training.order import fit_order, shuffled
from geojax.training.state import initial_state
from geojax.training.step import make_epoch, make_step
from geojax.training.terms import Term

SEED = 3
# The code that users get: the one that `conftest` asks for rounds differently in another program.
AS_USERS = {"xla_cpu_use_fusion_emitters": True} if jax.__version__.startswith("0.10.") else {}


def run_of(problem, terms, predict=None, network=None, augment=None):
    """The single step and the epoch of a problem, both jitted, and what they need."""
    network = network or problem.network
    predict = predict or problem.predict
    sizes = [(int(s.graph.n_node[0]), int(s.graph.n_edge[0])) for s in problem.train]
    order = fit_order(sizes, 4)
    chunks = Chunks(problem.train, by_size=order.strata > 1)
    optimizer = build(Optimizer(learning_rate=0.01, clip=1.0, schedule="cosine"), 20)
    step = make_step(predict, terms, optimizer, steps_per_epoch=order.steps, ema=0.9)
    store = jax.device_put(chunks[0])
    batch = take(store, np.array([0, -1, -1, -1], np.int32), order.budget)
    state = initial_state(jax.jit(network.init)(jax.random.key(0), batch.graph), optimizer)
    jit = partial(jax.jit, compiler_options=AS_USERS)
    return order, store, state, jit(step), jit(make_epoch(step, order, SEED, augment))


def assert_same_bits(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


KINDS = ("mse", "mae", "huber", "norm")  # of rows of numbers; others have tests of their own


# One loss in `make test`, every loss in `make test-all`.
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k != "mse")) for k in KINDS]
)
def test_fused_steps_equal_single_steps_bit_by_bit(problem: Callable, kind: str):
    p = problem()
    terms = (Term("energy", kind=kind, per_atom=True), Term("forces", weight=2.0, kind=kind))
    order, store, state, step, epoch = run_of(p, terms)
    count, chunk = np.int32(len(p.train)), np.int32(0)
    steps = 2 * order.steps  # two passes, each with a partial last batch
    assert len(p.train) % order.batch_size

    fused, losses, _ = epoch(state, store, count, chunk, np.int32(0), np.int32(steps))
    single, total = state, 0.0
    for i in range(steps):
        single, loss, _ = epoch(single, store, count, chunk, np.int32(i), np.int32(i + 1))
        total += float(loss[0])
    assert_same_bits(fused, single)
    np.testing.assert_allclose(losses[0], total, rtol=1e-5)

    alone = state
    for i in range(steps):
        turn, place = divmod(i, order.steps)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), 0), turn)
        ids = jax.jit(shuffled, static_argnums=1)(key, order, count)
        batch = jax.jit(take, static_argnums=2)(store, ids[place, 0], order.budget)
        alone, _, _ = step(alone, batch)
    assert_same_bits(fused, alone)


@pytest.mark.slow
def test_fused_steps_equal_single_steps_for_classes(problem: Callable):
    p = problem()
    network = EGNN(
        cutoff=6.0,
        channels=4,
        layers=1,
        elements=(1, 8),
        irreps_out="3x0e",
        average_neighbors=3.0,
    )
    rng = np.random.default_rng(0)
    p.train = [
        s._replace(labels=Properties(targets={"kind": np.array(rng.integers(3))})) for s in p.train
    ]
    predict = predict_fn(network, [Output("targets.kind", "3x0e", pool="mean")])
    terms = (Term("targets.kind", kind="cross-entropy"),)
    order, store, state, _, epoch = run_of(p, terms, predict, network)
    arguments = store, np.int32(len(p.train)), np.int32(0)
    fused, _, sums = epoch(state, *arguments, np.int32(0), np.int32(order.steps))
    single = state
    for i in range(order.steps):
        single, _, _ = epoch(single, *arguments, np.int32(i), np.int32(i + 1))
    assert_same_bits(fused, single)
    assert sums["targets.kind"][3] == len(p.train)


def test_an_epoch_sees_every_label_once(problem: Callable):
    p = problem()
    order, store, state, _, epoch = run_of(p, p.terms)
    count = np.int32(len(p.train))
    _, losses, sums = epoch(state, store, count, np.int32(0), np.int32(0), np.int32(order.steps))
    atoms = sum(len(s.graph.nodes["species"]) for s in p.train)
    assert losses[1] == order.steps
    assert sums["energy"][3] == len(p.train)
    assert sums["forces"][3] == 3 * atoms


def test_a_step_that_is_not_finite_changes_nothing_and_is_named(problem: Callable):
    p = problem()
    broken = p.train[7]
    p.train[7] = broken._replace(labels=broken.labels._replace(energy=np.float64("nan")))
    order, store, state, _, epoch = run_of(p, p.terms)
    count = np.int32(len(p.train))
    with jax.debug_nans(False):
        after, losses, _ = epoch(
            state, store, count, np.int32(0), np.int32(0), np.int32(order.steps)
        )
    assert 0 <= int(after.bad) < order.steps
    assert losses[1] == int(after.bad) + 1  # nothing ran after it
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((after.params, after.moments)))


def test_partial_labels_are_masked(problem: Callable):
    p = problem()
    p.train = [
        s if i % 2 else s._replace(labels=s.labels._replace(forces=None))
        for i, s in enumerate(p.train)
    ]
    order, store, state, _, epoch = run_of(p, p.terms)
    count = np.int32(len(p.train))
    _, _, sums = epoch(state, store, count, np.int32(0), np.int32(0), np.int32(order.steps))
    known = sum(len(s.graph.nodes["species"]) for i, s in enumerate(p.train) if i % 2)
    assert sums["forces"][3] == 3 * known
    assert set(leaves(p.train[0].labels)) == {"energy"}


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_epoch_lowers_for_every_platform(problem: Callable, platform: str):
    p = problem()
    order, store, state, _, epoch = run_of(p, p.terms)
    numbers = [np.int32(0)] * 4
    exported = jax.export.export(epoch, platforms=[platform])(state, store, *numbers)
    assert exported.platforms == (platform,)
    assert "while" in exported.mlir_module()
