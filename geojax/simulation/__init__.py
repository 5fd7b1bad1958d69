"""Potentials at work: dynamics, relaxation and phonons, in the engines of the field."""

from geojax.simulation.dynamics import Ensemble, Record, molecular_dynamics
from geojax.simulation.phonons import Phonons, phonons
from geojax.simulation.relaxation import Relaxation, relax

__all__ = [
    "Ensemble",
    "Phonons",
    "Record",
    "Relaxation",
    "molecular_dynamics",
    "phonons",
    "relax",
]
