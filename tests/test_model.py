"""Cards refuse elements they do not know, and say what is added on the host."""

import hashlib

import numpy as np
import pytest

from geojax.graphs import Structure
from geojax.model import Card, check_elements, references, weights_hash
from geojax.outputs import Output

WATER = Structure(np.eye(3), np.array([8, 1, 1]), inputs={"base": np.arange(9.0).reshape(3, 3)})


def test_unknown_elements_are_named_with_those_supported():
    with pytest.raises(ValueError, match=r"structure 0 holds O and .* supports H, C"):
        check_elements(Card(elements=(1, 6)), [WATER])
    check_elements(Card(elements=(1, 8)), [WATER])
    check_elements(Card(), [WATER])


def test_energies_are_counted_from_isolated_atoms():
    found = references(Card(E0s={1: -13.5, 8: -2000.0}), WATER)
    assert found.energy == -2027.0
    np.testing.assert_array_equal(found.energies, [-2000.0, -13.5, -13.5])


def test_a_missing_E0_is_an_error():
    with pytest.raises(ValueError, match=r"Z = \[8\]"):
        references(Card(E0s={1: -13.5}), WATER)


def test_summed_targets_are_counted_from_their_atoms():
    output = Output("targets.alpha", atomrefs={"H": 2.0, "O": 5.0}, unit="Bohr³")
    assert references(Card(outputs=(output,)), WATER).targets["alpha"] == 9.0
    output = Output("targets.alpha", atomrefs={"H": 2.0})
    with pytest.raises(ValueError, match=r"share of targets.alpha; there is none for Z = \[8\]"):
        references(Card(outputs=(output,)), WATER)


@pytest.mark.parametrize("origin", ["positions", "base"])
def test_outputs_are_counted_from_their_input(origin):
    output = Output("node_targets.moved", "1o", relative_to=origin)
    found = references(Card(outputs=(output,)), WATER).node_targets["moved"]
    np.testing.assert_array_equal(
        found, np.eye(3) if origin == "positions" else WATER.inputs["base"]
    )


def test_the_hash_is_of_names_dtypes_shapes_and_bytes():
    value = np.array([1.0, 2.0], np.float32)
    text = b"['b'] <f4 (2,) " + value.tobytes()
    assert weights_hash({"b": value}) == hashlib.sha256(text).hexdigest()
    changed = [
        {"c": value},
        {"b": value[::-1]},
        {"b": value.astype(np.float64)},
        {"b": value[None]},
    ]
    assert len({weights_hash(p) for p in [{"b": value}, *changed]}) == 5


def test_the_hash_forgets_the_order_of_entry_and_of_memory():
    a, b = np.arange(6.0).reshape(2, 3), np.ones(2)
    assert weights_hash({"a": a, "b": b}) == weights_hash({"b": b, "a": np.asfortranarray(a)})
