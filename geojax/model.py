"""`Model`: a network, its parameters and its card. No verbs: they live in the engines."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from geojax.elements import atomic_number, symbol
from geojax.graphs import Properties, Structure, replace_leaves
from geojax.outputs import Output

__all__ = ["Card", "Model", "check_elements", "named", "references", "weights_hash"]


@dataclass(frozen=True)
class Card:
    """What has to be known of a model besides its numbers; written into every model file.

    Attributes:
        outputs: the meaning of the network's output, in order.
        E0s: energy [eV] of the isolated atom, by atomic number; added to every energy.
        elements: the atomic numbers that the model was trained on; others are refused.
        forces: whether forces were trained on, so that they are part of a prediction by default.
        stress: likewise.
        dtype: of the arithmetic, "float32" or "float64".
        data: what the model was trained on: name, counts, hashes, level of theory, licence.
        training: how: the experiment's tables, steps, seconds, versions, device.
        metrics: what was measured on which split, with units.
        certificate: what was measured of symmetry and physics (see `checks.certificate`).
        calibration: of an ensemble, by property: the factor of its standard deviations and what was
            measured (see `inference.calibration`).
    """

    name: str = "model"
    description: str = ""
    licence: str = ""
    outputs: tuple[Output, ...] = (Output(),)
    E0s: Mapping[int, float] = field(default_factory=dict)
    elements: tuple[int, ...] = ()
    forces: bool = False
    stress: bool = False
    dtype: str = "float32"
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """A network (code and configuration), its parameters and its card."""

    network: Any
    params: Any
    card: Card

    def replace_card(self, **changes: Any) -> "Model":
        """The same model with some entries of its card changed."""
        return replace(self, card=replace(self.card, **changes))


def named(params: Any) -> list[tuple[str, Any]]:
    """Parameters by path, "params/layer_0/kernel", in the order of the tree's leaves."""
    join = lambda path: "/".join(str(getattr(key, "key", key)) for key in path)
    return [(join(path), value) for path, value in jax.tree_util.tree_leaves_with_path(params)]


def weights_hash(params: Any) -> str:
    """sha256 [hex] of the parameters: names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    rows = jax.tree_util.tree_leaves_with_path(params)
    for name, value in sorted((jax.tree_util.keystr(path), np.asarray(v)) for path, v in rows):
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_elements(card: Card, structures: Sequence[Structure]) -> None:
    """Refuse elements that the model was not trained on.

    Raises:
        ValueError: names the structure, the elements, and those that are supported.
    """
    if not card.elements:
        return
    for number, structure in enumerate(structures):
        unknown = sorted(set(structure.species.tolist()) - set(card.elements))
        if unknown:
            raise ValueError(
                f"a model predicts the elements that it was trained on; structure {number} holds "
                f"{', '.join(symbol(z) for z in unknown)} and {card.name!r} supports "
                f"{', '.join(symbol(z) for z in card.elements)}"
            )


def references(card: Card, structure: Structure) -> Properties:
    """What is subtracted from labels before training and added to predictions, in float64.

    The sum of E0s for an energy, of atomrefs for a target; the node input that an output is
    `relative_to`.

    Raises:
        ValueError: an element has no E0, or no atomref.
    """
    found: dict[str, Any] = {}
    for output in card.outputs:
        if output.name == "energy" and card.E0s:
            own = _of_atoms(card.E0s, structure, "every element needs its E0 [eV]", "E0s")
            found |= {"energy": own.sum(), "energies": own}
        if output.atomrefs:
            table = {atomic_number(key): value for key, value in output.atomrefs.items()}
            rule = f"every element needs its share of {output.name}"
            found[output.name] = _of_atoms(table, structure, rule, "atomrefs").sum()
        if output.relative_to == "positions":
            found[output.name] = structure.positions.astype(np.float64)
        elif output.relative_to:
            found[output.name] = structure.inputs[output.relative_to]
    return replace_leaves(Properties(), found)


def _of_atoms(
    table: Mapping[int, float], structure: Structure, rule: str, name: str
) -> Float[np.ndarray, "node"]:
    missing = sorted(set(structure.species.tolist()) - set(table))
    if missing:
        raise ValueError(
            f"{rule}; there is none for Z = {missing}; {name} are given for Z = {sorted(table)}"
        )
    return np.array([table[int(z)] for z in structure.species], np.float64)
