"""Dielectric tensors: the map to irreps, and their symmetry in the axes of the crystals."""

import jax
import numpy as np
import pytest

from geojax.datasets import spherical_of_symmetric, symmetric_of_spherical
from geojax.so3 import random_rotation, wigner_d
from tests.datasets.molecules import counts

RNG = np.random.default_rng(0)


def symmetric(count: int) -> np.ndarray:
    x = RNG.normal(size=(count, 3, 3))
    return x + x.transpose(0, 2, 1)


def test_the_map_keeps_the_norm_and_has_an_inverse():
    tensors = symmetric(5)
    values = spherical_of_symmetric(tensors)
    assert values.shape == (5, 6)
    np.testing.assert_allclose(symmetric_of_spherical(values), tensors, atol=1e-14)
    np.testing.assert_allclose((values**2).sum(-1), (tensors**2).sum((1, 2)))
    np.testing.assert_allclose(values[:, 0], np.trace(tensors, axis1=1, axis2=2) / 3**0.5)


def test_the_values_turn_as_0e_and_2e(x64):
    tensors = symmetric(3)
    turn = np.asarray(random_rotation(jax.random.key(0), improper=True, dtype=np.float64))
    values, after = (spherical_of_symmetric(t) for t in (tensors, turn @ tensors @ turn.T))
    matrix = np.asarray(wigner_d(jax.numpy.asarray(turn), 2)[2])
    np.testing.assert_allclose(after[:, 0], values[:, 0], atol=1e-12)
    np.testing.assert_allclose(after[:, 1:], values[:, 1:] @ matrix.T, atol=1e-12)


def test_crystals_are_all_there_once(real):
    data = real("crystal-tensors")
    assert counts(data) == (844 - 84 - 84, 84, 84)
    every = [*data.train, *data.valid, *data.test]
    assert len({s.info["material_id"] for s in every}) == 844
    assert all(2 <= len(s) <= 20 and s.pbc == (True, True, True) for s in every)
    assert all(s.properties.targets["dielectric"].shape == (6,) for s in every)


def test_cubic_crystals_have_isotropic_tensors(real):
    """So the axes of tensors are those of cells; space groups from 195 on are cubic."""
    data = real("crystal-tensors")
    cubic = [s for s in data.train if s.info["space_group"] >= 195]
    rest = [s for s in data.train if 3 <= s.info["space_group"] < 195]
    anisotropy = lambda s: (
        np.linalg.norm(s.properties.targets["dielectric"][1:])
        / float(s.properties.targets["dielectric"][0])
    )
    assert len(cubic) > 50
    assert np.median([anisotropy(s) for s in cubic]) < 1e-3
    assert np.median([anisotropy(s) for s in rest]) > 0.05


def test_uniaxial_tensors_have_the_axis_of_their_crystal(real):
    """Tetragonal, trigonal and hexagonal: two eigenvalues are equal, the third is of the axis.

    Along an axis of rotation there is a lattice vector; of a direction at random there is one of
    these within a degree in a case of twenty.
    """
    n = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3)
    alike, along = [], []
    for s in real("crystal-tensors").train:
        values, axes = np.linalg.eigh(symmetric_of_spherical(s.properties.targets["dielectric"]))
        gaps = np.diff(values) / values.mean()
        if not 75 <= s.info["space_group"] < 195 or gaps.max() < 0.1:
            continue  # no axis, or too nearly isotropic to see it
        alike.append(gaps.min() < 0.02)
        axis = axes[:, 0 if gaps[0] > gaps[1] else 2]
        vectors = n[n.any(1)] @ s.cell
        cosines = np.abs(vectors @ axis) / np.linalg.norm(vectors, axis=1)
        along.append(cosines.max() > np.cos(np.deg2rad(1)))
    assert len(alike) > 100
    assert np.mean(alike) > 0.95 and np.mean(along) > 0.95


def test_large_tensors_may_be_left_out(real):
    data = real("crystal-tensors", largest=40.0)
    mean = [float(s.properties.targets["dielectric"][0]) / 3**0.5 for s in data.train]
    assert max(mean) <= 40 and len(data.train) < 676


def test_targets_are_in_the_stated_units(real):
    """The refractive index is the root of the mean of the electronic tensor's diagonal."""
    data = real("crystal-tensors")
    mean = [float(s.properties.targets["dielectric_electronic"][0]) / 3**0.5 for s in data.train]
    n = [float(s.properties.targets["n"]) for s in data.train]
    assert np.median(np.abs(np.sqrt(mean) - n) / n) == pytest.approx(0, abs=0.01)
