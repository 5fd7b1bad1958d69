"""Total energies of atoms, and which unit they tell. Slopes are tried in `test_faults`."""

import pytest

from geojax.datasets.check.units import all_electron, energy_scale
from geojax.units import HARTREE, factor
from tests.datasets.check.samples import crystals, ethanol, labelled

HARTREE_FOCK = {1: -0.5, 2: -2.86168, 6: -37.6886, 8: -74.8094, 14: -288.854, 26: -1262.44,
                36: -2752.05}  # fmt: skip


@pytest.mark.parametrize("number", HARTREE_FOCK)
def test_energies_of_atoms_are_those_of_hartree_fock(number):
    assert all_electron(number) == pytest.approx(HARTREE_FOCK[number] * HARTREE, rel=0.02)


def test_kohn_sham_atoms_too():
    for number, energy in ethanol().card["E0s"].items():
        assert all_electron(number) == pytest.approx(energy, rel=0.01)


@pytest.mark.parametrize("unit", ["eV", "Ha", "Ry", "kcal/mol", "kJ/mol", "meV"])
def test_the_unit_of_total_energies_is_told(unit):
    given = [labelled(s, energy=lambda e: e / factor(unit)) for s in ethanol().train[:5]]
    assert energy_scale(given).unit == unit


def test_other_energies_tell_no_unit():
    assert energy_scale(crystals()).unit is None  # gold is too heavy for the theory
    bound = [labelled(s, energy=lambda e: e / 100) for s in ethanol().train[:5]]
    assert energy_scale(bound).unit is None
    assert energy_scale([labelled(s, energy=None) for s in bound]).count == 0
