"""Encodings by the Laplacian: scipy's matrices, bases of eigenspaces, and what stability means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import laplacian as scipy_laplacian

from geojax.graphs import Budget, Edges, Properties, Structure, members, pad, sample
from geojax.nn import SpectralEncoding, Spectrum, adjacency, filtered, laplacian, spectrum

rng = np.random.default_rng(0)
RING = tuple((i, (i + 1) % 6) for i in range(6))  # of double eigenvalues
TREE = ((0, 1), (1, 2), (1, 3))


def one(n, pairs, order=None):
    """A graph of so many nodes, joined in pairs."""
    order = np.arange(n) if order is None else np.argsort(order)
    ends = np.array([*pairs, *[p[::-1] for p in pairs]]).reshape(-1, 2)
    ends = order[ends]
    ends = ends[np.lexsort(ends.T)].astype(np.int32)
    edges = Edges(ends[:, 0].copy(), ends[:, 1].copy(), np.zeros((len(ends), 3), int))
    structure = Structure(rng.normal(size=(n, 3)), np.zeros(n, int))
    return sample(structure, 1.0, labels=Properties(), edges=edges, members=7)


def batch(*samples, budget=None):
    nodes, edges = (sum(int(getattr(s.graph, k)[0]) for s in samples) for k in ("n_node", "n_edge"))
    budget = budget or Budget(nodes + 2, edges + 3, len(samples) + 1)
    return jax.tree.map(jnp.asarray, pad(samples, budget, np.float64).graph)


def dense(n, pairs, weights=None):
    a = np.zeros((n, n))
    for (i, j), w in zip(pairs, np.ones(len(pairs)) if weights is None else weights, strict=True):
        a[i, j] = a[j, i] = w
    return a


def drawn(module, graph):
    shapes = jax.eval_shape(module.init, jax.random.key(0), graph)
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(scale=0.5, size=x.shape)), shapes)


def test_the_laplacians_of_a_batch(x64):
    graph = batch(one(6, RING), one(4, TREE), one(3, [(0, 1)]))
    a = adjacency(graph)
    found = np.asarray(laplacian(a))
    for i, want in enumerate((dense(6, RING), dense(4, TREE), dense(3, [(0, 1)]))):
        n = len(want)
        np.testing.assert_array_equal(a[i, :n, :n], want)
        np.testing.assert_allclose(found[i, :n, :n], scipy_laplacian(want, normed=True), atol=1e-14)
        assert not found[i, n:].any() and not found[i, :, n:].any()
    assert not found[3].any()  # padding


def test_edges_that_go_one_way_have_half_the_weight(x64):
    graph = batch(one(4, TREE))
    up = jnp.where(graph.senders < graph.receivers, 2.0, 0.0)
    np.testing.assert_allclose(adjacency(graph, up)[0, :4, :4], dense(4, TREE))


@pytest.mark.slow
def test_a_spectrum_is_that_of_each_graph(x64):
    graph = batch(one(6, RING), one(4, TREE))
    matrix = laplacian(adjacency(graph))
    found = spectrum(matrix, members(graph)[1])
    for i, (n, pairs) in enumerate(((6, RING), (4, TREE))):
        want = np.linalg.eigvalsh(scipy_laplacian(dense(n, pairs), normed=True))
        np.testing.assert_allclose(found.values[i, :n], want, atol=1e-14)
        assert not np.any(found.values[i, n:]) and not np.any(found.vectors[i, n:])
    own = filtered(found, found.values[..., None])[..., 0]
    np.testing.assert_allclose(own, matrix, atol=1e-14)
    squares = filtered(found, jnp.square(found.values)[..., None])[..., 0]
    np.testing.assert_allclose(squares, matrix @ matrix, atol=1e-14)


def test_bases_of_eigenspaces_do_not_matter(x64):
    graph = batch(one(6, RING))
    found = spectrum(laplacian(adjacency(graph)), members(graph)[1])
    np.testing.assert_allclose(found.values[0, 1:5:2], found.values[0, 2:6:2], atol=1e-14)
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.diag([-1.0, 1, 1, 1, 1, -1, 1])
    turn[1:3, 1:3] = turn[3:5, 3:5] = [[c, -s], [s, c]]
    other = Spectrum(found.values, found.vectors @ jnp.asarray(turn)[None], found.mask)
    filters = jnp.sin(3 * found.values[..., None])
    np.testing.assert_allclose(filtered(found, filters), filtered(other, filters), atol=1e-14)
    each = jnp.asarray(rng.normal(size=(2, 7, 1)))  # no function of eigenvalues
    assert np.abs(filtered(found, each) - filtered(other, each)).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("over", ["each", "set"])
def test_nodes_have_no_order_and_graphs_no_neighbours(over, x64):
    module = SpectralEncoding(5, filters=4, hidden=6, over=over)
    pairs = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 2), (4, 5))
    order = rng.permutation(6)
    graph = batch(one(6, pairs), one(4, TREE), one(6, pairs, order))
    params = drawn(module, graph)
    found = np.asarray(module.apply(params, graph))
    assert found.shape == (18, 5) and not found[16:].any()
    np.testing.assert_allclose(found[10:16], found[:6][order], atol=1e-12)
    alone = batch(one(4, TREE), budget=Budget(9, 11, 3))
    np.testing.assert_allclose(module.apply(params, alone)[:4], found[6:10], atol=1e-12)
    np.testing.assert_allclose(found[8], found[9], atol=1e-12)  # leaves of the tree
    assert np.abs(found[6] - found[7]).max() > 1e-2


def test_encodings_are_stable_where_eigenvectors_jump(x64):
    module = SpectralEncoding(3, filters=4, hidden=6)
    graph = batch(one(6, RING))
    params = drawn(module, graph)
    local = np.stack([graph.receivers, graph.senders], 1)[: 2 * len(RING)]

    def perturbed(size, seed):
        change = np.random.default_rng(seed).uniform(-1, 1, (6, 6))
        change = change + change.T
        weights = np.ones(graph.senders.shape)
        weights[: len(local)] += size * change[local[:, 0], local[:, 1]]
        weights = jnp.asarray(weights)
        vectors = spectrum(laplacian(adjacency(graph, weights)), members(graph)[1]).vectors
        return np.asarray(encode(params, graph, weights)), np.asarray(vectors)

    encode = jax.jit(module.apply)
    moved, jumps = [], []
    for size in (1e-2, 1e-4, 1e-6):
        (x, v), (y, w) = perturbed(size, 1), perturbed(size, 2)
        moved.append(np.abs(x - y).max())
        # |v|, since eigenvectors have no sign: what encodings of single eigenvectors can see
        jumps.append(np.abs(np.abs(v) - np.abs(w)).max())
    assert moved[0] < 0.5
    assert moved[1] < 0.03 * moved[0] and moved[2] < 0.03 * moved[1]
    assert min(jumps) > 0.05


@pytest.mark.slow
def test_parameters_learn_and_weights_are_constants(x64):
    module = SpectralEncoding(3, filters=4, hidden=6, over="set")
    graph = batch(one(6, RING), one(4, TREE))
    params = drawn(module, graph)
    total = lambda params, weights: jnp.sum(module.apply(params, graph, weights) ** 2)
    weights = jnp.ones(graph.senders.shape)
    slopes, of_weights = jax.grad(total, (0, 1))(params, weights)
    assert all(np.any(g) and np.all(np.isfinite(g)) for g in jax.tree.leaves(slopes))
    assert not np.any(of_weights)


def test_what_is_refused():
    graph = batch(one(4, TREE))
    with pytest.raises(ValueError, match="each or set; got 'all'"):
        SpectralEncoding(3, over="all").init(jax.random.key(0), graph)
    with pytest.raises(ValueError, match="one layer or more; got 0"):
        SpectralEncoding(3, layers=0).init(jax.random.key(0), graph)
