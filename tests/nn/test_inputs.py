"""Inputs by name: species, invariants, vectors; and what is said when one is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.nn.inputs import node_scalars, node_vectors, one_hot_species

VELOCITIES = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]], np.float32)


def graph_of(species=(1, 8)) -> Graph:
    structure = Structure(
        np.array([[0.0, 0, 0], [1, 0, 0]]),
        np.array(species),
        inputs={
            "velocities": VELOCITIES,
            "charges": np.array([1, -1], np.int32),
            "history": np.stack([2 * VELOCITIES, VELOCITIES], 1),
        },
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


def test_several_vectors_of_one_name_are_channels_too():
    found = node_vectors(graph_of(), ("velocities", "history"))
    expected = np.stack([VELOCITIES, 2 * VELOCITIES, VELOCITIES], -1)
    np.testing.assert_array_equal(found[:2], expected)
    lengths = node_scalars(graph_of(), (0,), (), ("history",))
    np.testing.assert_allclose(lengths[:2], [[10, 5], [2, 1]], rtol=1e-6)
    with pytest.raises(ValueError, match="or .node, k, 3. of k each; 'charges' has shape"):
        node_vectors(graph_of(), ("charges",))


@pytest.mark.parametrize("read", [node_vectors, lambda g, n: node_scalars(g, (1, 8), n)])
def test_a_missing_input_is_named(read):
    with pytest.raises(KeyError, match="did you mean 'velocities'"):
        read(graph_of(), ("velocity",))


def species_graph(species, dtype=np.float32):
    structure = Structure(np.eye(3) * 2, np.array(species))
    return pad([sample(structure, 5.0)], Budget(5, 8, 2), dtype).graph


def test_columns_are_in_the_order_of_the_elements():
    out = one_hot_species(species_graph([8, 1, 1]), (1, 6, 8))
    np.testing.assert_array_equal(out, [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_padding_is_zero_even_where_points_have_species_zero():
    out = one_hot_species(species_graph([0, 0, 0]), (0,))
    np.testing.assert_array_equal(out[:, 0], [1, 1, 1, 0, 0])


def test_the_dtype_is_that_of_the_positions(x64):
    graph = species_graph([8, 1, 1], np.float64)
    assert one_hot_species(graph, (1, 8)).dtype == np.float64


def test_an_unknown_element_is_not_a_number():
    with jax.debug_nans(False):
        out = np.asarray(one_hot_species(species_graph([8, 92, 1]), (1, 6, 8)))
    assert np.isnan(out[1]).all() and np.isfinite(np.delete(out, 1, 0)).all()


@pytest.mark.parametrize("elements", [(), (1, 6, 1)])
def test_elements_must_be_known_and_different(elements):
    with pytest.raises(ValueError, match="each once"):
        one_hot_species(species_graph([8, 1, 1]), elements)
