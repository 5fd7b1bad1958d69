"""Potentials at work: dynamics and relaxation, in the engines of the field."""

from geojax.simulation.dynamics import Ensemble, Record, molecular_dynamics
from geojax.simulation.relaxation import Relaxation, relax

__all__ = ["Ensemble", "Record", "Relaxation", "molecular_dynamics", "relax"]
