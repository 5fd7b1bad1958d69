"""Planted outliers are found, twins are not taken twice, and fingerprints are invariant."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.deviations import std_name
from geojax.graphs import Structure
from geojax.inference import Ensemble, Predictor, predict, select
from geojax.inference.select import disagreement, fingerprints

from .conftest import CELL, crystal, molecule
from .test_ensemble import members


@pytest.fixture(scope="module")
def predictor(energy_model) -> Predictor:
    return Predictor(Ensemble(members(energy_model(), spread=0.05)))


def turned(structure: Structure, seed: int) -> Structure:
    """Rotated, shifted and with its atoms in another order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(structure))
    matrix = Rotation.random(rng=rng).as_matrix()
    x = (structure.positions @ matrix.T + rng.normal(size=3))[order]
    cell = None if structure.cell is None else structure.cell @ matrix.T
    return structure.replace(positions=x, species=structure.species[order], cell=cell)


def squeezed(seed: int, factor: float) -> Structure:
    found = molecule(6, seed)
    return found.replace(positions=factor * found.positions)


def test_planted_outliers_are_found(predictor):
    base = molecule(6)
    rng = np.random.default_rng(0)
    pool = [
        base.replace(positions=base.positions + 0.02 * rng.normal(size=(6, 3))) for _ in range(30)
    ]
    planted = {7: squeezed(0, 0.55), 19: squeezed(1, 0.6), 25: squeezed(2, 0.5)}
    for place, structure in planted.items():
        pool[place] = structure
    found = select(predictor, pool, 3)
    assert set(found.indices) == planted.keys()
    assert found.indices[0] == np.argmax(found.disagreement)
    assert (found.property, found.unit) == ("forces", "eV/Å")


def test_twins_are_taken_once(predictor):
    outlier, other = squeezed(0, 0.5), squeezed(1, 0.6)
    pool = [molecule(6), outlier, turned(outlier, 1), other, turned(outlier, 2)]
    found = select(predictor, pool, 5)
    assert len(set(found.indices) & {1, 2, 4}) == 1
    assert set(found.indices) >= {0, 3} and len(found.indices) == 3
    by_disagreement = np.argsort(-found.disagreement)[:3]
    assert set(by_disagreement) == {1, 2, 4}  # without distances all three would be twins


def test_disagreement_is_the_largest_force_deviation(predictor):
    structures = [molecule(), molecule(3, 1)]
    found = disagreement(predictor, structures)
    values = predict(predictor, structures, [std_name("forces")])
    expected = [np.linalg.norm(v.node_targets["forces_std"], axis=1).max() for v in values]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_fingerprints_are_invariant_and_continuous():
    double = crystal()
    supercell = double.replace(
        positions=np.concatenate([double.positions, double.positions + CELL[1]]),
        species=np.tile(double.species, 2),
        cell=CELL * np.array([[1], [2], [1]]),
    )
    near = double.replace(positions=double.positions + 1e-4)
    near.positions[0, 0] += 1e-4
    pool = [double, turned(double, 0), supercell, near, crystal(1), molecule(), molecule(5, 3)]
    found = fingerprints(pool, 5.0)
    away = np.linalg.norm(found - found[0], axis=1)
    np.testing.assert_allclose(away[:3], 0, atol=1e-9)
    assert 0 < away[3] < 0.01 < 0.1 < away[4:].min()
    assert np.linalg.norm(found[5] - found[6]) > 0.1


def test_one_model_cannot_disagree_and_counts_are_checked(predictor, energy_model):
    with pytest.raises(TypeError, match="'small' is one model"):
        select(energy_model(), [molecule()], 1)
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"{count} were asked for"):
            select(predictor, [molecule()], count)
