"""Elastic constants of a crystal at rest, by second derivatives of its energy.

With Voigt strains η (xx yy zz yz xz xy, shears doubled), H the Hessian and V the volume,

    C_kl = (d²E/dη_k dη_l - sum_ab L_ak H⁺_ab L_bl) / V,    L = d²E/du dη

The second term is what atoms give way as the cell deforms; H⁺ leaves their common shift out. All
derivatives are exact, so that no step has to be chosen.

References:
    Born, Huang, "Dynamical Theory of Crystal Lattices", 1954.
    Wu, Vanderbilt, Hamann, Phys. Rev. B 2005, 72, 035105 (internal-strain term).
    Hill, Proc. Phys. Soc. A 1952, 65, 349 (averages over orientations).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.graphs import Structure
from geojax.inference.predictor import Predictor
from geojax.units import PRESSURE

__all__ = ["Elasticity", "elasticity"]

SOFT = 1e-6  # of the largest eigenvalue of the Hessian: below, a mode is a shift of all atoms


class Elasticity(NamedTuple):
    """Elastic constants [GPa], in Voigt order xx yy zz yz xz xy.

    Attributes:
        stiffness: `[6, 6]`, with atoms at rest in the deformed cell.
        clamped: the same with atoms that only follow the cell.
        stress: `[3, 3]` of the structure as it is; constants mean little where it is large.
        force: [eV/Å], the largest on an atom, likewise.
    """

    stiffness: Float[np.ndarray, "6 6"]
    clamped: Float[np.ndarray, "6 6"]
    stress: Float[np.ndarray, "3 3"]
    force: float

    @property
    def compliance(self) -> Float[np.ndarray, "6 6"]:
        """[1/GPa]."""
        return np.linalg.inv(self.stiffness)

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy (Born)."""
        return bool(np.linalg.eigvalsh(self.stiffness).min() > 0)

    @property
    def bulk_modulus(self) -> float:
        """[GPa], of a polycrystal: Hill's mean of the bounds of Voigt and Reuss."""
        c, s = self.stiffness[:3, :3], self.compliance[:3, :3]
        return float((c.sum() / 9 + 1 / s.sum()) / 2)

    @property
    def shear_modulus(self) -> float:
        """[GPa], likewise."""
        c, s = self.stiffness, self.compliance
        voigt = (np.trace(c[:3, :3]) - _beside(c) + 3 * np.trace(c[3:, 3:])) / 15
        reuss = 15 / (4 * np.trace(s[:3, :3]) - 4 * _beside(s) + 3 * np.trace(s[3:, 3:]))
        return float((voigt + reuss) / 2)

    @property
    def young_modulus(self) -> float:
        """[GPa], of a polycrystal."""
        k, g = self.bulk_modulus, self.shear_modulus
        return 9 * k * g / (3 * k + g)

    @property
    def poisson_ratio(self) -> float:
        """Of a polycrystal."""
        k, g = self.bulk_modulus, self.shear_modulus
        return (3 * k - 2 * g) / (6 * k + 2 * g)

    def record(self) -> dict[str, Any]:
        """Plain numbers, for a file."""
        return {
            "stiffness [GPa]": self.stiffness.tolist(),
            "clamped [GPa]": self.clamped.tolist(),
            "stress [GPa]": self.stress.tolist(),
            "stable": self.stable,
            **self.figures(),
        }

    def figures(self) -> dict[str, float]:
        """The single numbers."""
        return {
            "bulk modulus [GPa]": self.bulk_modulus,
            "shear modulus [GPa]": self.shear_modulus,
            "Young modulus [GPa]": self.young_modulus,
            "Poisson ratio": self.poisson_ratio,
            "pressure [GPa]": -float(np.trace(self.stress)) / 3,
            "largest force [eV/Å]": self.force,
        }


def _beside(matrix: np.ndarray) -> float:
    """xx yy + yy zz + zz xx."""
    return float(matrix[0, 1] + matrix[1, 2] + matrix[0, 2])


def elasticity(model: Any, structure: Structure) -> Elasticity:
    """Elastic constants of a structure, which relaxation brought to rest (`simulation.relax`).

    Args:
        model: a `Model` with an energy, or its `Predictor`.
        structure: periodic in three directions.

    Raises:
        ValueError: it does not repeat in three directions, an unknown element, no energy, or an
            exported file, which lacks second derivatives.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    if structure.cell is None or not all(structure.pbc):
        raise ValueError(
            "elastic constants are of a crystal, periodic in three directions; got pbc "
            f"{structure.pbc}"
        )
    (here,) = predictor([structure], ("forces", "stress"))
    whole, inner = predictor.strains(structure)
    size = 3 * len(structure)
    hessian = predictor.energy_hessian(structure).reshape(size, size)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    stiff = np.abs(values) > SOFT * max(np.abs(values).max(), 1e-30)
    coupled = vectors[:, stiff].T @ inner.reshape(size, 6)
    relaxed = whole - coupled.T @ (coupled / values[stiff, None])
    unit = structure.volume * PRESSURE["GPa"]
    return Elasticity(
        (relaxed + relaxed.T) / 2 / unit,
        (whole + whole.T) / 2 / unit,
        np.asarray(here.stress) / PRESSURE["GPa"],
        float(np.linalg.norm(np.asarray(here.forces), axis=1).max()),
    )
