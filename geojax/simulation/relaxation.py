"""Structures at rest: positions, and the cell where asked, by ASE's optimizers."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geojax.datasets import from_ase
from geojax.datasets.formats import append
from geojax.graphs import Properties
from geojax.registry import did_you_mean
from geojax.units import PRESSURE

__all__ = ["Relaxation", "relax"]

OPTIMIZERS = {"lbfgs": "LBFGS", "bfgs": "BFGS", "fire": "FIRE"}


class Relaxation(NamedTuple):
    """How it ended.

    Attributes:
        converged: whether the largest force is below the limit.
        steps: how many were taken.
        properties: energy and forces there, and the stress of a relaxed cell.
    """

    converged: bool
    steps: int
    properties: Properties

    @property
    def energy(self) -> float:
        """[eV]."""
        return float(np.asarray(self.properties.energy))

    @property
    def force(self) -> float:
        """[eV/Å], the largest."""
        return float(np.linalg.norm(np.asarray(self.properties.forces), axis=1).max())

    @property
    def pressure(self) -> float | None:
        """[GPa]; None unless the cell was relaxed."""
        if self.properties.stress is None:
            return None
        return -float(np.trace(self.properties.stress)) / 3 / PRESSURE["GPa"]


def relax(
    atoms: Any,
    *,
    force: float = 0.01,
    cell: bool = False,
    pressure: float = 0.0,
    steps: int = 1000,
    optimizer: str = "lbfgs",
    trajectory: str | Path | None = None,
) -> Relaxation:
    """Move atoms to a minimum of the energy, or of the enthalpy where the cell may change.

    Args:
        atoms: ASE's, with a calculator; moved in place.
        force: [eV/Å], the largest that is left on an atom. Where the cell moves, stress counts as
            ASE's `FrechetCellFilter` makes a force of it.
        cell: whether the cell is relaxed too.
        pressure: [GPa] on the cell.
        steps: at most.
        optimizer: "lbfgs", "bfgs" or "fire".
        trajectory: an extended-xyz file to which each step is added.

    Raises:
        ImportError: ase is not installed.
        KeyError: another optimizer.
        ValueError: a cell that is to be relaxed and is none, a pressure without it, or a force or
            a number of steps that is not positive.
    """
    try:
        import ase.optimize
        from ase.filters import FrechetCellFilter
    except ImportError as error:
        raise ImportError("relaxation runs in ASE; pip install 'geojax[atoms]'") from error
    if optimizer not in OPTIMIZERS:
        raise KeyError(f"no optimizer {optimizer!r}; {did_you_mean(optimizer, OPTIMIZERS)}")
    if force <= 0 or steps < 1:
        raise ValueError(f"force and steps are positive; got force={force}, steps={steps}")
    if cell and not all(atoms.pbc):
        raise ValueError(
            f"a cell is relaxed that is periodic in three directions; got pbc={list(atoms.pbc)}; "
            "leave cell=False"
        )
    if pressure and not cell:
        raise ValueError(f"pressure={pressure} GPa acts on a cell; give cell=True")
    what = atoms
    if cell:
        what = FrechetCellFilter(atoms, scalar_pressure=pressure * PRESSURE["GPa"])
    search = getattr(ase.optimize, OPTIMIZERS[optimizer])(what, logfile=None)
    if trajectory is not None:
        search.attach(lambda: append(trajectory, from_ase(atoms, labels=False), _found(atoms)))
    converged = bool(search.run(fmax=force, steps=steps))
    found = _found(atoms)
    if cell:
        found = found._replace(stress=atoms.get_stress(voigt=False))
    return Relaxation(converged, search.get_number_of_steps(), found)


def _found(atoms: Any) -> Properties:
    return Properties(
        energy=np.array(atoms.get_potential_energy()), forces=np.array(atoms.get_forces())
    )
