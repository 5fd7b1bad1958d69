"""Convolutions against a loop over edges and paths, their plan, and their symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.graphs import Budget, Structure, edge_vectors, pad, sample
from geojax.nn.message import (
    convolve,
    convolve_blocks,
    irrep,
    neighbor_count,
    plan,
    sum_divisor,
    weight_count,
)
from geojax.so3 import clebsch_gordan, harmonics, paths, slices

RNG = np.random.default_rng(0)
S, P, V, A = (Irrep(name) for name in ("0e", "0o", "1o", "1e"))
POSITIONS = RNG.normal(size=(4, 3)) * 1.5


def graph_of(positions=POSITIONS, slots=None):
    structure = Structure(positions, np.ones(len(positions), int))
    budget = Budget(6, 24 if slots is None else 6 * slots, 2)
    graph = pad([sample(structure, 10.0, slots=slots)], budget, np.float64).graph
    return jax.tree.map(jnp.asarray, graph)


def by_hand(x, y, weights, graph, listed):
    """One array per path: the sum over edges of sqrt(2 l3 + 1) C x y w, at the receivers."""
    found = [np.zeros((len(x), 2 * path.l3 + 1, x.shape[-1])) for path in listed]
    rows = slices(9)
    for edge, (j, i) in enumerate(zip(graph.senders, graph.receivers, strict=True)):
        for k, (l1, l2, l3) in enumerate(listed):
            tensor = np.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3)
            part = np.einsum("abc,ak,b->ck", tensor, x[j, rows[l1]], y[edge, rows[l2], 0])
            found[k][i] += part * weights[edge, k]
    return found


@pytest.mark.parametrize("parity", ["even", "odd", "all"])
def test_a_convolution_is_a_sum_over_edges(parity, x64):
    graph, lmax = graph_of(), 2
    listed = paths(1, 2, lmax, parity=parity)
    x = RNG.normal(size=(6, 4, 3))
    weights = RNG.normal(size=(24, len(listed), 3))
    y = harmonics(edge_vectors(graph), 2)[..., None]
    out = convolve(jnp.asarray(x), y, jnp.asarray(weights), graph, lmax=lmax, parity=parity)
    expected = np.concatenate(by_hand(x, np.asarray(y), weights, graph, listed), 1)
    np.testing.assert_allclose(out[:4], expected[:4], atol=1e-12)


def test_both_layouts_of_edges_agree(x64):
    listed, graph = graph_of(), graph_of(slots=4)
    x = jnp.asarray(RNG.normal(size=(6, 4, 3)))

    def run(graph):
        vectors = edge_vectors(graph)
        weights = jnp.exp(-jnp.sum(vectors**2, -1))[:, None, None] * jnp.arange(4.0)[None, :, None]
        y = harmonics(vectors, 1)[..., None]
        return convolve(x, y, jnp.broadcast_to(weights, (*weights.shape[:2], 3)), graph, lmax=1)

    np.testing.assert_allclose(run(graph)[:4], run(listed)[:4], atol=1e-13)


def test_a_plan_has_one_product_per_band_of_channels():
    """lmax 2 with 8, 4, 4 channels: 4 channels of all degrees, 4 more of l = 0."""
    widths = {irrep(0): 8, irrep(1): 4, irrep(2): 4}
    full, scalars = plan(widths, 2, widths)
    assert (full.start, full.stop, full.sources) == (0, 4, tuple(widths))
    assert (scalars.start, scalars.stop, scalars.sources) == (4, 8, (irrep(0),))
    assert full.parity == scalars.parity == "even"
    assert weight_count((full, scalars)) == 4 * len(paths(2, 2, 2)) + 4 * 3


def test_a_plan_leaves_out_what_is_not_there_or_not_wanted():
    """Without 0o there is no 0o x 1o -> 1e; only 1e x 1e -> 0e and 1o x 1o -> 0e are left."""
    widths = {S: 2, V: 2, A: 2}
    count = lambda wanted: weight_count(plan(widths, 1, wanted)) // 2
    # to 0e: 00, 11; to 1o: 01, 10, and A x V (odd); to 1e: V x V (odd), A x 0; to 0o: A x V
    assert count([S]) == 2
    assert count([S, V]) == 2 + 3
    assert count([S, V, A]) == 2 + 3 + 2
    assert count([S, V, A, P]) == 2 + 3 + 2 + 1


def test_a_chiral_plan_has_all_paths_in_one_array():
    widths = {S: 2, V: 2}
    (part,) = plan(widths, 1, widths, chiral=True)
    assert part.parity == "all" and part.weights == (len(paths(1, 1, 1, parity="all")), 2)


def test_blocks_convolve_path_by_path(x64):
    """Natural and pseudo-tensors, different channels, an irrep that is absent, a path unused."""
    graph = graph_of()
    widths = {S: 3, V: 2, A: 2}
    x = {i: RNG.normal(size=(6, 2 * i.l + 1, n)) for i, n in widths.items()}
    wanted = [S, V, P]
    parts = plan(widths, 1, wanted)
    weights = RNG.normal(size=(24, weight_count(parts)))
    y = harmonics(edge_vectors(graph), 1)[..., None]
    blocks = {i: jnp.asarray(block) for i, block in x.items()}
    out = convolve_blocks(blocks, y, jnp.asarray(weights), graph, parts)
    expected, first = {i: [] for i in wanted}, 0
    for pseudo, start, stop, sources in [
        (False, 0, 2, (S, V)),
        (False, 2, 3, (S,)),
        (True, 0, 2, (None, A)),
    ]:
        channels = stop - start
        rows = [np.zeros((6, 1, channels)) if i is None else x[i][..., start:stop] for i in sources]
        array = np.concatenate(rows, 1)
        for path in paths(len(sources) - 1, 1, 1, parity="all"):
            target = irrep(path.l3, pseudo != (sum(path) % 2 == 1))
            if sources[path.l1] is None or target not in wanted:
                continue
            own = weights[:, None, first : first + channels]
            first += channels
            expected[target] += by_hand(array, np.asarray(y), own, graph, [path])
    assert first == weights.shape[1]
    for i in wanted:
        np.testing.assert_allclose(out[i][:4], np.concatenate(expected[i], -1)[:4], atol=1e-12)


def test_sums_are_divided_by_the_neighbours_or_under_a_cutoff_by_their_mean_number(x64):
    graph = graph_of()
    np.testing.assert_array_equal(sum_divisor(graph, np.inf, None)[:4, 0], [3.0] * 4)
    np.testing.assert_array_equal(sum_divisor(graph, 10.0, 2.5), [[2.5]])
    for value in (None, 0.0, np.inf):
        with pytest.raises(ValueError, match=f"average_neighbors; got {value}"):
            neighbor_count(value)
        with pytest.raises(ValueError, match=f"average_neighbors; got {value}"):
            sum_divisor(graph, 10.0, value)
