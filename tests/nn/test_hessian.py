"""Blocks against explicit formulas, and what the assembly promises whatever the blocks are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample, whole_hessian
from geojax.nn import HessianHead, irrep
from geojax.nn.hessian import acoustic_rows, assemble, blocks_of, couple_edges, routes
from geojax.so3 import harmonics, random_rotation, wigner_d

CUTOFF = 4.0
SCALAR, VECTOR, TENSOR, PSEUDO = irrep(0), irrep(1), irrep(2), irrep(1, pseudo=True)
BUDGET = Budget(12, 64, 4)
KINDS = (SCALAR, VECTOR, TENSOR)

# Compiled whole: operation by operation takes longer.
assembled = jax.jit(assemble, static_argnames="slots")


def molecule(n: int, seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    return Structure(1.2 * corners[:n] + 0.1 * rng.normal(size=(n, 3)), np.ones(n, int))


MOLECULES = [molecule(4, 1), molecule(5, 2)]


def graph_of(*structures, dtype="float64", budget=BUDGET, cutoff=CUTOFF, slots=None):
    samples = [sample(s, cutoff, slots=slots) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, budget, np.dtype(dtype)).graph)


def draw(*shape, seed=0, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def hessian_of(rows, first: int, n: int) -> np.ndarray:
    """`[3n, 3n]`, of the structure whose nodes start at `first`."""
    return whole_hessian(np.asarray(rows)[first : first + n]).reshape(3 * n, 3 * n)


def test_blocks_are_identity_cross_product_and_traceless_part(x64):
    h = draw(9)
    unit = jnp.eye(9, dtype=jnp.float64)
    np.testing.assert_allclose(blocks_of(unit[0]), np.eye(3) / np.sqrt(3), atol=1e-15)
    epsilon = np.zeros((3, 3, 3))
    for a, b, c in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
        epsilon[a, b, c], epsilon[b, a, c] = 1, -1
    np.testing.assert_allclose(
        jnp.moveaxis(blocks_of(unit[1:4]), 0, -1), epsilon / np.sqrt(6), atol=1e-15
    )
    tensors = np.asarray(blocks_of(unit[4:]))
    np.testing.assert_allclose(tensors, tensors.swapaxes(1, 2), atol=1e-15)
    np.testing.assert_allclose(np.trace(tensors, axis1=1, axis2=2), 0, atol=1e-15)
    np.testing.assert_allclose(np.square(tensors).sum((1, 2)), 1 / 5, rtol=1e-14)
    explicit = h[0] / np.sqrt(3) * np.eye(3) + epsilon @ h[1:4] / np.sqrt(6)
    explicit = explicit + np.einsum("m,mab->ab", h[4:], tensors)
    np.testing.assert_allclose(blocks_of(h), explicit, atol=1e-14)


def test_only_even_parts_are_reached():
    found = routes((SCALAR, VECTOR, TENSOR), 2)
    assert len(found) == 9
    assert {r.source for r in found if r.target == PSEUDO} == {VECTOR, TENSOR}
    assert (VECTOR, 1, SCALAR) in found and (VECTOR, 2, TENSOR) not in found
    pseudo = set(routes((SCALAR, VECTOR, TENSOR, PSEUDO), 2)) - set(found)
    assert pseudo == {(PSEUDO, 0, PSEUDO), (PSEUDO, 2, PSEUDO), (PSEUDO, 2, TENSOR)}


def test_a_spring_between_two_atoms_is_representable(x64):
    """H = k (n n^T, -n n^T; -n n^T, n n^T), by two weights: n n^T is 1/3 and a multiple of Y_2."""
    n, k = np.array([[0.48, -0.6, 0.64]]), 7.0
    graph = graph_of(Structure(np.concatenate([0 * n, 1.3 * n]), np.ones(2, int)))
    ways = routes((SCALAR,), 2)
    assert [way[1:] for way in ways] == [(0, SCALAR), (2, TENSOR)]
    weights = jnp.array([1 / np.sqrt(3), np.sqrt(2 / 3)])
    e = graph.senders.shape[0]
    y = harmonics(jnp.broadcast_to(jnp.asarray(n), (e, 3)), 2)
    h = couple_edges(
        {SCALAR: jnp.ones((e, 1, 1))}, y, jnp.broadcast_to(weights[None, :, None], (e, 2, 1))
    )
    np.testing.assert_allclose(blocks_of(h[0]), n.T @ n, atol=1e-14)
    node = jnp.broadcast_to(k / 2 * (n.T @ n), (BUDGET.n_node, 3, 3))
    rows = assembled(-k / 2 * blocks_of(h), node, graph)
    expected = k * np.kron([[1, -1], [-1, 1]], n.T @ n)
    np.testing.assert_allclose(hessian_of(rows, 0, 2), expected, atol=1e-13)


def test_assembly_is_that_of_loops(x64):
    graph = graph_of(*MOLECULES)
    edge, node = draw(BUDGET.n_edge, 3, 3), draw(BUDGET.n_node, 3, 3, seed=1)
    rows = assembled(edge, node, graph, 6)
    assert rows.shape == (BUDGET.n_node, 6, 3, 3)
    expected = np.zeros((BUDGET.n_node, BUDGET.n_node, 3, 3))
    for block, i, j in zip(edge, graph.receivers, graph.senders, strict=True):
        expected[i, j] += block
        expected[j, i] += block.T
    for i, block in enumerate(node):
        expected[i, i] += block + block.T
    np.testing.assert_allclose(rows[:4, :4], expected[:4, :4], atol=1e-14)
    np.testing.assert_allclose(rows[4:9, :5], expected[4:9, 4:9], atol=1e-14)
    assert not np.asarray(rows[:4, 4:]).any() and not np.asarray(rows[4:, 5:]).any()
    assert not np.asarray(rows[9:]).any()


@pytest.mark.parametrize("acoustic", [False, True])
def test_hessians_are_symmetric_to_the_last_bit(acoustic):
    """Also where several images of an atom are neighbours, so that blocks are sums of many."""
    cell = np.diag([3.0, 3.1, 2.9])
    crystal = Structure(
        np.random.default_rng(3).uniform(0, 3, (4, 3)), np.ones(4, int), cell, (True,) * 3
    )
    graph = graph_of(crystal, dtype="float32", budget=Budget(6, 512, 2))
    pairs = set(zip(graph.receivers.tolist(), graph.senders.tolist(), strict=True))
    assert len(pairs) < 20 < np.count_nonzero(np.asarray(graph.receivers) < 4)
    rows = assembled(draw(512, 3, 3, dtype="float32"), draw(6, 3, 3, dtype="float32"), graph)
    if acoustic:
        rows = jax.jit(acoustic_rows)(rows, graph)
    hessian = hessian_of(rows, 0, 4)
    assert np.abs(hessian).max() > 1
    np.testing.assert_array_equal(hessian, hessian.T)


def test_the_projection_makes_translations_free_and_keeps_the_rest(x64):
    graph = graph_of(*MOLECULES)
    edge, node = draw(BUDGET.n_edge, 3, 3), draw(BUDGET.n_node, 3, 3, seed=1)
    before = assembled(edge, node, graph, 5)
    after = jax.jit(acoustic_rows)(before, graph)
    for first, n in [(0, 4), (4, 5)]:
        projector = np.eye(3 * n) - np.kron(np.full((n, n), 1 / n), np.eye(3))
        expected = projector @ hessian_of(before, first, n) @ projector
        np.testing.assert_allclose(hessian_of(after, first, n), expected, atol=1e-13)
    np.testing.assert_allclose(after[:9].sum(1), 0, atol=1e-13)
    assert not np.asarray(after[9:]).any() and not np.asarray(after[:4, 4:]).any()


def test_rows_without_a_place_for_every_node_are_nan():
    graph = graph_of(*MOLECULES, dtype="float32")
    with jax.debug_nans(False):
        rows = assembled(jnp.ones((64, 3, 3)), jnp.ones((12, 3, 3)), graph, 4)
        rows = np.asarray(rows)
    assert np.isfinite(rows[:4]).all() and np.isnan(rows[4:9]).all()
    assert not rows[9:].any()


def features(seed=0, dtype="float64"):
    return {i: draw(BUDGET.n_node, 2 * i.l + 1, 3, seed=seed + i.l, dtype=dtype) for i in KINDS}


@pytest.fixture(scope="module")
def head():
    """The jitted head and its parameters, drawn large."""
    with jax.enable_x64(True):
        module = HessianHead(CUTOFF, channels=3, n_basis=4, radial_width=6)
        graph = graph_of(*MOLECULES)
        shapes = jax.eval_shape(module.init, jax.random.key(0), features(), graph)
        rng = np.random.default_rng(5)
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)
        run = jax.jit(module.apply, static_argnames="slots")
    return lambda x, graph, slots=5: run(params, x, graph, slots=slots)


def turned(matrix, x):
    """The features after a rotation of the world, proper or not."""
    blocks = wigner_d(matrix, 2)
    return {i: jnp.einsum("ab,nbc->nac", blocks[i.l], block) for i, block in x.items()}


def test_the_head_turns_as_a_hessian(head, x64):
    graph, x = graph_of(*MOLECULES), features()
    turn = random_rotation(jax.random.key(3), improper=True, dtype=jnp.float64)
    moved = graph._replace(nodes={**graph.nodes, "positions": graph.nodes["positions"] @ turn.T})
    before, after = head(x, graph), head(turned(turn, x), moved)
    expected = np.einsum("ab,isbc,dc->isad", turn, before, turn)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(after, expected, atol=1e-12 * np.abs(expected).max())


def test_the_head_is_symmetric_and_far_atoms_do_not_couple(head, x64):
    far = Structure(np.array([[0.0, 0, 0], [1.1, 0, 0], [1.101 + CUTOFF, 0, 0]]), np.ones(3, int))
    rows = head(features(), graph_of(far, cutoff=2 * CUTOFF))
    hessian = hessian_of(rows, 0, 3)
    np.testing.assert_array_equal(hessian, hessian.T)
    assert np.abs(hessian[:3, 3:6]).max() > 1e-3
    assert not hessian[:3, 6:].any() and not hessian[3:6, 6:].any()


def test_the_order_of_nodes_means_nothing(head, x64):
    structure, x = MOLECULES[1], features()
    order = np.random.default_rng(0).permutation(5)
    mixed = Structure(structure.positions[order], structure.species[order])
    there = np.concatenate([order, np.arange(5, BUDGET.n_node)])
    before = hessian_of(head(x, graph_of(structure)), 0, 5).reshape(5, 3, 5, 3)
    x = {i: block[there] for i, block in x.items()}
    after = hessian_of(head(x, graph_of(mixed)), 0, 5).reshape(5, 3, 5, 3)
    np.testing.assert_allclose(after, before[order][:, :, order], atol=1e-12)


def test_tables_of_edges_give_the_same(head, x64):
    """Their empty slots join nodes to themselves."""
    listed = head(features(), graph_of(MOLECULES[1]))
    tabled = head(features(), graph_of(MOLECULES[1], slots=6, budget=Budget(12, 72, 4)))
    np.testing.assert_allclose(tabled, listed, atol=1e-12)


def test_features_that_lack_a_degree_are_refused():
    x = {SCALAR: jnp.ones((12, 1, 3)), VECTOR: jnp.ones((12, 3, 3))}
    with pytest.raises(ValueError, match="got 0e, 1o, without 2e"):
        jax.eval_shape(
            HessianHead(CUTOFF).init, jax.random.key(0), x, graph_of(*MOLECULES, dtype="float32")
        )
