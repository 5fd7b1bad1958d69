"""Symbols and numbers against ASE's table."""

import pytest
from ase.data import chemical_symbols

from geojax.elements import SYMBOLS, atomic_number, symbol


def test_symbols_are_those_of_ase():
    assert list(SYMBOLS) == chemical_symbols


@pytest.mark.parametrize("name", ["C", "6", 6])
def test_elements_are_named_by_symbol_or_number(name):
    assert atomic_number(name) == 6
    assert symbol(6) == "C"


@pytest.mark.parametrize("name", ["Xx", "119", 119, "c"])
def test_unknown_elements_are_refused(name):
    with pytest.raises(KeyError, match="symbol or atomic number"):
        atomic_number(name)
