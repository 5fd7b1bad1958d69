"""FLLA: formation energies of crystals of nearly all elements (Faber et al. 2015)."""

import csv
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, folder, split
from geojax.elements import atomic_number
from geojax.graphs import Properties, Structure

__all__ = ["flla"]

CARD = {
    "description": "FLLA: Materials Project crystals of 1 to 25 atoms a cell, 86 elements",
    "licence": "BSD-3-Clause (matminer), data CC BY 4.0",
    "level": "PBE and PBE+U (Materials Project)",
    "source": "PyPI matminer 0.3.9, flla_2015.csv",
    "citation": "Faber, Lindmaa, von Lilienfeld, Armiento, Int. J. Quantum Chem. 2015, 115, 1094; "
    "Jain et al., APL Mater. 2013, 1, 011002",
    "units": {"length": "Å", "formation_energy": "eV/atom", "e_above_hull": "eV/atom"},
    "published": "test MAE [eV/atom], 3000 training crystals of another split: sine matrix 0.37, "
    "Ewald sum matrix 0.49, extended Coulomb matrix 0.64",
}
FILE = "flla_2015.csv.gz"
QUOTES = str.maketrans("'", '"')


@DATASETS.register("flla")
def flla(
    n_train: int | None = None,
    valid: float | int = 0.1,
    test: float | int = 0,
    seed: int = 0,
) -> Dataset:
    """Crystals with `targets.formation_energy` and `targets.e_above_hull` [eV/atom].

    The published split is not known: hold out for a test of one's own what is needed. The few
    crystals with an element that no other training crystal has are trained on in any case.

    Args:
        n_train: only so many training crystals, chosen at random, the same ones every time.
        valid, test: fractions or numbers of the crystals, held out at random.
        seed: of that choice.

    Raises:
        FileNotFoundError: the file is not on this machine.
        ValueError: `n_train` is out of range.
    """
    structures = [_structure(row) for row in _rows(folder("flla_formation_energy") / FILE)]
    train, held, tested = split(structures, [-1, valid, test], seed)
    known = {int(z) for s in train for z in s.species}
    strange = lambda s: not known.issuperset(s.species.tolist())
    train = (*train, *filter(strange, held), *filter(strange, tested))
    held, tested = (tuple(s for s in part if not strange(s)) for part in (held, tested))
    if n_train is not None and not 0 < n_train <= len(train):
        raise ValueError(f"n_train is 1 to {len(train)}; got {n_train}")
    if n_train is not None:
        (train,) = split(train, [n_train], seed)
    return Dataset("flla", train, held, tested, CARD)


def _rows(path: Path) -> Iterable[dict[str, str]]:
    """The rows of a gzipped table by the names of its columns; its first line is a remark."""
    csv.field_size_limit(2**24)  # a field holds a whole structure
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        next(lines)
        yield from csv.DictReader(lines)


def _structure(row: dict[str, str]) -> Structure:
    found = json.loads(row["structure"].translate(QUOTES))  # as Python prints a dictionary
    sites = found["sites"]
    targets = {
        "formation_energy": float(row["formation_energy_per_atom"]),
        "e_above_hull": float(row["e_above_hull"]),
    }
    return Structure(
        np.array([site["xyz"] for site in sites]),
        np.array([atomic_number(site["species"][0]["element"]) for site in sites]),
        np.array(found["lattice"]["matrix"]),
        (True, True, True),
        properties=Properties(targets=targets),
        info={"material_id": row["material_id"]},
    )
