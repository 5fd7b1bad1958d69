"""jax-md as an engine: a potential in its conventions, and runs that mend their neighbour lists."""

from geojax.simulation.jax_md.neighbors import NeighborFns, Neighbors
from geojax.simulation.jax_md.potential import JaxMD, jax_md_potential
from geojax.simulation.jax_md.run import JaxMDRun, run_jax_md

__all__ = ["JaxMD", "JaxMDRun", "NeighborFns", "Neighbors", "jax_md_potential", "run_jax_md"]
