"""Atoms of every kind of boundary, and springs that make a quick potential of them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from geojax.model import Model
from tests.inference.conftest import CELL
from tests.inference.test_elasticity import Mixed, springs

jax_md = pytest.importorskip("jax_md", reason="an extra of its own: pip install 'geojax[jax-md]'")


class Wide(Mixed):
    """Springs that reach further than the small cells here."""

    cutoff = 3.0


def model() -> Model:
    return springs(Wide())


def tiny() -> Atoms:
    """One atom in a cell lower than the cutoff."""
    return bulk("Si", "fcc", a=2.9)


def triclinic(pbc=True) -> Atoms:
    """Four atoms; some are outside of the cell."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.5, 1.5, (4, 3)) @ CELL
    return Atoms("SiOSiO", places, cell=CELL, pbc=pbc)


def free() -> Atoms:
    rng = np.random.default_rng(1)
    return Atoms("SiOSiOO", rng.uniform(0, 3.2, (5, 3)))


def crystal() -> Atoms:
    """At rest, springs between nearest neighbours of distance one."""
    return bulk("Si", "fcc", a=np.sqrt(2), cubic=True)


ATOMS = {
    "one atom": tiny,
    "triclinic": triclinic,
    "slab": lambda: triclinic((True, False, True)),
    "molecule": free,
}
CASES = [(kind, False) for kind in ATOMS] + [(kind, True) for kind in ATOMS if kind != "molecule"]
