"""Small models of several layers, and a crystal of two elements."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from ase import Atoms

from geojax.datasets import from_ase
from geojax.graphs import Budget, pad, sample
from geojax.inference import calculator
from geojax.model import Card, Model
from geojax.networks import EGNN, MACE, Allegro, NequIP, fit_to_data

CUTOFF = 3.2
CELL = np.array([[5.2, 0, 0], [0.6, 5.0, 0], [-0.7, 0.9, 5.4]])
PLACES = np.array([[0, 0, 0], [2, 2, 0], [2, 0, 2], [0, 2, 2], [1, 1, 1], [3, 3, 1], [3, 1, 3]]) / 4
SCALE = 10.0  # [eV], of an atom's energy
E0S = {8: -430.0, 14: -105.5}
NETWORKS: dict[str, Any] = {
    "nequip": NequIP(cutoff=CUTOFF, channels=4, layers=3, radial_width=8),
    "mace": MACE(cutoff=CUTOFF, channels=4, lmax=2, correlation=2, radial=(8,), readout=4),
    "egnn": EGNN(cutoff=CUTOFF, channels=8, layers=3),
    "allegro": Allegro(cutoff=CUTOFF, channels=4, two_body=(8,), latent=(8,)),
}


def crystal(repeat: int = 1) -> Atoms:
    """Seven atoms in a triclinic cell with a vacancy, moved and moving."""
    species = np.array([8, 14, 8, 14, 8, 14, 8])
    atoms = Atoms(species, scaled_positions=PLACES, cell=CELL, pbc=True) * repeat
    atoms.rattle(0.1, seed=1)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)) * 0.03)
    return atoms


def model(name: str = "nequip", dtype: str = "float64", **fields) -> Model:
    """An untrained model with energies of about an eV, and E0s; fields are the network's."""
    ready = sample(from_ase(crystal()), CUTOFF)
    network = fit_to_data(NETWORKS[name].clone(**fields), [ready])
    graph = jax.tree.map(jax.numpy.asarray, pad([ready], Budget(16, 512, 2)).graph)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    card = Card(name, elements=(8, 14), E0s=E0S, dtype=dtype)
    return Model(network, params, replace(card, outputs=(replace(card.outputs[0], scale=SCALE),)))


def answered(atoms: Atoms, model: Model) -> Atoms:
    """The atoms with ASE's calculator of the model."""
    atoms.calc = calculator(model)
    return atoms
