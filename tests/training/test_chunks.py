"""Chunks hold every structure once, in stores of one shape."""

from pathlib import Path

import jax
import numpy as np
import pytest

import geojax.training.loop as loop
from geojax.graphs import Properties, Structure, sample
from geojax.training import Options
from geojax.training.chunks import Chunks
from geojax.training.spool import Spool
from tests.training.conftest import Problem, samples, springs


def test_without_a_limit_there_is_one_chunk_of_all(problem):
    chunks = Chunks(problem().train)
    assert len(chunks) == 1
    assert chunks.ids(0).tolist() == list(range(11))


def test_a_limit_makes_chunks_of_one_shape_that_hold_each_structure_once(problem):
    train = problem().train
    size = sum(x.nbytes for s in train for x in jax.tree.leaves(s)) / 2
    chunks = Chunks(train, limit=size)
    assert len(chunks) == 2
    assert sorted(np.concatenate([chunks.ids(i) for i in range(2)])) == list(range(11))
    shapes = [jax.tree.map(np.shape, chunks[i]) for i in range(2)]
    assert shapes[0] == shapes[1]
    taken = sum(x.nbytes for i in range(2) for x in jax.tree.leaves(chunks[i]))
    assert taken < 1.5 * size


def test_hessians_of_all_chunks_have_as_many_slots():
    sizes = (2, 5, 3, 3)
    labels = [Properties(hessian=np.ones((n, 3, n, 3))) for n in sizes]
    train = [
        sample(
            Structure(1.5 * np.arange(15.0).reshape(5, 3)[:n], np.ones(n, int), properties=p), 9.0
        )
        for n, p in zip(sizes, labels, strict=True)
    ]
    size = sum(x.nbytes for s in train for x in jax.tree.leaves(s)) / 2
    chunks = Chunks(train, limit=size)
    shapes = [jax.tree.map(np.shape, chunks[i]) for i in range(len(chunks))]
    assert len(chunks) == 2 and shapes[0] == shapes[1]
    assert shapes[0].batch.masks.hessian[1] == 5
    assert sum(chunks[i].batch.masks.hessian.sum() for i in range(2)) == sum(n * n for n in sizes)


def test_a_chunk_holds_what_its_structures_hold(problem):
    train = problem().train
    size = sum(x.nbytes for s in train for x in jax.tree.leaves(s)) / 2
    chunks = Chunks(train, limit=size, by_size=True)
    stored = chunks[1]
    for place, number in enumerate(chunks.ids(1)):
        first, count = stored.node_start[place], int(train[number].graph.n_node[0])
        mine = stored.batch.graph.nodes["positions"][first : first + count]
        np.testing.assert_allclose(mine, train[number].graph.nodes["positions"], rtol=1e-6)
    edges = [int(train[i].graph.n_edge[0]) for i in chunks.ids(1)]
    assert edges == sorted(edges)


def test_dealing_depends_on_the_seed_alone(problem):
    train = problem().train
    size = sum(x.nbytes for s in train for x in jax.tree.leaves(s)) / 2
    deal = lambda seed: Chunks(train, limit=size, seed=seed).ids(0).tolist()
    assert deal(1) == deal(1) != deal(2)


def limit_of(parts: int) -> float:
    """Bytes on the device with which there are so many chunks."""
    size = sum(np.asarray(x).nbytes for s in samples(springs(22)) for x in jax.tree.leaves(s)) / 2
    return 2 * size / parts * 1.01


@pytest.fixture(scope="module")
def prepared() -> loop.Prepared:
    """22 structures in three chunks."""
    return Problem(22).prepare(data_limit=limit_of(3), batch_size=4)


def test_every_structure_is_seen_once_in_a_pass_and_the_order_changes(prepared: loop.Prepared):
    options, order = Options(batch_size=4), prepared.plan.order
    assert len(prepared.chunks) == 3
    per_epoch, orders = order.steps * 3, []
    for turn in range(4):
        seen, step = [], turn * per_epoch
        orders.append([])
        while step < (turn + 1) * per_epoch:
            part = loop._next_part(step, (turn + 1) * per_epoch, prepared, options, None)
            key = jax.random.fold_in(jax.random.key(options.seed), part.chunk)
            key = jax.random.fold_in(key, part.start // order.steps)
            count = np.int32(len(prepared.chunks.members[part.chunk]))
            ids = np.asarray(loop.shuffled(key, order, count))
            for i in range(part.start, part.stop):
                slots = ids[i % order.steps].ravel()
                seen += [int(prepared.chunks.ids(part.chunk)[s]) for s in slots if s >= 0]
            orders[-1].append(part.chunk)
            step += part.stop - part.start
        assert sorted(seen) == list(range(22))
    assert len({tuple(o) for o in orders}) > 1


def test_the_following_chunk_is_the_next_one_across_passes(prepared: loop.Prepared):
    options, order = Options(batch_size=4), prepared.plan.order
    parts, step = [], 0
    while step < 5 * order.steps * 3:
        parts.append(loop._next_part(step, 10**6, prepared, options, None))
        step += parts[-1].stop - parts[-1].start
    for now, after in zip(parts, parts[1:], strict=False):
        assert now.following == after.chunk or now.chunk == after.chunk


def test_chunks_of_samples_on_disk_are_read_and_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept, spool = samples(springs(22)), Spool(tmp_path)
    for one in kept:
        spool.append(one)
    limit = limit_of(3)
    there, here = Chunks(spool, limit=limit), Chunks(kept, limit=limit)
    monkeypatch.setattr(Spool, "folder", None, raising=False)
    monkeypatch.setattr(there, "samples", None)
    for i in range(3):
        for a, b in zip(jax.tree.leaves(there[i]), jax.tree.leaves(here[i]), strict=True):
            np.testing.assert_array_equal(a, b)
