"""Chunks hold every structure once, in stores of one shape."""

import jax
import numpy as np

from geojax.graphs import Properties, Structure, sample
from geojax.training.chunks import Chunks


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
