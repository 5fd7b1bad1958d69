"""A full ASE calculator around a model or an exported file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from geojax.datasets import from_ase
from geojax.deviations import std_name
from geojax.graphs import Edges, Structure, leaf, neighbor_list
from geojax.inference.predictor import Predictor

__all__ = ["Calculator", "calculator"]


class Calculator(AseCalculator):
    """Energy, free_energy, energies, forces [eV/Å] and, in three periodic directions, stress.

    Stress is (1/V) dE/dstrain [eV/Å³], tension positive, in Voigt order xx yy zz yz xz xy. One
    evaluation serves everything. The neighbour list reaches `skin` beyond the cutoff and is made
    again once an atom has moved half of that; longer edges contribute exactly nothing.

    An ensemble has further results, the standard deviations of its members in the units and shapes
    of the others: energy_std, energies_std, forces_std and stress_std. Those of forces and stress
    are computed where they are asked for if the ensemble is a shallow one, whose forces are cheap
    and whose deviations of forces are not.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        skin: [Å]; zero makes the list anew each time.
        inputs: input of the network -> name in `atoms.arrays`, or of one number in `atoms.info`,
            such as {"charge": "charge"}.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, model: Any, *, skin: float = 0.5, inputs: Mapping[str, str] | None = None):
        super().__init__()
        self.predictor = Predictor(model)
        if not any(output.name == "energy" for output in self.predictor.card.outputs):
            raise ValueError(
                f"a calculator needs an energy; {self.predictor.card.name!r} predicts "
                f"{', '.join(output.name for output in self.predictor.card.outputs)}"
            )
        if self.predictor.engine.deviations:
            more = [f"{name}_std" for name in self.implemented_properties if name != "free_energy"]
            self.implemented_properties = [*self.implemented_properties, *more]
        self.skin = 0.0 if self.predictor.engine.nearest is not None else skin
        self.inputs = dict(inputs or {})
        self._listed: tuple[Structure, Edges] | None = None

    def check_state(self, atoms, tol=1e-15) -> list[str]:
        """ASE's hook: what changed since the last evaluation; the inputs count too."""
        changes = super().check_state(atoms, tol)
        known = lambda a, key: a.arrays.get(key, a.info.get(key))
        for key in self.inputs.values() if self.atoms is not None else ():
            if not np.array_equal(known(atoms, key), known(self.atoms, key)):
                changes.append(key)
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """ASE's hook.

        Raises:
            ValueError: unknown elements, structures that cannot be, predictions that are not
            finite.
        """
        super().calculate(atoms, properties, system_changes)
        structure = from_ase(self.atoms, labels=False, inputs=self.inputs)
        solid = all(structure.pbc) and structure.cell is not None
        wanted = ("energy", "energies", "forces", *(["stress"] if solid else []))
        deviations = self._deviations(wanted, properties)
        edges = self.edges(structure)
        found = self.predictor.with_edges(structure, edges, (*wanted, *deviations))
        self.results = {
            "energy": float(found.energy),
            "free_energy": float(found.energy),
            "energies": np.array(found.energies),
            "forces": np.array(found.forces),
        }
        if solid:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
        for name in deviations:
            key, value = name.rpartition(".")[2], np.array(leaf(found, name))[()]
            self.results[key] = full_3x3_to_voigt_6_stress(value) if key == "stress_std" else value

    def _deviations(self, wanted: Sequence[str], properties: Sequence[str]) -> list[str]:
        """All, or of a shallow ensemble those that cost nothing and those asked for."""
        engine = self.predictor.engine
        shallow = any(output.members > 1 for output in engine.card.outputs)
        dear = {"forces", "stress"} if shallow else set()
        if {f"{name}_std" for name in dear} & set(properties):
            dear = set()
        return [std_name(n) for n in wanted if n in engine.deviations and n not in dear]

    def edges(self, structure: Structure) -> Edges:
        """Edges within cutoff and skin, kept while they are still complete."""
        engine = self.predictor.engine
        if self._listed is not None and _near(self._listed[0], structure, self.skin / 2):
            return self._listed[1]
        edges = neighbor_list(structure, engine.cutoff + self.skin, nearest=engine.nearest)
        self._listed = structure, edges
        return edges


def _near(old: Structure, new: Structure, distance: float) -> bool:
    """Whether no atom has moved that far and nothing else has changed."""
    same = (
        old.pbc == new.pbc
        and np.array_equal(old.species, new.species)
        and (old.cell is None) == (new.cell is None)
        and (old.cell is None or new.cell is None or np.array_equal(old.cell, new.cell))
    )
    if not same:
        return False
    moved = np.linalg.norm(new.positions - old.positions, axis=1)
    return bool(moved.max() < distance)


def calculator(
    model: Any, *, skin: float = 0.5, inputs: Mapping[str, str] | None = None
) -> Calculator:
    """An ASE calculator; see `Calculator`."""
    return Calculator(model, skin=skin, inputs=inputs)
