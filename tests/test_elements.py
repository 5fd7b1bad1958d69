"""Symbols, numbers and masses against ASE's tables."""

import pytest
from ase.data import atomic_masses_iupac2016, chemical_symbols, covalent_radii

from geojax.elements import MASSES, SYMBOLS, atomic_number, colour, covalent_radius, symbol


def test_symbols_are_those_of_ase():
    assert list(SYMBOLS) == chemical_symbols


def test_masses_are_those_of_ase_and_a_point_has_none():
    assert MASSES[0] == 0 and len(MASSES) == len(SYMBOLS)
    assert MASSES[1:] == tuple(atomic_masses_iupac2016[1:])


@pytest.mark.parametrize("name", ["C", "6", 6])
def test_elements_are_named_by_symbol_or_number(name):
    assert atomic_number(name) == 6
    assert symbol(6) == "C"


@pytest.mark.parametrize("name", ["Xx", "119", 119, "c"])
def test_unknown_elements_are_refused(name):
    with pytest.raises(KeyError, match="symbol or atomic number"):
        atomic_number(name)


def test_radii_are_those_of_ase_and_rare_elements_are_plain():
    """Manganese, iron and cobalt have two by their spin: the low one is drawn."""
    known = [z for z in range(1, 119) if colour(z) != colour(0)]
    assert len(known) > 30 and {1, 6, 7, 8, 9, 29} <= set(known)
    assert [covalent_radius(z) for z in known] == pytest.approx([covalent_radii[z] for z in known])
    assert covalent_radius(0) == covalent_radius(118) == 1.0 and len(colour(6)) == 7
