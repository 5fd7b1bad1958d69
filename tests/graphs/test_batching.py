"""No node, edge or label is lost, moved or doubled by a batch, whatever its budget."""

from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geojax.graphs import (
    Budget,
    Properties,
    Sample,
    Structure,
    graph_of_edges,
    leaves,
    node_mask,
    pad,
    sample,
    store,
    take,
)
from geojax.graphs.batching import table
from geojax.graphs.neighbors import neighbor_list

CUTOFF, SLOTS = 2.5, 20
few = settings(max_examples=40, derandomize=True, deadline=None)


@cache
def structure(number: int) -> Structure:
    """Of one to five atoms, in turn in space and in a small cell; some labels are not there."""
    rng = np.random.default_rng(number)
    n = number % 5 + 1
    cell = np.eye(3) * 3 + 0.2 * rng.normal(size=(3, 3)) if number % 2 else None
    known = {
        "energy": rng.normal(),
        "forces": rng.normal(size=(n, 3)),
        "targets.class": np.int32(n),
    }
    if number % 3 == 0:
        del known["forces"]
    if number % 4 == 0:
        del known["targets.class"]
    return Structure(
        rng.uniform(size=(n, 3)) * 2.5,
        rng.integers(1, 9, n),
        cell,
        (True, True, True) if number % 2 else (False, False, False),
        inputs={"charges": rng.normal(size=n)},
        properties=Properties(
            energy=known.get("energy"),
            forces=known.get("forces"),
            targets={"class": known["targets.class"]} if "targets.class" in known else {},
        ),
    )


@cache
def sample_of(number: int, slots: int | None = None) -> Sample:
    return sample(structure(number), CUTOFF, slots=slots)


def needed(samples) -> Budget:
    """The least budget."""
    return Budget(
        sum(int(s.graph.n_node[0]) for s in samples) + 1,
        sum(int(s.graph.n_edge[0]) for s in samples),
        len(samples) + 1,
    )


def rows(batch, k):
    """What is stored for graph k of a batch: nodes, edges, ends of edges, all counted from zero."""
    graph = batch.graph
    n, e = np.asarray(graph.n_node), np.asarray(graph.n_edge)
    nodes = slice(n[:k].sum(), n[: k + 1].sum())
    edges = slice(e[:k].sum(), e[: k + 1].sum())
    pick = lambda part, where: {key: np.asarray(a)[where] for key, a in part.items()}
    ends = [np.asarray(a)[edges] - nodes.start for a in (graph.senders, graph.receivers)]
    return pick(graph.nodes, nodes), pick(graph.edges, edges), ends


def check(batch, samples, slots_of):
    """Graph `slots_of[i]` of the batch is sample i, with its labels and nothing else."""
    graph = batch.graph
    for s, k in zip(samples, slots_of, strict=True):
        nodes, edges, (senders, receivers) = rows(batch, k)
        for key, value in s.graph.nodes.items():
            np.testing.assert_array_equal(nodes[key], value)
        np.testing.assert_array_equal(edges["shifts"], s.graph.edges["shifts"])
        np.testing.assert_array_equal(senders, s.graph.senders)
        np.testing.assert_array_equal(receivers, s.graph.receivers)
        np.testing.assert_array_equal(graph.globals["cell"][k], s.graph.globals["cell"][0])
        first = int(np.asarray(graph.n_node)[:k].sum())
        own = slice(first, first + int(s.graph.n_node[0]))
        for name, label in leaves(batch.labels).items():
            there, known = leaves(s.labels), leaves(batch.masks)[name]
            where = own if name == "forces" else k
            if name in there:
                np.testing.assert_array_equal(np.asarray(label)[where], there[name])
            else:
                assert not np.asarray(label)[where].any()
            assert (np.asarray(known)[where] == (name in there)).all()


def check_padding(batch, budget, samples):
    graph = batch.graph
    real = needed(samples)
    assert (len(graph.nodes["positions"]), len(graph.senders)) == budget[:2]
    assert graph.n_node.sum() == budget.n_node and graph.n_edge.sum() == budget.n_edge
    assert graph.n_node.shape == graph.n_edge.shape == (budget.n_graph,)
    first = real.n_node - 1
    for part in graph.nodes.values():
        assert not np.asarray(part)[first:].any()
    for part in graph.edges.values():
        assert not np.asarray(part)[real.n_edge :].any()
    for ends in (graph.senders, graph.receivers):
        assert (np.asarray(ends)[real.n_edge :] == first).all()
    for name, mask in leaves(batch.masks).items():
        end = first if name == "forces" else budget.n_graph - 1
        assert not np.asarray(mask)[end:].any()


numbers = st.lists(st.integers(1, 30), min_size=1, max_size=6)
spare = st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 4))


@few
@given(numbers, spare)
def test_a_padded_batch_holds_every_sample_and_nothing_else(chosen, extra):
    samples = [sample_of(number) for number in chosen]
    budget = Budget(*(a + b for a, b in zip(needed(samples), extra, strict=True)))
    batch = pad(samples, budget, np.float64)
    check(batch, samples, range(len(samples)))
    check_padding(batch, budget, samples)
    assert (np.diff(batch.graph.receivers) >= 0).all()


@few
@given(numbers, spare, st.randoms(use_true_random=False))
def test_a_batch_from_a_store_is_that_batch_in_any_order(chosen, extra, random):
    """With slots left empty between the samples, which are then graphs without nodes."""
    held = store([sample_of(number) for number in range(1, 31)], np.float64)
    ids = [number - 1 for number in chosen] + [-1] * extra[2]
    random.shuffle(ids)
    samples = [sample_of(i + 1) for i in ids if i >= 0]
    least = needed(samples)
    budget = Budget(least.n_node + extra[0], least.n_edge + extra[1], len(ids) + 1)
    batch = take(held, np.array(ids, np.int32), budget, np)
    check(batch, samples, [k for k, i in enumerate(ids) if i >= 0])
    check_padding(batch, budget, samples)


@pytest.mark.parametrize("slots", [None, SLOTS])
def test_programs_take_bit_for_bit_what_the_host_takes(slots):
    held = store([sample_of(number, slots) for number in range(1, 9)])
    budget = Budget(20, 400, 6)
    on_device = jax.jit(lambda held, ids: take(held, ids, budget))
    for ids in ([2, 0, -1, 7, 4], [-1, -1, -1, -1, -1], [5, -1, -1, -1, -1]):
        ids = np.array(ids, np.int32)
        there = on_device(held, ids)
        here = take(held, ids, budget, np)
        assert jax.tree.structure(there) == jax.tree.structure(here)
        for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@few
@given(numbers, st.integers(0, 5), st.integers(0, 3))
def test_tables_hold_the_same_edges_and_each_its_reverse(chosen, more_nodes, more_graphs):
    tables = [sample_of(number, SLOTS) for number in chosen]
    lists = [sample_of(number) for number in chosen]
    n_node = needed(tables).n_node + more_nodes
    budget = Budget(n_node, n_node * SLOTS, len(tables) + 1 + more_graphs)
    graph = pad(tables, budget, np.float64).graph
    plain = pad(lists, Budget(n_node, 9999, budget.n_graph), np.float64).graph
    mask, reverse = graph.edges["mask"], graph.edges["reverse"]
    count = int(plain.n_edge[:-1].sum())
    for found, expected in [
        (graph.senders, plain.senders),
        (graph.receivers, plain.receivers),
        (graph.edges["shifts"], plain.edges["shifts"]),
    ]:
        np.testing.assert_array_equal(found[mask], expected[:count])
    # Slot k of node i is edge i K + k, taken or not
    np.testing.assert_array_equal(graph.receivers, np.arange(budget.n_edge) // SLOTS)
    np.testing.assert_array_equal(reverse[reverse], np.arange(budget.n_edge))
    np.testing.assert_array_equal(graph.senders[reverse[mask]], graph.receivers[mask])
    np.testing.assert_array_equal(
        graph.edges["shifts"][reverse[mask]], -graph.edges["shifts"][mask]
    )
    assert mask[reverse[mask]].all() and (reverse[~mask] == np.flatnonzero(~mask)).all()
    np.testing.assert_array_equal(graph.senders[~mask], graph.receivers[~mask])
    owner = np.repeat(np.arange(budget.n_graph), graph.n_node)
    np.testing.assert_array_equal(owner[graph.senders[mask]], owner[graph.receivers[mask]])


def test_floats_are_cast_and_integers_are_int32():
    s = structure(3).replace(properties=Properties(energy=1.0, targets={"class": np.int64(2)}))
    for dtype in (np.float32, np.float64):
        batch = pad([sample(s, CUTOFF)], Budget(9, 99, 2), dtype)
        kinds = {str(np.asarray(x).dtype) for x in jax.tree.leaves(batch)}
        assert kinds == {np.dtype(dtype).name, "int32", "bool"}
        assert batch.labels.targets["class"].dtype == np.int32


def test_a_sample_is_wrapped_and_centred_in_double_precision():
    """So that float32 keeps its digits: the vectors are those of the atoms near the origin."""
    cell = np.eye(3) * 5
    near = Structure(np.array([[0.5, 1, 1], [4.8, 1, 1]]), np.ones(2, int), cell, (True,) * 3)
    far = near.replace(positions=near.positions + np.array([[5e7, 0, -1e8], [0, 2e7, 0]]))
    for s in (near, far):
        graph = sample(s, 2.0).graph
        np.testing.assert_allclose(graph.nodes["positions"].mean(0), 0, atol=1e-8)
        assert np.abs(graph.nodes["positions"]).max() < 5
        x, shifts = graph.nodes["positions"], graph.edges["shifts"]
        vectors = x[graph.receivers] - x[graph.senders] + shifts @ cell
        np.testing.assert_allclose(vectors, [[0.7, 0, 0], [-0.7, 0, 0]], atol=1e-7)


def test_labels_and_edges_in_place_of_the_own_ones():
    s = structure(7)
    other = Properties(energy=2.5)
    assert sample(s, CUTOFF, labels=other).labels is other
    edges = neighbor_list(s, 1.5)
    found = sample(s, 99.0, edges=edges).graph
    assert len(found.senders) == len(edges.senders) < len(sample(s, CUTOFF).graph.senders)
    nearest = sample(s, CUTOFF, nearest=1).graph
    assert np.bincount(nearest.receivers).max() == 1


def test_hessians_are_rows_of_the_largest_size_and_known_where_they_are_real():
    rng = np.random.default_rng(0)
    hessians = {n: rng.normal(size=(n, 3, n, 3)) for n in (2, 3)}
    made = [structure(n - 1).replace(properties=Properties(hessian=hessians[n])) for n in (2, 3)]
    made.insert(1, structure(3).replace(properties=Properties(energy=1.0)))  # four atoms
    held = store([sample(s, CUTOFF) for s in made], np.float64)
    assert held.batch.labels.hessian.shape == (9, 4, 3, 3)
    ids = np.array([2, 1, -1, 0], np.int32)
    batch = take(held, ids, Budget(11, 90, 5), np)
    rows, known = batch.labels.hessian, batch.masks.hessian
    np.testing.assert_array_equal(rows[:3, :3], hessians[3].transpose(0, 2, 1, 3))
    np.testing.assert_array_equal(rows[7:9, :2], hessians[2].transpose(0, 2, 1, 3))
    expected = np.zeros((11, 4), bool)
    expected[:3, :3] = expected[7:9, :2] = True
    np.testing.assert_array_equal(known, expected)
    assert not rows[~known].any()
    more = store([sample(s, CUTOFF) for s in made], hessian_slots=6)
    assert more.batch.masks.hessian.shape == (9, 6)


def test_structures_without_any_edge_batch_as_well():
    alone = [sample(structure(number), CUTOFF) for number in (10, 20)]
    assert not len(alone[0].graph.senders)
    batch = pad(alone, Budget(4, 3, 3))
    assert batch.graph.n_edge.tolist() == [0, 0, 3]
    assert batch.graph.senders.tolist() == [2, 2, 2]
    assert not np.asarray(batch.graph.edges["shifts"]).any()
    held = store(alone)
    there = jax.jit(lambda h, ids: take(h, ids, Budget(4, 3, 3)))(held, np.array([1, 0], np.int32))
    np.testing.assert_array_equal(there.graph.senders, [2, 2, 2])
    assert np.asarray(node_mask(there.graph)).sum() == 2
    assert np.asarray(graph_of_edges(there.graph)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_batch_that_exceeds_its_budget_is_refused(axis):
    samples = [sample_of(4), sample_of(7)]
    least = needed(samples)
    pad(samples, least)
    short = least._replace(**{least._fields[axis]: least[axis] - 1})
    with pytest.raises(ValueError, match="a batch must fit its budget; it needs Budget"):
        pad(samples, short)


def test_what_a_store_cannot_hold_together_is_refused():
    bare = Structure(np.zeros((1, 3)), np.ones(1, int))
    charged = bare.replace(inputs={"charges": np.ones(1)})
    with pytest.raises(ValueError, match="a store holds at least one sample; got none"):
        store([])
    with pytest.raises(ValueError, match="same nodes; got both .*charges.* give all structures"):
        store([sample(bare, CUTOFF), sample(charged, CUTOFF)])
    with pytest.raises(ValueError, match="same edges; got both .*mask"):
        store([sample(bare, CUTOFF), sample(bare, CUTOFF, slots=4)])
    short, long = (Properties(targets={"spectrum": np.zeros(n)}) for n in (3, 4))
    with pytest.raises(ValueError, match=r"gives targets.spectrum in one shape; got \(4,\)"):
        store([sample(bare, CUTOFF, labels=short), sample(bare, CUTOFF, labels=long)])


def test_tables_need_enough_slots_symmetric_lists_and_matching_budgets():
    crowded = structure(9)
    edges = neighbor_list(crowded, CUTOFF)
    most = int(np.bincount(edges.receivers).max())
    table(edges, len(crowded), most)
    with pytest.raises(ValueError, match=f"has {most} and there are {most - 1}; give more slots"):
        table(edges, len(crowded), most - 1)
    line = Structure(np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]), np.ones(3, int))
    with pytest.raises(ValueError, match="needs the reverse of every edge; this list is not"):
        sample(line, 5.0, nearest=1, slots=2)
    held = store([sample_of(number, SLOTS) for number in (1, 2)])
    with pytest.raises(ValueError, match=f"give n_edge = {SLOTS * 8}"):
        take(held, np.array([0], np.int32), Budget(8, SLOTS * 8 + 1, 2), np)
