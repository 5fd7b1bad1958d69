"""One-hot species: order, padding, and elements that the network does not know."""

import jax
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn.species import one_hot_species


def graph_of(species, dtype=np.float32):
    structure = Structure(np.eye(3) * 2, np.array(species))
    return pad([sample(structure, 5.0)], Budget(5, 8, 2), dtype).graph


def test_columns_are_in_the_order_of_the_elements():
    out = one_hot_species(graph_of([8, 1, 1]), (1, 6, 8))
    np.testing.assert_array_equal(out, [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_padding_is_zero_even_where_points_have_species_zero():
    out = one_hot_species(graph_of([0, 0, 0]), (0,))
    np.testing.assert_array_equal(out[:, 0], [1, 1, 1, 0, 0])


def test_the_dtype_is_that_of_the_positions(x64):
    graph = graph_of([8, 1, 1], np.float64)
    assert one_hot_species(graph, (1, 8)).dtype == np.float64


def test_an_unknown_element_is_not_a_number():
    with jax.debug_nans(False):
        out = np.asarray(one_hot_species(graph_of([8, 92, 1]), (1, 6, 8)))
    assert np.isnan(out[1]).all() and np.isfinite(np.delete(out, 1, 0)).all()


@pytest.mark.parametrize("elements", [(), (1, 6, 1)])
def test_elements_must_be_known_and_different(elements):
    with pytest.raises(ValueError, match="each once"):
        one_hot_species(graph_of([8, 1, 1]), elements)
