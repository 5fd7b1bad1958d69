"""The Hessians are derivatives of the forces, and give the stated frequencies at the minima."""

import numpy as np
import pytest

from geojax.datasets.hessians import hessians, minima
from geojax.inference import vibrations
from geojax.units import QUANTUM, WAVENUMBER
from tests.datasets.molecules import counts

FORMULAS = {"water": [1, 1, 8], "formaldehyde": [1, 1, 6, 8], "methanol": [1, 1, 1, 1, 6, 8]}


def test_frames_are_those_of_three_molecules(real):
    data = real("hessians")
    assert counts(data) == (270, 30, 100)
    found = {s.info["molecule"]: sorted(s.species.tolist()) for s in data.test}
    assert found == FORMULAS
    assert {s.info["temperature"] for s in (*data.train, *data.test)} == {500.0}
    assert counts(real("hessians", molecules="water", valid=20)) == (130, 20, 50)


def test_hessians_are_symmetric_and_free_of_translations(real):
    """Up to the asymmetry that is stated for the analytic Hessians, 6e-6, and its sums."""
    for s in real("hessians").train:
        label = s.properties.hessian
        np.testing.assert_allclose(label, label.transpose(2, 3, 0, 1), atol=2e-5)
        np.testing.assert_allclose(label.sum(2), 0, atol=5e-5)
        assert s.properties.targets["dipole"].shape == (3,)


def test_forces_and_hessians_of_near_frames_agree(real):
    """Trapezoidal work between the minimum and each of many frames: dF = -H dr, to third order."""
    (start,) = minima("water")
    errors, sizes = [], []
    for s in real("hessians", molecules="water").train:
        centred = s.positions - s.positions.mean(0)
        u, _, v = np.linalg.svd((start.positions - start.positions.mean(0)).T @ centred)
        turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v  # frame -> minimum
        moved, forces = centred @ turn.T, s.properties.forces @ turn.T
        step = moved - (start.positions - start.positions.mean(0))
        label = np.einsum("ab,ibjc,dc->iajd", turn, s.properties.hessian, turn)
        mean = (label + start.properties.hessian) / 2
        errors.append(np.abs(forces + np.einsum("iajb,jb->ia", mean, step)).max())
        sizes.append(np.abs(forces).max())
    assert np.median(errors) < 0.05 * np.median(sizes)


def test_frequencies_at_the_minima_are_those_stated(real):
    real("hessians")
    for s in minima():
        found = vibrations(s.properties.hessian, s)
        assert found.rigid == 6
        np.testing.assert_allclose(found.frequencies, s.info["frequencies"], atol=1e-5)
        half = s.info["frequencies"].sum() / WAVENUMBER * QUANTUM / 2
        np.testing.assert_allclose(found.zero_point_energy, half, rtol=1e-8)


def test_other_molecules_and_splits_are_refused(real):
    real("hessians")
    with pytest.raises(KeyError, match="no molecule 'watre'; did you mean 'water'"):
        hessians("watre")
    with pytest.raises(KeyError, match="no test set 'odd'; did you mean 'ood'"):
        hessians(test="odd")
    with pytest.raises(ValueError, match="0 of 'ood'"):
        hessians("water", test="ood")
