"""Gathers and sums along edges against loops by hand, in every layout, to second order.

Four layouts of one graph: the list and the table, each with and without reverse edges. Values and
derivatives of what is computed from them are the same, padding included.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geojax.graphs import (
    Budget,
    Graph,
    Structure,
    degree,
    edge_vectors,
    from_receivers,
    from_senders,
    largest_at_receivers,
    node_mask,
    pad,
    sample,
    to_receivers,
)

SLOTS, NODES, GRAPHS, D = 12, 12, 4, 3
few = settings(max_examples=15, derandomize=True, deadline=None)
LAYOUTS = ("list", "list with reverse", "table", "table without reverse")


def structures(seed: int) -> list[Structure]:
    """Up to three, of one to four atoms, some in a cell so small that atoms see their images."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rng.integers(1, 4)):
        n = int(rng.integers(1, 4))
        periodic = bool(rng.random() < 0.5)
        corners = np.eye(3)[:n] * 1.2 + 0.1 * rng.normal(size=(n, 3))
        cell = np.diag(rng.uniform(2.2, 2.6, 3)) if periodic else None
        found.append(Structure(corners, rng.integers(1, 9, n), cell, (periodic,) * 3))
    return found


def with_reverse(graph: Graph) -> Graph:
    """The list layout with the index of each edge's reverse; a padding edge is its own."""
    rows = np.column_stack([graph.senders, graph.receivers, graph.edges["shifts"]]).astype(int)
    count = int(graph.n_edge[:-1].sum())
    at = {tuple(row): e for e, row in enumerate(rows[:count].tolist())}
    back = [at[(i, j, -a, -b, -c)] for j, i, a, b, c in rows[:count].tolist()]
    back += range(count, len(rows))
    return graph._replace(edges={**graph.edges, "reverse": np.array(back, np.int32)})


@cache
def graph_of(seed: int, layout: str) -> Graph:
    """All of one shape, so that one program serves them."""
    tabular = layout.startswith("table")
    budget = Budget(NODES, NODES * SLOTS, GRAPHS)
    samples = [sample(s, 2.3, slots=SLOTS if tabular else None) for s in structures(seed)]
    graph = pad(samples, budget, np.float32).graph
    if layout == "list with reverse":
        graph = with_reverse(graph)
    if layout == "table without reverse":
        edges = {key: value for key, value in graph.edges.items() if key != "reverse"}
        graph = graph._replace(edges=edges)
    return jax.tree.map(jnp.asarray, graph)


def rows(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def real_edges(graph: Graph) -> np.ndarray:
    if "mask" in graph.edges:
        return np.flatnonzero(graph.edges["mask"])
    return np.arange(int(graph.n_edge[:-1].sum()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gathers_and_sums_by_hand(layout):
    x = rows(NODES, D, 2)
    for seed in range(4):
        graph = graph_of(seed, layout)
        senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
        np.testing.assert_array_equal(from_senders(x, graph), np.asarray(x)[senders])
        np.testing.assert_array_equal(from_receivers(x, graph), np.asarray(x)[receivers])
        messages = rows(NODES * SLOTS, D, 2, seed=seed)
        expected = np.zeros((NODES, D, 2))
        for e in real_edges(graph):
            expected[receivers[e]] += messages[e]
        found = np.asarray(to_receivers(messages, graph))
        real = np.asarray(node_mask(graph))
        np.testing.assert_allclose(found[real], expected[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_axes(layout):
    graph = graph_of(0, layout)
    for shape in ((), (1,), (2, 3), (2, 1, 4)):
        x, messages = rows(NODES, *shape), rows(NODES * SLOTS, *shape)
        assert from_senders(x, graph).shape == messages.shape
        assert from_receivers(x, graph).shape == messages.shape
        assert to_receivers(messages, graph).shape == x.shape


def network(x, positions, graph):
    """A message passing that is nonlinear in everything, and zero for padding."""
    graph = graph._replace(nodes={**graph.nodes, "positions": positions})
    vectors = edge_vectors(graph)
    near = jnp.exp(-jnp.sum(vectors**2, -1))[:, None]
    messages = jnp.tanh(from_senders(x, graph)) * near * from_receivers(x, graph)
    sums = to_receivers(messages * vectors, graph)
    again = to_receivers(jnp.sin(from_senders(sums, graph)) * vectors, graph)
    return jnp.where(node_mask(graph)[:, None], sums + again, 0)


@jax.jit
def figures(x, direction, graph):
    """Value, gradient and product with the second derivative of a function of features and x."""
    total = lambda x, r: jnp.sum(jnp.cos(network(x, r, graph)))
    slope = jax.grad(total, (0, 1))
    primal = (x, graph.nodes["positions"])
    first, second = jax.jvp(slope, primal, (direction, direction))
    return network(*primal, graph), first, second


@few
@given(st.integers(0, 200))
def test_all_layouts_agree_to_second_order_with_padding(seed):
    x, direction = rows(NODES, D, seed=seed), rows(NODES, D, seed=seed + 1)
    expected = figures(x, direction, graph_of(seed, "list"))
    for layout in LAYOUTS[1:]:
        found = figures(x, direction, graph_of(seed, layout))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max(initial=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_by_differences(layout, x64):
    graph = jax.tree.map(
        lambda a: a.astype(float) if a.dtype == jnp.float32 else a, graph_of(3, layout)
    )
    x, direction = (jnp.asarray(rows(NODES, D, seed=s), float) for s in (0, 1))
    total = jax.jit(lambda r: jnp.sum(jnp.cos(network(x, r, graph))))
    r, step = graph.nodes["positions"], 1e-5
    difference = (total(r + step * direction) - total(r - step * direction)) / (2 * step)
    _, slope = jax.jvp(total, (r,), (direction,))
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)
    assert abs(float(slope)) > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_receives_and_sends_nothing_real(layout):
    graph = graph_of(1, layout)
    padding = ~np.asarray(node_mask(graph))
    assert padding.sum() >= 1
    g = jax.grad(lambda x: jnp.sum(network(x, graph.nodes["positions"], graph) ** 2))(
        rows(NODES, D)
    )
    assert not np.asarray(g)[padding].any() and np.asarray(g)[~padding].any()


def test_no_derivative_of_a_table_scatters():
    """And that of the plain list does, so that this test could fail."""
    program = {}
    for layout, slots in (("list", None), ("table", SLOTS)):
        one = [sample(structures(0)[0], 2.3, slots=slots)]  # owners of one graph take no scatter
        graph = jax.tree.map(jnp.asarray, pad(one, Budget(NODES, NODES * SLOTS, 2)).graph)
        program[layout] = figures.lower(rows(NODES, D), rows(NODES, D), graph).as_text()
    assert "stablehlo.scatter" not in program["table"]
    assert "stablehlo.scatter" in program["list"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_degrees_count_real_edges(layout):
    graph = graph_of(2, layout)
    real = np.asarray(node_mask(graph))
    expected = np.bincount(np.asarray(graph.receivers)[real_edges(graph)], minlength=NODES)
    np.testing.assert_array_equal(np.asarray(degree(graph))[real], expected[real])
    assert expected.any()
    assert degree(graph, jnp.float16).dtype == jnp.float16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_mapped_over_a_batch_of_them(layout):
    """As in an ensemble: one graph, many features."""
    graph, many = graph_of(0, layout), rows(2, NODES, D)
    run = lambda x: jnp.sum(network(x, graph.nodes["positions"], graph) ** 2)
    together, alone = jax.jit(jax.vmap(jax.grad(run)))(many), jax.jit(jax.grad(run))
    for x, found in zip(many, together, strict=True):
        np.testing.assert_allclose(found, alone(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_largest_that_arrives_is_that_of_a_loop(layout):
    graph = graph_of(1, layout)
    values = np.random.default_rng(0).normal(size=(len(graph.senders), 2))
    found = np.asarray(largest_at_receivers(jnp.asarray(values), graph))
    taken = np.asarray(graph.edges.get("mask", np.ones(len(values), bool)))
    for node in np.flatnonzero(node_mask(graph)):
        own = values[taken & (np.asarray(graph.receivers) == node)]
        expected = own.max(0) if len(own) else np.full(2, -np.inf)
        np.testing.assert_allclose(found[node], expected, rtol=1e-6)
