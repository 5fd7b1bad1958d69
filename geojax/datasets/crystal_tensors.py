"""Dielectric tensors of crystals, as equivariant targets (Petousis et al. 2017).

A symmetric tensor is six numbers of the irreps 0e+2e: its trace over sqrt(3), and the five of
degree 2 in e3nn's basis. The map keeps the norm: the sum of the six squares is that of the nine
components, so a mean square error is one of the tensor.
"""

import ast
import csv
import gzip
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from geojax.datasets.dataset import DATASETS, Dataset, folder, split
from geojax.elements import atomic_number
from geojax.graphs import Properties, Structure
from geojax.so3 import clebsch_gordan

__all__ = ["crystal_tensors", "spherical_of_symmetric", "symmetric_of_spherical"]

CARD = {
    "description": "dielectric tensors of 844 insulating crystals of 2 to 20 atoms a cell",
    "licence": "BSD-3-Clause (matminer), data CC BY 4.0",
    "level": "PBE and PBE+U, density functional perturbation theory (VASP)",
    "source": "PyPI matminer 0.3.9, dielectric_constant.csv",
    "citation": "Petousis et al., Sci. Data 2017, 4, 160134",
    "units": {
        "length": "Å",
        "dielectric": "relative permittivity, 0e+2e",
        "dielectric_electronic": "relative permittivity, 0e+2e",
        "n": "refractive index",
        "band_gap": "eV",
    },
    "published": "none for these crystals",
}
COLUMNS = {"dielectric": "e_total", "dielectric_electronic": "e_electronic"}
FILE = "dielectric_constant.csv.gz"


@DATASETS.register("crystal-tensors")
def crystal_tensors(
    valid: float | int = 0.1,
    test: float | int = 0.1,
    largest: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Crystals with `targets.dielectric` and `targets.dielectric_electronic` [6], irreps 0e+2e.

    Also `targets.n` (refractive index) and `targets.band_gap` [eV]. Tensors are in the axes of the
    cell and made symmetric; before, they differ from their transposes by 0.01 or less in 99 of 100
    crystals.

    Args:
        valid, test: fractions or numbers of the crystals, held out at random.
        largest: leave out crystals with a larger mean of the three diagonal elements of the
            dielectric tensor; a few near a soft mode have 100 and more.
        seed: of the split.

    Raises:
        FileNotFoundError: the file is not on this machine.
    """
    structures = [_structure(row) for row in _rows(folder("crystal_tensors") / FILE)]
    if largest is not None:
        mean = lambda s: float(s.properties.targets["dielectric"][0]) / np.sqrt(3)
        structures = [s for s in structures if mean(s) <= largest]
    train, held, tested = split(structures, [-1, valid, test], seed)
    return Dataset("crystal-tensors", train, held, tested, CARD)


def spherical_of_symmetric(
    tensor: Float[np.ndarray, "*n xyz xyz"],
) -> Float[np.ndarray, "*n m"]:
    """The six numbers, irreps 0e+2e, of symmetric Cartesian tensors."""
    return np.einsum("mab,...ab->...m", _basis(), tensor)


def symmetric_of_spherical(
    values: Float[np.ndarray, "*n m"],
) -> Float[np.ndarray, "*n xyz xyz"]:
    """The symmetric Cartesian tensors of six numbers 0e+2e."""
    return np.einsum("mab,...m->...ab", _basis(), values)


@cache
def _basis() -> Float[np.ndarray, "m xyz xyz"]:
    """Six orthonormal symmetric matrices."""
    parts = [np.sqrt(2 * l + 1) * clebsch_gordan(1, 1, l) for l in (0, 2)]
    return np.moveaxis(np.concatenate(parts, -1), -1, 0)


def _rows(path: Path) -> Iterable[dict[str, str]]:
    """The rows by the names of their columns; before the first one each has one more number."""
    csv.field_size_limit(2**24)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        next(lines)  # a remark
        table = csv.reader(lines)
        names = next(table)
        for row in table:
            yield dict(zip(names, row[len(row) - len(names) :], strict=True))


def _structure(row: dict[str, str]) -> Structure:
    """A crystal of a POSCAR: comment, scale, cell, symbols, counts, "direct", coordinates."""
    lines = row["poscar"].splitlines()
    scale, kind = float(lines[1]), lines[7].strip().lower()
    if scale != 1 or kind != "direct":
        raise ValueError(
            f"cells are in Å and coordinates in cells; {row['material_id']} has the scale {scale} "
            f"and {kind!r} coordinates; use the published file"
        )
    cell = np.array([line.split() for line in lines[2:5]], float)
    counts = [int(word) for word in lines[6].split()]
    species = np.repeat([atomic_number(word) for word in lines[5].split()], counts)
    inside = np.array([line.split()[:3] for line in lines[8 : 8 + sum(counts)]], float)
    targets: dict[str, object] = {
        name: spherical_of_symmetric(np.array(ast.literal_eval(row[column])))
        for name, column in COLUMNS.items()
    }
    targets |= {"n": float(row["n"]), "band_gap": float(row["band_gap"])}
    return Structure(
        inside @ cell,
        species,
        cell,
        (True, True, True),
        properties=Properties(targets=targets),
        info={"material_id": row["material_id"], "space_group": int(row["space_group"])},
    )
