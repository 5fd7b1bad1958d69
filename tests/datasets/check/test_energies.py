"""Isolated atoms, compositions and levels: what is in order is let through."""

import numpy as np

from geojax.datasets.check.energies import composition, isolated_atoms, levels, outliers
from geojax.datasets.check.units import energy_scale
from geojax.datasets.check.work import near_pairs
from geojax.graphs import Properties, Structure
from tests.datasets.check.samples import crystals, ethanol, labelled


def named(mask: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, np.flatnonzero(mask)))


def test_atoms_of_the_same_level_fit_and_missing_ones_are_named():
    train, E0s = ethanol().train, ethanol().card["E0s"]
    scale = energy_scale(train)
    assert isolated_atoms(train, E0s, scale, 1.0) == []
    (one,) = isolated_atoms(train, {1: E0s[1]}, scale, 1.0)
    assert one.severity == "warning" and "C, O" in one.text
    assert [f.severity for f in isolated_atoms(train, None, scale, 1.0)] == ["note"]


def test_relative_energies_fit_atoms_of_zero():
    free = sum(ethanol().card["E0s"][int(z)] for z in ethanol().train[0].species)
    bound = [labelled(s, energy=lambda e: e - free) for s in ethanol().train]
    assert isolated_atoms(bound, {1: 0.0, 6: 0.0, 8: 0.0}, energy_scale(bound), 1.0) == []


def test_compositions_that_tell_elements_apart_are_fine():
    pair = lambda *z: Structure(
        np.eye(3)[: len(z)], np.array(z), properties=Properties(energy=-1.0)
    )
    assert composition([pair(1, 1), pair(1, 8)], None) == []
    (one,) = composition([pair(1, 8), pair(1, 8)], None)
    assert one.severity == "warning" and "1 independent compositions for 2 elements" in one.text
    (one,) = composition([pair(1, 8)], {1: 0.0, 8: 0.0})
    assert one.severity == "note"


def test_levels_of_structures_without_forces_are_told_by_a_gap():
    given = [
        labelled(s, energy=lambda e, i=i: e - 20 * (i % 3 == 0), forces=None)
        for i, s in enumerate(ethanol().train)
    ]
    (one,) = levels(given, near_pairs(given), named)
    assert one.severity == "warning" and one.structures == named(np.arange(120) % 3 == 0)


def test_strained_crystals_have_one_level_and_no_outlier():
    assert levels(crystals(), near_pairs(crystals()), named) == []
    assert outliers(crystals(), named) == [] and outliers(ethanol().train, named) == []
