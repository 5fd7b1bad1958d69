"""Digits, placeholders and missing labels: what is in order is let through."""

import numpy as np
import pytest
from ase.build import bulk

from geojax.datasets import from_ase, read
from geojax.datasets.check.labels import (
    constant,
    digits,
    missing,
    placeholders,
    rejected,
    suspicious_keys,
)
from geojax.graphs import Properties
from tests.datasets.check.samples import crystals, ethanol, labelled

FRAME = "2\nProperties=species:S:1:pos:R:3:forces:R:3 {}\nO 0 0 0 0 0 {}\nH 0 0 1 0 0 -0.1\n"


def named(mask: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, np.flatnonzero(mask)))


def test_frames_that_cannot_be_read_are_errors(tmp_path):
    text = FRAME.format("energy=1", "nan") + FRAME.format("my_energy=1", 0.1)
    (tmp_path / "a.xyz").write_text(text)
    reports = [read(tmp_path / "a.xyz", skip_bad=True).report]
    (one,) = rejected(reports)
    assert one.severity == "error" and "1 of 2 frames" in one.text and "nan" in one.text
    (one,) = suspicious_keys(reports)
    assert one.kind == "label not used" and "'my_energy'" in one.text


def test_forces_that_symmetry_makes_zero_are_no_placeholders():
    atoms = bulk("Cu", cubic=True)
    labels = Properties(energy=-1.0, forces=np.zeros((4, 3)))
    crystal = from_ase(atoms).replace(properties=labels)
    assert placeholders([crystal], named) == []
    moved = crystal.replace(positions=crystal.positions + np.eye(4, 3) * 0.1)
    (one,) = placeholders([crystal, moved], named)
    assert one.structures == ("1",)


def test_a_molecule_beside_crystals_needs_no_stress():
    assert missing([*crystals()[:3], ethanol().train[0]], named) == []
    (one,) = missing([*crystals()[:3], labelled(crystals()[3], stress=None)], named)
    assert one.structures == ("3",) and "stress" in one.text


@pytest.mark.parametrize(("unit", "decimals", "coarse"), [(1.0, 4, False), (1.0, 1, True),
                                                          (27.211386245988, 3, True)])  # fmt: skip
def test_rounding_counts_against_the_spread(unit, decimals, coarse):
    given = [
        labelled(s, energy=lambda e: np.round(e / unit, decimals) * unit) for s in ethanol().train
    ]
    assert [f.kind for f in digits(given)] == ["rounded energies"] * coarse


def test_float32_energies_against_the_atoms_are_fine():
    free = -4190.0
    given = [
        labelled(s, energy=lambda e: np.float64(np.float32(e - free))) for s in ethanol().train
    ]
    assert digits(given) == []


def test_constants_are_told_of_in_energies_alone_too():
    given = [labelled(s, energy=-3.5) for s in ethanol().train[:5]]
    (one,) = constant(given)
    assert one.kind == "constant label" and "-3.5" in one.text
    assert constant(ethanol().train[:5]) == []
