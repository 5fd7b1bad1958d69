"""Training that begins with the parameters of a model: other data, another level of theory."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from geojax.datasets import average_energies
from geojax.graphs import Budget, Properties, Sample, Structure, pad
from geojax.model import Model
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training.samples import make_samples

__all__ = ["outputs_of", "shifted_E0s"]

BATCH = 16  # structures
ENOUGH = 1024  # structures, to fit a shift for each element


def outputs_of(model: Model, outputs: Sequence[Output] | None) -> tuple[Output, ...]:
    """The outputs of the model, with their scales; others are refused.

    Raises:
        ValueError: outputs are given that are not the model's.
    """
    if outputs is not None and tuple(outputs) != model.card.outputs:
        raise ValueError(
            "training that starts from a model keeps its outputs; they are "
            f"{', '.join(o.name for o in model.card.outputs)}; got "
            f"{', '.join(o.name for o in outputs)} with other settings; leave outputs out"
        )
    return model.card.outputs


def shifted_E0s(model: Model, structures: Sequence[Structure]) -> dict[int, float]:
    """The model's E0s, shifted by what explains best what the model leaves of these energies.

    Another level of theory has other energies of atoms, and what atoms do to each other is much the
    same. Least squares over the compositions (see `average_energies`); of shifts that fit equally
    well, as where all structures have one formula, the smallest. Without energies: no shift. Of
    large data some are read, spread evenly, and some with each element.
    """
    labelled = [structures[i] for i in _some_labelled(structures)]
    if not labelled:
        return dict(model.card.E0s)
    samples = make_samples({"train": labelled}, model.network, model.card, {"energy"})["train"]
    left = np.array([float(s.labels.energy) for s in samples]) - _energies(model, samples)
    others = [
        s.replace(properties=Properties(energy=float(e)))
        for s, e in zip(labelled, left, strict=True)
    ]
    shifts = average_energies(others, ridge=True).E0s
    return {z: model.card.E0s.get(z, 0.0) + shift for z, shift in shifts.items()}


def _some_labelled(structures: Sequence[Structure]) -> list[int]:
    """All that have an energy, or `ENOUGH` of them and the first ones with each element."""
    labelled: list[int] = []
    with_element: dict[int, list[int]] = defaultdict(list)
    for number, structure in enumerate(structures):
        if structure.properties.energy is None:
            continue
        labelled.append(number)
        for z in np.unique(structure.species):
            if len(with_element[int(z)]) < BATCH:
                with_element[int(z)].append(number)
    if len(labelled) <= ENOUGH:
        return labelled
    even = (labelled[i] for i in np.linspace(0, len(labelled) - 1, ENOUGH).round().astype(int))
    return sorted({*even, *(i for some in with_element.values() for i in some)})


def _energies(model: Model, samples: Sequence[Sample]) -> np.ndarray:
    """[eV] relative to the model's E0s."""
    largest = lambda sizes: sum(sorted(sizes)[-BATCH:])
    nodes = largest(int(s.graph.n_node[0]) for s in samples)
    edges = largest(int(s.graph.n_edge[0]) for s in samples)
    budget = Budget(nodes + 1, max(edges, 1), BATCH + 1)
    predict: Any = jax.jit(predict_fn(model.network, model.card.outputs))
    found = []
    for first in range(0, len(samples), BATCH):
        some = samples[first : first + BATCH]
        energy = predict(model.params, pad(some, budget, np.dtype("float32")).graph).energy
        found.append(np.asarray(energy, np.float64)[: len(some)])
    return np.concatenate(found)
