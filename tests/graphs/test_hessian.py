"""Hessians as rows of blocks: there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import (
    Budget,
    Properties,
    Structure,
    block_rows,
    graph_hessians,
    pad,
    sample,
    whole_hessian,
)

RNG = np.random.default_rng(0)


def labelled(n: int) -> Structure:
    labels = Properties(hessian=RNG.normal(size=(n, 3, n, 3)))
    return Structure(RNG.normal(size=(n, 3)), np.ones(n, int), properties=labels)


STRUCTURES = [labelled(2), labelled(3)]


def batch():
    """Of two and three nodes, an empty graph, and three nodes of padding."""
    made = pad([sample(s, 9.0) for s in STRUCTURES], Budget(8, 16, 4), np.float32)
    return jax.tree.map(jnp.asarray, made)


def test_rows_are_blocks_of_pairs_and_lead_back():
    hessian = STRUCTURES[1].properties.hessian
    rows = block_rows(hessian, 5)
    assert rows.shape == (3, 5, 3, 3) and not rows[:, 3:].any()
    np.testing.assert_array_equal(rows[2, 1], hessian[2, :, 1])
    np.testing.assert_array_equal(whole_hessian(rows), hessian)


def test_a_hessian_without_a_place_is_refused():
    with pytest.raises(ValueError, match="got 3 nodes and 2 slots"):
        block_rows(STRUCTURES[1].properties.hessian, 2)


def test_matrices_of_graphs_are_those_of_the_structures():
    made = batch()
    matrices, real = jax.jit(graph_hessians)(made.labels.hessian, made.graph)
    assert matrices.shape == (4, 9, 9)
    assert real.tolist() == [[True, True, False], [True] * 3, [False] * 3, [False] * 3]
    for matrix, s in zip(matrices, STRUCTURES, strict=False):
        size = 3 * len(s)
        expected = s.properties.hessian.reshape(size, size)
        np.testing.assert_allclose(matrix[:size, :size], expected, rtol=1e-6)
        assert not np.asarray(matrix)[size:].any() and not np.asarray(matrix)[:, size:].any()
    assert not np.asarray(matrices)[2:].any()
