"""Inputs by name: species, invariants, vectors; and what is said when one is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.nn.inputs import node_scalars, node_vectors

VELOCITIES = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]], np.float32)


def graph_of(species=(1, 8)) -> Graph:
    structure = Structure(
        np.array([[0.0, 0, 0], [1, 0, 0]]),
        np.array(species),
        inputs={"velocities": VELOCITIES, "charges": np.array([1, -1], np.int32)},
    )
    return jax.tree.map(jnp.asarray, pad([sample(structure, 2.0)], Budget(3, 4, 2)).graph)


def test_species_come_first_then_arrays_then_lengths():
    found = node_scalars(graph_of(), (1, 8), ("charges",), ("velocities",))
    np.testing.assert_allclose(found[:2], [[1, 0, 1, 5], [0, 1, -1, 1]], rtol=1e-6)
    assert found.dtype == jnp.float32 and not found[2].any()


def test_points_of_one_kind_have_species_only_if_there_is_nothing_else():
    graph = graph_of((0, 0))
    assert node_scalars(graph, (0,), ("charges",)).shape == (3, 1)
    np.testing.assert_array_equal(node_scalars(graph, (0,)), [[1], [1], [0]])


def test_vectors_are_channels():
    found = node_vectors(graph_of(), ("velocities", "velocities"))
    np.testing.assert_array_equal(found[:2], np.stack([VELOCITIES, VELOCITIES], -1))
    assert node_vectors(graph_of(), ()).shape == (3, 3, 0)


@pytest.mark.parametrize("read", [node_vectors, lambda g, n: node_scalars(g, (1, 8), n)])
def test_a_missing_input_is_named(read):
    with pytest.raises(KeyError, match="did you mean 'velocities'"):
        read(graph_of(), ("velocity",))
