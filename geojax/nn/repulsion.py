"""The repulsion of two nuclei at close range, where no training data reach.

Ziegler, Biersack and Littmark's screened Coulomb potential,

    V(r) = Z_i Z_j e² / (4 pi eps0 r) phi(r / a),   a = 0.8854 a0 / (Z_i^0.23 + Z_j^0.23),
    phi(x) = 0.1818 e^(-3.2 x) + 0.5099 e^(-0.9423 x) + 0.2802 e^(-0.4029 x) + 0.02817 e^(-0.2016 x)

times a polynomial envelope (C²) that ends at the sum of the two covalent radii, so that bonds at
their usual lengths are the network's alone.

References:
    Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Matter" (1985).
    Cordero et al., "Covalent radii revisited", Dalton Transactions 2832 (2008): the radii.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders, to_receivers
from geojax.nn.radial import polynomial_envelope
from geojax.units import BOHR, HARTREE

__all__ = ["zbl"]

AMPLITUDES = (0.1818, 0.5099, 0.2802, 0.02817)
DECAYS = (3.2, 0.9423, 0.4029, 0.2016)
POWER = 0.23
SCREENING = 0.8854 * BOHR  # [Å]
COULOMB = HARTREE * BOHR  # e² / (4 pi eps0) [eV Å]


def zbl(graph: Graph, cutoff: float) -> Float[Array, "node"]:
    """Half of the repulsion [eV] from each neighbour, summed; zero for bare points and padding.

    Args:
        cutoff: of the graph's edges [Å]; the envelope ends there at the latest.
    """
    from ase.data import covalent_radii

    r = safe_norm(edge_vectors(graph))
    species = graph.nodes["species"]
    charge = species.astype(r.dtype)
    radius = jnp.asarray(np.asarray(covalent_radii), r.dtype)[species]

    def of_pair(x: Float[Array, "node"]) -> tuple[Array, Array]:
        return from_senders(x, graph), from_receivers(x, graph)

    z_i, z_j = of_pair(charge)
    end = jnp.minimum(sum(of_pair(radius)), cutoff)
    near = (r > 0) & (r < end)
    r = jnp.where(near, r, end)
    x = r * sum(of_pair(charge**POWER)) / SCREENING
    phi = sum(c * jnp.exp(-d * x) for c, d in zip(AMPLITUDES, DECAYS, strict=True))
    energy = COULOMB * z_i * z_j / r * phi * polynomial_envelope(r / end, 1.0)
    return to_receivers(jnp.where(near, energy, 0) / 2, graph)
