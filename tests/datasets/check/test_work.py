"""Work along short ways: exact where the energy is quadratic, right for turned molecules."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential

from geojax.datasets.check.work import fit, near_pairs
from geojax.graphs import Properties, Structure
from tests.datasets.check.samples import crystals, ethanol

CUBE = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), -1).reshape(-1, 3)


def clusters(count: int = 20) -> list[Structure]:
    """Morse clusters, each turned and moved in its own way, with their forces."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        x = (CUBE + rng.normal(0, 0.005, CUBE.shape)) @ (q * np.sign(np.linalg.det(q)))
        atoms = Atoms("H8", x + rng.normal(size=3))
        atoms.calc = MorsePotential(rcut1=8.0, rcut2=9.0)
        labels = Properties(atoms.get_potential_energy(), atoms.get_forces())
        found.append(Structure(atoms.positions, atoms.numbers, properties=labels))
    return found


def test_turned_molecules_are_compared_as_if_they_were_not():
    pairs = near_pairs(clusters())
    found = fit([pairs.work], pairs.energy)
    assert found.values[0] == pytest.approx(1, abs=0.03) and found.spread < 0.05
    assert found.count > 20 and pairs.way.max() < 0.1


def test_forces_that_were_not_turned_along_do_not_fit():
    """A wrong variant: the molecules turned, the forces not."""
    rng = np.random.default_rng(1)
    wrong = [
        s.replace(properties=s.properties._replace(forces=s.properties.forces @ q))
        for s in clusters()
        for q in [np.linalg.qr(rng.normal(size=(3, 3)))[0]]
    ]
    pairs = near_pairs(wrong)
    assert fit([pairs.work], pairs.energy).spread > 0.5


def test_forces_and_stress_of_crystals_do_their_work():
    pairs = near_pairs(crystals())
    found = fit([pairs.pull, pairs.work, pairs.volume], pairs.energy)
    assert np.allclose(found.values[:2], 1, atol=0.05) and found.spread < 0.1
    assert np.median(pairs.pull / pairs.virial) == pytest.approx(crystals()[0].volume, rel=0.05)


def test_whole_lattice_vectors_do_not_matter():
    rng = np.random.default_rng(0)
    moved = [
        s.replace(positions=s.positions + rng.integers(-2, 3, (len(s), 3)) @ np.asarray(s.cell))
        for s in crystals()
    ]
    one, other = near_pairs(crystals()), near_pairs(moved)
    assert np.array_equal(one.first, other.first) and np.allclose(one.work, other.work, atol=1e-9)


def test_labels_that_are_not_there_are_nan():
    bare = [s.replace(properties=Properties()) for s in ethanol().train[:40]]
    pairs = near_pairs(bare)
    assert len(pairs.way) and np.isnan(pairs.work).all() and np.isnan(pairs.energy).all()
    assert fit([pairs.work], pairs.energy).count == 0


def test_outliers_do_not_move_a_fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 100))
    y = 2 * x[0] - 3 * x[1]
    y[::4] += 50
    found = fit([x[0], x[1], np.zeros(100)], y)
    assert found.values[:2] == pytest.approx((2, -3), abs=1e-3) and np.isnan(found.values[2])


def test_nothing_to_compare_is_no_pair():
    assert len(near_pairs([]).way) == 0
    assert len(near_pairs(ethanol().train[:1]).way) == 0
