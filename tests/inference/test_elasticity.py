"""Elastic constants against a closed form, and against relaxed crystals under strain."""

import jax.numpy as jnp
import numpy as np
import pytest
from ase.optimize import BFGS
from e3nn_jax import IrrepsArray

from geojax.arrays import safe_norm
from geojax.curvature import VOIGT
from geojax.datasets import to_ase
from geojax.graphs import Structure, edge_vectors, to_receivers
from geojax.inference import Predictor, calculator, elasticity, open_artifact
from geojax.inference.export import export
from geojax.model import Card, Model
from geojax.units import PRESSURE
from tests.test_potential import Springs

from .conftest import crystal, molecule


class Near(Springs):
    """Springs between nearest neighbours at distance one."""

    cutoff = 1.3


class Mixed(Springs):
    """Springs that are longer between atoms of element 8."""

    def apply(self, params, graph):
        r, heavy = safe_norm(edge_vectors(graph)), (graph.nodes["species"] == 8).astype(float)
        rest = 1 + 0.2 * (heavy[graph.senders] + heavy[graph.receivers])
        x = jnp.minimum(r / self.cutoff, 1)
        near = 1 - x**3 * (10 - x * (15 - 6 * x))
        return IrrepsArray("0e", to_receivers(params * (r - rest) ** 2 * near, graph)[:, None])


def springs(network=None) -> Model:
    card = Card(name="springs", elements=(8, 14), forces=True, stress=True, dtype="float64")
    return Model(network or Near(), np.float64(3.0), card)


def test_springs_of_an_fcc_crystal():
    """Nearest neighbours at rest, spring constant k, lattice constant a: C11 = 2 k/a = 2 C12."""
    half = np.sqrt(0.5)
    cell = half * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    found = elasticity(springs(), Structure(np.zeros((1, 3)), np.array([14]), cell, (True,) * 3))
    x = 1 / 1.3
    k = 3.0 * (1 - x**3 * (10 - x * (15 - 6 * x)))
    a = 2 * half
    expected = np.zeros((6, 6))
    expected[:3, :3] = k / a
    expected[np.arange(6), np.arange(6)] = [2 * k / a] * 3 + [k / a] * 3
    np.testing.assert_allclose(found.stiffness * PRESSURE["GPa"], expected, atol=1e-12)
    np.testing.assert_allclose(found.clamped, found.stiffness, atol=1e-9)
    assert np.abs(found.stress).max() < 1e-9 and found.force < 1e-12 and found.stable
    assert found.bulk_modulus * PRESSURE["GPa"] == pytest.approx(4 * k / a / 3)
    # Cubic: Voigt's and Reuss's bounds of the shear modulus, and their mean
    c11, c12, c44 = 2 * k / a, k / a, k / a
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert found.shear_modulus * PRESSURE["GPa"] == pytest.approx((voigt + reuss) / 2)
    g, b = found.shear_modulus, found.bulk_modulus
    assert found.young_modulus == pytest.approx(9 * b * g / (3 * b + g))
    assert found.poisson_ratio == pytest.approx(found.young_modulus / (2 * g) - 1)
    assert set(found.record()) > set(found.figures())


def at_rest(model, structure: Structure) -> Structure:
    atoms = to_ase(structure)
    atoms.calc = calculator(model)
    BFGS(atoms, logfile=None).run(fmax=1e-8, steps=500)
    return structure.replace(positions=atoms.positions.copy())


@pytest.mark.slow
def test_atoms_give_way_as_the_cell_deforms():
    model = springs(Mixed())
    cell = np.array([[1.9, 0.1, 0], [0.2, 1.7, 0.3], [0, -0.2, 1.8]])
    places = np.array([[0, 0, 0], [0.45, 0.6, 0.4], [0.1, 0.4, 0.7]]) @ cell
    rest = at_rest(model, Structure(places, np.array([8, 14, 14]), cell, (True,) * 3))
    found = elasticity(model, rest)
    assert found.force < 1e-7
    assert np.abs(found.clamped - found.stiffness).max() > 1e-2 * np.abs(found.stiffness).max()
    predictor, step = Predictor(model), 5e-3
    for k in (0, 4):
        energies = []
        for size in (step, -step, 0):
            strain = np.zeros((3, 3))
            i, j = VOIGT[k]
            strain[i, j] += size / 2
            strain[j, i] += size / 2
            deformation = np.eye(3) + strain
            moved = rest.replace(
                positions=rest.positions @ deformation, cell=rest.cell @ deformation
            )
            energies.append(float(predictor([at_rest(model, moved)])[0].energy))
        curved = (energies[0] + energies[1] - 2 * energies[2]) / step**2 / rest.volume
        assert found.stiffness[k, k] * PRESSURE["GPa"] == pytest.approx(curved, rel=1e-3)


@pytest.mark.slow
def test_what_is_no_crystal_and_what_has_no_second_derivatives_is_refused(energy_model, tmp_path):
    model = energy_model()
    with pytest.raises(ValueError, match="periodic in three directions"):
        elasticity(model, molecule())
    export(model, tmp_path / "small.geojax", platforms=("cpu",))
    with pytest.raises(ValueError, match="use geojax.load"):
        elasticity(open_artifact(tmp_path / "small.geojax"), crystal())
