"""Perov-5: cubic perovskites ABX3 of all elements, their heats of formation (Castelli et al. 2012).

Here are the validation and test parts of the published split; the first is what is trained on.
Every cell is a cube of five atoms, so lattice vectors are equally long, and cells are distorted by
displaced atoms alone.

The unit of the heats is eV per atom: all values of `heat_all` are multiples of 0.02 eV, energies of
five atoms given to 0.1 eV, and LaAlO3 has -0.1: its formation from the oxides is measured as -0.7
eV for five atoms.
"""

import csv
import gzip
from pathlib import Path

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, folder, split
from geojax.elements import atomic_number
from geojax.graphs import Properties, Structure

__all__ = ["perov5"]

CARD = {
    "description": "Perov-5: ABX3 perovskites, X among O, N, S, F; relaxed in a cube of five atoms",
    "licence": "MIT (CDVAE)",
    "level": "RPBE (GPAW); gaps GLLB-SC",
    "source": "github txie-93/cdvae f857f59, data/perov_5, validation and test parts",
    "citation": "Castelli et al., Energy Environ. Sci. 2012, 5, 5814 and 9034; Xie, Fu, Ganea, "
    "Barzilay, Jaakkola, ICLR 2022",
    "units": {
        "length": "Å",
        "heat_all": "eV/atom",
        "heat_ref": "eV/atom",
        "direct_gap": "eV",
        "indirect_gap": "eV",
    },
    "published": "none for these parts (a quarter of all 18,928 crystals to train on)",
}
COLUMNS = {
    "heat_all": "heat_all",
    "heat_ref": "heat_ref",
    "direct_gap": "dir_gap",
    "indirect_gap": "ind_gap",
}


@DATASETS.register("perov5")
def perov5(valid: float | int = 0.1, seed: int = 0) -> Dataset:
    """Crystals with `targets.heat_all`, `heat_ref` [eV/atom], `direct_gap`, `indirect_gap` [eV].

    `heat_all` is the energy above all other phases of the pool, `heat_ref` above the reference
    phases. The test crystals are those of the published split.

    Args:
        valid: a fraction or a number of the published validation crystals, held out at random; the
            others are trained on.
        seed: of that choice.

    Raises:
        FileNotFoundError: the files are not on this machine.
    """
    place = folder("perov5_carbon24")
    train, held = split(_read(place / "perov_5_val.csv.gz"), [-1, valid], seed)
    return Dataset("perov5", train, held, tuple(_read(place / "perov_5_test.csv.gz")), CARD)


def _read(path: Path) -> list[Structure]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [_structure(row) for row in csv.DictReader(lines)]


def _structure(row: dict[str, str]) -> Structure:
    """A crystal of a CIF without symmetry, as pymatgen writes it."""
    lines = [line.split() for line in row["cif"].splitlines()]
    known = {words[0]: words[1] for words in lines if len(words) == 2}
    edge = float(known["_cell_length_a"])
    names = [f"_cell_length_{axis}" for axis in "abc"]
    angles = [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
    if {float(known[n]) for n in names} != {edge} or {float(known[n]) for n in angles} != {90.0}:
        raise ValueError(
            f"crystals of Perov-5 are cubes; {row['material_id']} is not; use the published file"
        )
    sites = [words for words in lines if len(words) == 7]  # symbol label multiplicity x y z part
    targets = {name: float(row[column]) for name, column in COLUMNS.items()}
    return Structure(
        edge * np.array([words[3:6] for words in sites], float),
        np.array([atomic_number(words[0]) for words in sites]),
        np.eye(3) * edge,
        (True, True, True),
        properties=Properties(targets=targets),
        info={"material_id": row["material_id"], "formula": row["formula"]},
    )
