"""`Ensemble`: several models of one network; their mean, and by how much they disagree.

All members are evaluated by one program, vmapped over their parameters. A prediction is the mean
(energies, forces and stress stay derivatives of one energy, the mean one), and each property has
the unbiased standard deviation of the members beside it, with the same unit and shape, among the
targets: "targets.energy_std", "targets.stress_std", "node_targets.forces_std", … (`std_name`).

References:
    Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation
    using deep ensembles", 2017. Musil et al., J. Chem. Theory Comput. 15, 906 (2019).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from geojax.deviations import check_std_names, mean_and_std
from geojax.graphs import Graph, Properties
from geojax.inference.engine import Engine, calibration_factors, deviating, make_engine
from geojax.model import Card, Model

__all__ = ["Ensemble", "over_members", "unstacked"]

COMMON = ("outputs", "E0s", "elements", "forces", "stress", "dtype")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models that differ in nothing but their parameters; predicts like one `Model`.

    Attributes:
        models: two or more.
        card: of the ensemble; by default the first member's, without what was measured of that
            member. Its `calibration` multiplies the standard deviations.

    Raises:
        TypeError: a member is no `Model`.
        ValueError: fewer than two; members of different networks, outputs, E0s, elements, trained
            derivatives or precision (the difference is named); outputs whose mean is none of them,
            as rotations; outputs whose standard deviations would have one name, or of a
            shallow ensemble.
    """

    models: Sequence[Model]
    card: Card = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        object.__setattr__(self, "models", tuple(self.models))
        _check(self.models)
        if self.card is None:
            alone = {"metrics": {}, "certificate": {}, "training": {}, "calibration": {}}
            object.__setattr__(self, "card", replace(self.models[0].card, **alone))
        _check_alike("the ensemble", self.card, self.models[0].card)
        calibration_factors(self.card, every=True)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def network(self) -> Any:
        """The one that all members have."""
        return self.models[0].network

    @property
    def factors(self) -> dict[str, float]:
        """See `calibration_factors`."""
        return calibration_factors(self.card, every=True)

    @property
    def params(self) -> Any:
        """Those of all members, on a leading axis."""
        return jax.tree.map(lambda *x: np.stack(x), *(model.params for model in self.models))

    @cached_property
    def engine(self) -> Engine:
        """What predicts."""
        return make_engine(self.network, self.params, self.card, over_members)

    def replace_card(self, **changes: Any) -> "Ensemble":
        """The same ensemble with some entries of its card changed."""
        return Ensemble(self.models, replace(self.card, **changes))


def unstacked(model: Model, count: int) -> Ensemble:
    """The ensemble whose network, card and `params` a model holds."""
    card = replace(model.card, calibration={})
    rows = [jax.tree.map(lambda x, i=i: np.asarray(x)[i], model.params) for i in range(count)]
    return Ensemble([Model(model.network, params, card) for params in rows], model.card)


def over_members(
    run: Callable[[Any, Graph], Properties],
) -> Callable[[Any, Graph], Properties]:
    """From a function of one model to that of stacked parameters, with standard deviations."""
    return lambda params, graph: mean_and_std(jax.vmap(run, (0, None))(params, graph))


def _check(models: Sequence[Model]) -> None:
    for number, model in enumerate(models):
        if not isinstance(model, Model):
            raise TypeError(
                f"an ensemble is made of models; member {number} is a {type(model).__name__}; "
                "geojax.load and geojax.train make models"
            )
    if len(models) < 2:
        raise ValueError(
            f"members disagree where there are two or more; got {len(models)}; train more seeds"
        )
    first = models[0]
    for number, model in enumerate(models[1:], 1):
        if different := _different_fields(first.network, model.network):
            raise ValueError(
                f"the members of an ensemble have one network; that of member {number} differs "
                f"from that of member 0 in {different}"
            )
        _check_alike(f"member {number}", model.card, first.card)
        shapes = [jax.tree.map(np.shape, m.params) for m in (first, model)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "the members of an ensemble have parameters of the same shapes; those of member "
                f"{number} are others than those of member 0; were they trained on other inputs?"
            )
    _check_outputs(first.card)


def _different_fields(first: Any, other: Any) -> str:
    """The names and values of fields that differ, or the classes."""
    if type(first) is not type(other):
        return f"its kind: {type(other).__name__}, {type(first).__name__}"
    names = [f.name for f in fields(first) if f.name not in ("parent", "name")]
    values = [(name, getattr(other, name), getattr(first, name)) for name in names]
    return "; ".join(f"{name}: {mine}, {its}" for name, mine, its in values if mine != its)


def _check_alike(who: str, card: Card, first: Card) -> None:
    for name in COMMON:
        mine, its = getattr(card, name), getattr(first, name)
        if mine != its:
            raise ValueError(
                f"the members of an ensemble have the same {name}; {who} has {mine}, member 0 has "
                f"{its}; train them on the same data, with the same E0s and normalisation (see "
                "the argument resample of geojax.train)"
            )


def _check_outputs(card: Card) -> None:
    for output in card.outputs:
        if output.members > 1:
            raise ValueError(
                "the members of an ensemble have one opinion each; those of "
                f"{output.name!r} are shallow ensembles of {output.members}; use one of them"
            )
        if output.rotation:
            raise ValueError(
                f"the mean of rotations is no rotation; {output.name!r} is one; use one of the "
                "members"
            )
    check_std_names(deviating(card, every=True))
