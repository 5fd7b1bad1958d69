"""Potentials at work: dynamics, minima, ways between them, phonons, in the engines of the field."""

from geojax.simulation.band import Band, elastic_band
from geojax.simulation.dynamics import Dynamics, Record, molecular_dynamics
from geojax.simulation.phonons import Phonons, phonons
from geojax.simulation.relaxation import Relaxation, relax

__all__ = [
    "Band",
    "Dynamics",
    "Phonons",
    "Record",
    "Relaxation",
    "elastic_band",
    "molecular_dynamics",
    "phonons",
    "relax",
]
