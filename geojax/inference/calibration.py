"""Calibration: factors that make the standard deviations of an ensemble those of its errors.

With residuals r = label - mean and deviations s, labels are taken as normal with the deviation a s.
The likelihood is largest at a² = mean((r / s)²), where the standardised residuals r / (a s) have
unit variance. The miscalibration area is ∫₀¹ |F(p) - p| dp, where F(p) is the fraction of labels
inside the central interval of probability p: 0 is exact, 1/2 the worst.

References:
    Musil et al., J. Chem. Theory Comput. 15, 906 (2019). Tran et al., Mach. Learn.: Sci. Technol.
    1, 025006 (2020).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.deviations import std_name
from geojax.graphs import Structure, leaf, leaves
from geojax.inference.engine import engine_of
from geojax.inference.ensemble import Ensemble
from geojax.inference.predictor import predict
from geojax.model import Model

__all__ = ["Calibration", "Scale", "calibrate", "likelihood_scale", "miscalibration_area"]

SMALLEST = 1e-6  # of the root mean square deviation; below it is zero by symmetry, to rounding


class Scale(NamedTuple):
    """The factor of the deviations of one property, and what it does to held-out labels.

    Attributes:
        factor: a; above 1 the ensemble is too sure of itself.
        count: labels, component by component.
        nll: mean negative log-likelihood of a label, before and after, with the logarithm of the
            property's unit.
        area: miscalibration area, before and after.
    """

    factor: float
    count: int
    nll: tuple[float, float]
    area: tuple[float, float]


class Calibration(NamedTuple):
    """The scales of all labelled properties.

    Attributes:
        scales: by property.
    """

    scales: dict[str, Scale]

    def record(self) -> dict[str, Any]:
        """For the card: `ensemble.replace_card(calibration=calibration.record())` applies it."""
        return {
            name: {
                "factor": scale.factor,
                "count": scale.count,
                "nll": list(scale.nll),
                "area": list(scale.area),
            }
            for name, scale in self.scales.items()
        }


def calibrate(ensemble: Ensemble | Model, structures: Sequence[Structure]) -> Calibration:
    """The scales of the ensemble's standard deviations, from labels that no member was trained on.

    An earlier calibration is left aside. Labels of zero deviation (those that symmetry fixes) are
    left out.

    Args:
        ensemble: of models, or a model with a shallow ensemble.

    Raises:
        TypeError: a model without deviations.
        ValueError: there are no labels of predicted properties, they have another shape, all
            members agree, or nothing is wrong with them.
    """
    known = set(engine_of(ensemble).deviations)
    if not known:
        raise TypeError(
            f"deviations are those of an ensemble; {ensemble.card.name!r} is one model; train "
            "several seeds, or an output with members"
        )
    labelled = {name for s in structures for name in _labels(s)}
    if not labelled & known:
        raise ValueError(
            f"a calibration needs labels of {', '.join(sorted(known))}; the {len(structures)} "
            f"structures have {', '.join(sorted(labelled)) or 'none'}"
        )
    found = _residuals(ensemble.replace_card(calibration={}), structures, known)
    return Calibration({name: _scale(name, *found[name]) for name in sorted(found)})


def likelihood_scale(
    residuals: Float[np.ndarray, "label"], deviations: Float[np.ndarray, "label"]
) -> float:
    """The factor of the deviations that makes the residuals most likely."""
    return float(np.sqrt(np.mean(np.square(residuals / deviations))))


def miscalibration_area(
    residuals: Float[np.ndarray, "label"], deviations: Float[np.ndarray, "label"]
) -> float:
    """∫₀¹ |F(p) - p| dp; F(p) is the fraction of labels in the central interval of probability p.

    Exact: F is a step function, and between two steps |F - p| has at most one kink.
    """
    from scipy.special import erf  # here: whoever predicts needs none of it

    inside = np.sort(erf(np.abs(residuals / deviations) / np.sqrt(2)))
    ends = np.concatenate([[0.0], inside, [1.0]])
    level = np.arange(len(inside) + 1) / len(inside)
    primitive = lambda p: np.sign(p - level) * np.square(p - level) / 2
    return float(np.sum(primitive(ends[1:]) - primitive(ends[:-1])))


def _labels(structure: Structure) -> tuple[str, ...]:
    """The names of labels that are real numbers; classes have no standard deviation."""
    named = leaves(structure.properties).items()
    return tuple(name for name, value in named if np.asarray(value).dtype.kind == "f")


def _residuals(
    ensemble: Ensemble | Model, structures: Sequence[Structure], known: AbstractSet[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Residuals and standard deviations of all labels, by property."""
    groups: dict[tuple[str, ...], list[Structure]] = {}  # stress is asked for where it is labelled
    for s in structures:
        if names := tuple(name for name in _labels(s) if name in known):
            groups.setdefault(names, []).append(s)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for names, alike in groups.items():
        wanted = [*names, *(std_name(name) for name in names)]
        values = predict(ensemble, alike, wanted)
        for i, name in product(range(len(alike)), names):
            mean, label = leaf(values[i], name), leaf(alike[i].properties, name)
            if np.size(mean) != np.size(label):
                raise ValueError(
                    f"labels have the shape of predictions; those of {name} have "
                    f"{np.shape(label)} and {np.shape(mean)}; look at the model's outputs"
                )
            residual = np.ravel(label) - np.ravel(mean)
            parts.setdefault(name, []).append((residual, np.ravel(leaf(values[i], std_name(name)))))
    join = lambda rows, k: np.concatenate([row[k] for row in rows])
    return {name: (join(rows, 0), join(rows, 1)) for name, rows in parts.items()}


def _scale(name: str, residuals: np.ndarray, deviations: np.ndarray) -> Scale:
    free = deviations > SMALLEST * np.sqrt(np.mean(np.square(deviations)))
    if not free.any():
        raise ValueError(
            f"a calibration needs members that disagree; all of them predict the same {name}; are "
            "they one model?"
        )
    r, s = residuals[free], deviations[free]
    factor = likelihood_scale(r, s)
    if not factor > 0:
        raise ValueError(
            f"a calibration needs errors; every label of {name} is the prediction itself; take "
            "labels of the reference method"
        )
    both = (s, factor * s)
    nll = [np.mean(np.log(2 * np.pi * d**2) + np.square(r / d)) / 2 for d in both]
    area = [miscalibration_area(r, d) for d in both]
    pair = lambda x: (float(x[0]), float(x[1]))
    return Scale(factor, int(free.sum()), pair(nll), pair(area))
