"""What holds of the labels of every data set of one molecule."""

from collections.abc import Sequence

import numpy as np

from geojax.datasets import Dataset
from geojax.graphs import Structure

BOLTZMANN = 8.617333262e-5  # [eV/K]


def check_molecule(data: Dataset, formula: dict[int, int], temperature: float) -> None:
    """Labels are total energies [eV] and forces [eV/Å] of one molecule, sampled at a temperature.

    Four facts tell eV and Å from every other unit in use: no net force; forces of about 1 eV/Å; an
    atomisation energy of 3 to 6 eV per atom (organic molecules); a spread of the energy near that
    of harmonic vibrations, kT sqrt((3 N - 6) / 2).
    """
    structures = [*data.train, *data.valid]
    for s in structures:
        found = np.unique(s.species, return_counts=True)
        assert dict(zip(*(column.tolist() for column in found), strict=True)) == formula
        assert not any(s.pbc)
    atoms = sum(formula.values())
    energies = np.array([float(s.properties.energy) for s in structures])
    forces = np.array([s.properties.forces for s in structures])
    assert np.abs(forces.sum(1)).max() < 1e-3
    assert 0.7 < np.sqrt(np.mean(forces**2)) < 1.6
    free = sum(count * data.card["E0s"][z] for z, count in formula.items())
    assert 3 < (free - energies.mean()) / atoms < 6
    vibrations = BOLTZMANN * temperature * np.sqrt((3 * atoms - 6) / 2)
    assert 0.5 < energies.std() / vibrations < 2


def counts(data: Dataset) -> tuple[int, int, int]:
    """Structures for training, validation and test."""
    return len(data.train), len(data.valid), len(data.test)


def geometries(structures: Sequence[Structure]) -> set[bytes]:
    """The positions, to compare sets of frames."""
    return {s.positions.tobytes() for s in structures}
