"""Constant-energy dynamics keep the energy of a harmonic bond."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from geojax.inference import nve


class Spring(Calculator):
    implemented_properties = ["energy", "free_energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        d = self.atoms.positions[1] - self.atoms.positions[0]
        r = np.linalg.norm(d)
        force = 30 * (r - 1) * d / r
        self.results = {"energy": 15 * (r - 1) ** 2, "forces": np.array([force, -force])}
        self.results["free_energy"] = self.results["energy"]


def test_energy_is_kept_and_frames_are_every_so_many_steps():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.05]], calculator=Spring())
    record = nve(atoms, steps=400, timestep=0.25, temperature=300.0, every=10)
    assert record["total"].shape == (401,) and record["positions"].shape == (41, 2, 3)
    assert np.ptp(record["total"]) < 0.02 * np.ptp(record["kinetic"])
    assert abs(record["drift"]) < 1e-2
    np.testing.assert_allclose(record["frames"], np.arange(0, 101, 2.5))
    repeat = Atoms("H2", [[0, 0, 0], [0, 0, 1.05]], calculator=Spring())
    again = nve(repeat, steps=400, timestep=0.25, temperature=300.0, every=10)
    np.testing.assert_array_equal(record["total"], again["total"])
