"""`Term`: what is minimised of one property, with which weight; terms from a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.graphs import Properties, leaf
from geojax.outputs import Output
from geojax.registry import Registry, did_you_mean

__all__ = [
    "DESCRIPTORS",
    "DEVIATIONS",
    "LOSSES",
    "VIEWS",
    "Term",
    "check_deviations",
    "sum_name",
    "terms_from_table",
    "weight_at",
]

Schedule = float | int | tuple[tuple[float | int, float | int], ...]
LOSSES: Registry[Callable[..., Array]] = Registry("loss")  # see `losses`
DESCRIPTORS = ("circle", "info-nce", "directions", "agreement", "sinkhorn", "ume")
DEVIATIONS = ("nll", "crps")
VIEWS = ("contrastive", "vicreg", "care", "sie")


@dataclass(frozen=True)
class Term:
    """One term of the loss.

    Attributes:
        property: as in `graphs.leaves`: "energy", "forces", "targets.mu", …
        weight: a number, or (epoch, weight) pairs, linear in between and constant outside.
        kind: a name in `LOSSES`.
        per_atom: the error of a structure is divided by its number of atoms (an energy, usually).
        delta: where "huber" turns from square to linear, in the property's unit.
        pairs: how many of the lowest eigenpairs "eigenpairs" compares.
        radius: of descriptors: points so near are the same place, in the unit of the positions.
        far: of descriptors: points farther apart than this are not; twice the radius by default.
        dustbin: of "sinkhorn": the score of a point that stays alone.
        ball: of "ume": the radius of balls; six times `radius` by default.
        irreps: of one embedding, for "sie".
        floor: of "nll" and "crps", in the property's unit: added in square to the deviation, so
            that a label that symmetry fixes has a likelihood.
    """

    property: str
    weight: Schedule = 1.0
    kind: str = "mse"
    per_atom: bool = False
    delta: float = 0.01
    pairs: int = 8
    radius: float = 0.05
    far: float | None = None
    dustbin: float = 1.0
    ball: float | None = None
    irreps: str = ""
    floor: float = 1e-3

    def __post_init__(self):
        LOSSES[self.kind]
        leaf(Properties(), self.property)
        if self.kind in DESCRIPTORS and not (
            self.property.startswith("node_targets.") and 0 < self.radius <= (self.far or math.inf)
        ):
            raise ValueError(
                f"{self.kind} compares descriptors of points, node_targets, and 0 < radius <= far; "
                f"got {self.property!r}, radius={self.radius}, far={self.far}"
            )
        if not self.floor > 0:
            raise ValueError(f"a deviation has a positive floor; got floor={self.floor}")
        if self.ball is not None and not self.ball > 0:
            raise ValueError(f"a ball has a positive radius; got ball={self.ball}")
        if self.kind in VIEWS and not (
            self.property.startswith("targets.") and bool(self.irreps) == (self.kind == "sie")
        ):
            raise ValueError(
                f"{self.kind} compares embeddings of two views, targets, by their irreps where it "
                f"is sie; got {self.property!r}, irreps={self.irreps!r}"
            )
        if self.kind == "eigenpairs" and (self.property != "hessian" or self.pairs < 1):
            raise ValueError(
                "eigenpairs are those of a Hessian, one or more; got the property "
                f"{self.property!r} and pairs={self.pairs}; take another kind, or loss.hessian"
            )


def sum_name(term: Term) -> str:
    """Its name among the sums: the property's; that of eigenpairs may stand beside it."""
    return term.property + ".eigenpairs" * (term.kind == "eigenpairs")


def check_deviations(terms: Sequence[Term], outputs: Sequence[Output]) -> None:
    """Refuse a likelihood of what has no deviation, and deviations that nothing teaches.

    Raises:
        ValueError: a term of the loss is one, or an output has others.
    """
    taught = {term.property for term in terms if term.kind in DEVIATIONS}
    known: set[str] = set()
    for output in outputs:
        if output.members == 1:
            continue
        own = {output.name, *(("energies", "forces", "stress") if output.name == "energy" else ())}
        if not taught & own:
            raise ValueError(
                "the members of a shallow ensemble learn to differ by a likelihood; "
                f"{output.name!r} has {output.members} members and no term of the loss is of kind "
                f"{' or '.join(DEVIATIONS)}; give loss.{output.name} that kind"
            )
        known |= own
    if unknown := sorted(taught - known):
        raise ValueError(
            f"a loss of kind {' or '.join(DEVIATIONS)} needs a standard deviation; "
            f"{', '.join(unknown)} has none; give its output members = 16, say, and the network as "
            "many numbers"
        )


def terms_from_table(table: Mapping[str, Any]) -> tuple[Term, ...]:
    """Terms from a TOML table: property -> weight, or property -> {weight, kind, …}.

    `energy` is per atom unless the table says otherwise. A list of such tables makes several terms
    of one property: hessian = [{kind = "mae"}, {kind = "eigenpairs", weight = 0.1}].

    Raises:
        KeyError: an unknown property, kind or key.
        ValueError: no term, or two of one property that are not told apart.
    """
    if not table:
        raise ValueError("a loss has at least one term; got none; add loss.energy = 1.0, say")
    terms = []
    for name, value in _entries(table):
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        known = [f.name for f in fields(Term) if f.name != "property"]
        for key in options:
            if key not in known:
                raise KeyError(f"loss.{name} has no {key!r}; {did_you_mean(key, known)}")
        if isinstance(options.get("weight"), list):
            options["weight"] = tuple(tuple(pair) for pair in options["weight"])
        options.setdefault("per_atom", name == "energy")
        terms.append(Term(name, **options))
        if sum_name(terms[-1]) in {sum_name(term) for term in terms[:-1]}:
            raise ValueError(
                f"a property has one term, and one of eigenpairs beside it; got two of {name!r}; "
                "take one of them out"
            )
    return tuple(terms)


def _entries(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values; those of a list of tables one by one."""
    found = []
    for name, value in table.items():
        several = isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
        found += [(name, v) for v in value] if several else [(name, value)]
    return found


def weight_at(weight: Schedule, epoch: Float[Array, ""]) -> Float[Array, ""]:
    """The weight at a (fractional) epoch."""
    if isinstance(weight, tuple):
        epochs, weights = (jnp.asarray(column, epoch.dtype) for column in zip(*weight, strict=True))
        return jnp.interp(epoch, epochs, weights)
    return jnp.asarray(weight, epoch.dtype)
