"""A barrier that is known: an atom that hops on a surface, by a potential that ASE brings."""

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from geojax.simulation import elastic_band, relax


@pytest.fixture(scope="module")
def ends():
    """Gold on aluminium (100) in two neighbouring hollows, with 0.374 eV between, as in ASE."""
    found = []
    for shift in (0.0, 1.0):
        slab = fcc100("Al", size=(2, 2, 3))
        add_adsorbate(slab, "Au", 1.7, "hollow")
        slab.center(axis=2, vacuum=4.0)
        slab.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in slab]))
        slab.positions[-1, 0] += shift * slab.cell[0, 0] / 2
        slab.calc = EMT()
        relax(slab, force=0.01)
        found.append(slab)
    return found


def test_a_known_barrier(ends, tmp_path):
    path = tmp_path / "band.xyz"
    found = elastic_band(*ends, images=3, force=0.05, trajectory=path)
    figures = found.figures()
    assert found.converged and found.force < 0.05
    assert figures["barrier [eV]"] == pytest.approx(0.374, abs=0.01)
    assert figures["reaction energy [eV]"] == pytest.approx(0, abs=1e-3)
    assert found.saddle == 2 and len(found.images) == 5
    energies = [frame.info["geojax_energy"] for frame in read(path, ":")]
    np.testing.assert_allclose(energies, found.energies, atol=1e-6)


def test_a_band_that_is_not_done_says_so(ends):
    assert not elastic_band(*ends, images=1, force=1e-6, steps=2, climb=False).converged


def test_what_cannot_be_joined_is_refused(ends):
    start, end = ends
    other = end.copy()
    other.numbers[0] = 29
    with pytest.raises(ValueError, match="the same atoms, in one order and one cell"):
        elastic_band(start, other)
    with pytest.raises(ValueError, match="at the same places in both"):
        elastic_band(start, start)
    with pytest.raises(ValueError, match="images, force and steps are positive"):
        elastic_band(start, end, images=0)
