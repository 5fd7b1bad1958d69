"""Potentials at work: dynamics, minima, ways between them, phonons, in the engines of the field."""

from geojax.simulation.band import Band, elastic_band
from geojax.simulation.dynamics import Dynamics, Record, molecular_dynamics
from geojax.simulation.ipi import serve_ipi
from geojax.simulation.jax_md import JaxMD, JaxMDRun, jax_md_potential, run_jax_md
from geojax.simulation.lammps import LammpsModel, open_lammps
from geojax.simulation.openmm import OpenMMSystem, openmm_force, openmm_system
from geojax.simulation.phonons import Phonons, phonons
from geojax.simulation.relaxation import Relaxation, relax
from geojax.simulation.torch_sim import torch_sim_model

__all__ = [
    "Band",
    "Dynamics",
    "JaxMD",
    "JaxMDRun",
    "LammpsModel",
    "OpenMMSystem",
    "Phonons",
    "Record",
    "Relaxation",
    "elastic_band",
    "jax_md_potential",
    "molecular_dynamics",
    "open_lammps",
    "openmm_force",
    "openmm_system",
    "phonons",
    "relax",
    "run_jax_md",
    "serve_ipi",
    "torch_sim_model",
]
