"""mlearn: counts, and the sign and unit of stress by work done on strained cells."""

import itertools

import numpy as np
import pytest
from scipy.linalg import logm

from geojax.datasets import mlearn
from tests.datasets.molecules import counts

FRAMES = {"Cu": (262, 31), "Ge": (228, 25), "Si": (214, 25), "Mo": (194, 0)}
NUMBERS = {"Cu": 29, "Ge": 32, "Si": 14, "Mo": 42}
COHESIVE = {"Cu": -4.0, "Ge": -4.5, "Si": -5.4, "Mo": -10.9}  # PBE energy of the crystal, eV/atom


@pytest.mark.parametrize("element", FRAMES)
def test_frames_are_those_published(real, dataset_folder, element):
    data = real("mlearn", element=element)
    train, test = FRAMES[element]
    assert len(data.train) + len(data.valid) == train
    assert len(data.valid) == round(0.1 * train)
    there = (dataset_folder / "mlearn" / f"{element}_test.extxyz.gz").exists()
    assert len(data.test) == (test if there or not test else 0)
    assert data.name == f"mlearn-{element}" and data.card["E0s"] is None


@pytest.mark.parametrize("element", FRAMES)
def test_crystals_have_all_three_labels(real, element):
    data = real("mlearn", element=element)
    assert all(set(report.used) == {"energy", "forces", "stress"} for report in data.reports)
    for s in (*data.train, *data.valid):
        assert (s.species == NUMBERS[element]).all() and s.pbc == (True, True, True)
        assert np.array_equal(s.properties.stress, s.properties.stress.T)
        assert np.abs(s.properties.stress).max() < 0.4  # [eV/Å³], 64 GPa: no kbar
    energies = [float(s.properties.energy) / len(s) for s in data.train]
    assert min(energies) == pytest.approx(COHESIVE[element], abs=0.3)


def strained_pairs(data, size: int, most: int = 40) -> np.ndarray:
    """For pairs of undistorted crystals: difference of the energies [eV], work V stress : strain
    [eV] (trapezoidal, logarithmic strain), difference of the volumes [Å³]."""
    every = [*data.train, *data.valid, *data.test]
    still = [s for s in every if len(s) == size and np.abs(s.properties.forces).max() < 0.02]
    assert len(still) >= 25
    rows = []
    for a, b in itertools.combinations(still[:most], 2):
        strain = np.real(logm(np.linalg.solve(a.cell, b.cell)))
        pull = a.volume * a.properties.stress + b.volume * b.properties.stress
        change = float(b.properties.energy - a.properties.energy)
        rows.append((change, np.sum(pull * strain) / 2, b.volume - a.volume))
    return np.array(rows).T


@pytest.mark.parametrize("element", ["Si", "Ge"])
def test_stress_is_the_work_of_strain(real, element):
    """The wrong sign would give a slope of -1, kbar 6e-4, a virial in eV about 1e-3."""
    energy, work, _ = strained_pairs(real("mlearn", element=element), 64)
    slope, _ = np.polyfit(work, energy, 1)
    assert slope == pytest.approx(1, abs=0.05)
    assert np.corrcoef(work, energy)[0, 1] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("element", "excess"), [("Cu", 0.015), ("Ni", 0.017)])
def test_stress_of_copper_and_nickel_exceeds_the_derivative_of_the_energy(real, element, excess):
    """By the constant that the module states, so that it is no accident of some cells."""
    energy, work, volume = strained_pairs(real("mlearn", element=element), 108, 100)
    near = np.abs(volume) < 60  # [Å³], of 1280: the trapezoidal rule holds
    rest, volume = (energy - work)[near], volume[near]
    found = np.sum(rest * volume) / np.sum(volume**2)
    assert found == pytest.approx(-excess, abs=1e-3)
    assert np.std(rest - found * volume) < 0.4 * np.std(rest)


def test_test_frames_that_equal_training_frames_are_as_many_as_stated(real):
    """By symmetry, not by positions: the energies per atom agree."""
    data = real("mlearn", element="Cu")
    if not data.test:
        pytest.skip("the test frames of Cu are not here")
    per_atom = lambda part: np.array([float(s.properties.energy) / len(s) for s in part])
    gaps = np.abs(per_atom([*data.train, *data.valid])[:, None] - per_atom(data.test)).min(0)
    assert np.sum(gaps < 1e-5) == 11


def test_validation_may_be_a_count(real):
    assert counts(real("mlearn", element="Mo", valid=20))[:2] == (174, 20)


def test_other_elements_are_refused():
    with pytest.raises(KeyError, match="mlearn has no element 'cu'; did you mean 'Cu'"):
        mlearn("cu")
