"""What engines of dynamics ask for: energy, forces and virial of a structure with any boundaries.

The virial W = -dE/dstrain = -V stress [eV] exists without a volume too: of a molecule it is
sum_i r_i F_i. It is computed in one way for all boundaries: edges are those of the structure as it
repeats, and the strain moves everything in a cell that the edges do not know of.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.graphs import Structure

__all__ = ["EnergyForcesVirial", "Evaluator"]


class EnergyForcesVirial(NamedTuple):
    """What was found.

    Attributes:
        energy: [eV].
        forces: `[node, 3]` [eV/Å].
        virial: `[3, 3]` [eV], -dE/dstrain, symmetric; positive where the structure pushes outwards.
    """

    energy: float
    forces: Float[np.ndarray, "node 3"]
    virial: Float[np.ndarray, "3 3"]


class Evaluator:
    """Maps a structure to its energy, forces and virial, in float64 on the host.

    The neighbour list is kept between calls as the ASE calculator keeps it.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        skin: [Å], see `inference.Calculator`.

    Raises:
        ImportError: ase is not installed.
        ValueError: the model has no energy.
    """

    def __init__(self, model: Any, *, skin: float = 0.5):
        from geojax.inference import calculator  # which needs ASE

        self._calculator = calculator(model, skin=skin)
        self.predictor = self._calculator.predictor

    def __call__(self, structure: Structure) -> EnergyForcesVirial:
        """The energy, forces and virial.

        Raises:
            ValueError: unknown elements, structures that cannot be, predictions that are not
                finite.
        """
        edges = self._calculator.edges(structure)
        cell = structure.cell
        if cell is None:
            cell = np.eye(3) * (1 + np.ptp(structure.positions, axis=0).max())
        solid = structure.replace(cell=cell, pbc=(True, True, True))
        found = self.predictor.with_edges(solid, edges, ("energy", "forces", "stress"))
        return EnergyForcesVirial(
            float(found.energy), np.array(found.forces), -solid.volume * np.array(found.stress)
        )
