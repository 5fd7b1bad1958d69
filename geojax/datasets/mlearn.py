"""mlearn: Cu, Ni, Li, Mo, Si or Ge with PBE energies, forces and stresses (Zuo et al. 2020).

The files state `stress` in eV/Å³ with geojax's sign (tension positive) and full 3 × 3 matrices. The
original tables held VASP's kbar, positive under compression. Sign and unit were verified here
without either source: for all pairs of nearly force-free cells with the same number of atoms the
difference of the energies is V σ : strain (trapezoidal rule, strain from the two cells). The slope
of the regression is 1.01 for Si and 0.98 for Ge (64 atoms, correlation 0.997); a wrong sign would
give -1, kbar would give 6e-4. `tests/datasets/test_mlearn.py` repeats it. For Si and Ge in group
Surface the two shear components yz and xz could not be told apart (`shear_order_checked` in info).

The stresses of Cu and Ni are not the derivatives of their energies: over strained crystals
dE/dV = stress - 15 meV/Å³ (Cu) and - 17 meV/Å³ (Ni), about 2.5 GPa at every volume, as a plane-wave
basis that is too small for stresses has it (Pulay stress). For Mo, Si, Ge and Li it is 1 meV/Å³ or
less. No potential can fit both: for Cu and Ni leave stress out of the loss.
"""

from geojax.datasets.dataset import DATASETS, Dataset, folder, of_readings, split
from geojax.datasets.formats import read
from geojax.registry import did_you_mean

__all__ = ["mlearn"]

ELEMENTS = ("Cu", "Ge", "Li", "Mo", "Ni", "Si")
CARD = {
    "licence": "BSD-3-Clause",
    "level": "PBE (VASP)",
    "source": "github materialsvirtuallab/mlearn 10c427a",
    "citation": "Zuo et al., J. Phys. Chem. A 2020, 124, 731 (arXiv:1906.08888)",
    "units": {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"},
}
# Test RMSE, energy [meV/atom] / forces [eV/Å]; there is no published table of stress errors.
PUBLISHED = {
    "Cu": "GAP 0.56/0.02, MTP 0.52/0.01, NNP 1.68/0.06, SNAP 0.87/0.08",
    "Ge": "GAP 4.47/0.08, MTP 3.68/0.07, NNP 10.54/0.13, SNAP 10.96/0.29",
    "Li": "GAP 0.63/0.01, MTP 0.65/0.01, NNP 0.98/0.06, SNAP 0.87/0.04",
    "Mo": "GAP 3.55/0.16, MTP 3.89/0.15, NNP 5.67/0.20, SNAP 9.06/0.37",
    "Ni": "GAP 0.62/0.04, MTP 0.79/0.03, NNP 2.25/0.07, SNAP 1.17/0.08",
    "Si": "GAP 4.18/0.08, MTP 3.02/0.09, NNP 9.95/0.17, SNAP 6.29/0.22",
}


REMARKS = {
    "Cu": "; stress labels are 15 meV/Å³ above the derivative of the energies",
    "Ni": "; stress labels are 17 meV/Å³ above the derivative of the energies",
}


@DATASETS.register("mlearn")
def mlearn(element: str = "Cu", valid: float | int = 0.1, seed: int = 0) -> Dataset:
    """The training and test frames of one element; `valid` of the training frames are held out.

    Strained cells that are equal by symmetry occur in both published splits (11 of the 31 test
    frames of Cu have the energy of a training frame), so test errors flatter somewhat.

    Args:
        element: Cu, Ge, Li, Mo, Ni or Si.
        valid: a fraction or a number of the training frames.
        seed: of that choice.

    Raises:
        KeyError: another element.
    """
    if element not in ELEMENTS:
        raise KeyError(f"mlearn has no element {element!r}; {did_you_mean(element, ELEMENTS)}")
    place = folder("mlearn")
    readings = {"train": read(place / f"{element}_train.extxyz.gz")}
    tested = place / f"{element}_test.extxyz.gz"
    if tested.exists():
        readings["test"] = read(tested)
    parts = split(readings["train"].structures, [-1, valid], seed)
    card = CARD | {
        "description": f"mlearn {element}: crystals, strains, surfaces, vacancies, MD frames"
        + REMARKS.get(element, ""),
        "published": PUBLISHED[element],
    }
    return of_readings(f"mlearn-{element}", readings, card, train=parts[0], valid=parts[1])
