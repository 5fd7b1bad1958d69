"""Phonons of springs in closed form, and force constants against the Hessian of a supercell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from geojax.datasets import from_ase
from geojax.inference import Predictor, calculator
from geojax.simulation import phonons
from geojax.units import LIGHT, WAVENUMBER
from tests.inference.test_elasticity import springs

MASS = 28.085


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Nearest neighbours of an fcc crystal joined by springs, in its cubic cell."""
    atoms = bulk("Si", "fcc", a=np.sqrt(2), cubic=True)
    atoms.set_masses([MASS] * 4)
    atoms.calc = calculator(springs())
    folder, steps = tmp_path_factory.mktemp("phonons"), []
    progress = lambda done, total: steps.append((done, total))
    result = phonons(atoms, displacement=1e-4, mesh=(8, 8, 8), folder=folder, progress=progress)
    assert steps == [(1, 1)]
    assert {p.name for p in folder.iterdir()} == {"phonopy.yaml", "phonons.png"}
    return result


def test_springs_of_an_fcc_crystal(found):
    """At X: 8 k / m of the longitudinal, 4 k / m of both transverse branches."""
    x = 1 / 1.3
    k = 3.0 * (1 - x**3 * (10 - x * (15 - 6 * x)))
    terahertz = WAVENUMBER * LIGHT * 100 * 1e-12
    at = next(place for place, label in found.ticks if label == "X")
    bands = found.bands[np.argmin(np.abs(found.distances - at))]
    expected = terahertz * np.sqrt(np.array([4, 4, 8]) * k / MASS)
    np.testing.assert_allclose(bands, expected, rtol=1e-5)
    assert found.path.startswith("GX") and found.bands.shape[1] == 3
    assert found.acoustic < 1e-4 and abs(found.lowest) < 1e-3
    states = np.trapezoid(found.density, found.energies)
    assert states == pytest.approx(3, rel=0.02)
    boltzmann = 8.617333262e-5
    assert found.thermal[-1, 3] == pytest.approx(3 * boltzmann, rel=0.02)  # Dulong, Petit
    assert set(found.record()) > set(found.figures())


def test_force_constants_are_the_hessian(found):
    cell = found.engine.supercell
    atoms = Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    hessian = Predictor(springs()).energy_hessian(from_ase(atoms, labels=False))
    rows = found.engine.primitive.p2s_map
    constants = np.moveaxis(np.asarray(found.engine.force_constants), 1, 2)
    constants = constants if len(constants) == len(rows) else constants[rows]
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(constants / scale, hessian[rows] / scale, atol=1e-5)


def test_what_has_no_phonons_is_refused():
    moved = bulk("Cu", cubic=True)
    moved.positions[0] += 0.1
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    for atoms, options, message in [
        (moved, {}, "relax it first"),
        (slab, {}, "periodic in three directions"),
        (bulk("Cu"), {"supercell": (2, 2)}, "three whole numbers"),
        (bulk("Cu"), {"displacement": 0.0}, "a displacement is positive"),
    ]:
        atoms.calc = EMT()
        with pytest.raises(ValueError, match=message):
            phonons(atoms, **options)
