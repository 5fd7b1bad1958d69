"""Scales, shifts and shares of elements that outputs start from, set from the training labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geojax.datasets import Dataset, average_atomrefs
from geojax.graphs import Sample, leaf
from geojax.outputs import Output
from geojax.training.terms import DESCRIPTORS, VIEWS, Term

__all__ = ["normalised", "with_atomrefs"]

NOTHING = 1e-8  # a smaller scale is rounding


def with_atomrefs(outputs: Sequence[Output], data: Dataset) -> tuple[Output, ...]:
    """Summed targets of atoms that have no normalisation yet, with the shares of the elements."""

    def completed(output: Output) -> Output:
        kind, _, target = output.name.partition(".")
        plain = _is_plain(output) and not output.atomrefs
        if not (kind == "targets" and output.is_summed and plain):
            return output
        labelled = any(target in s.properties.targets for s in data.train)
        if not labelled or not all(s.species.all() for s in data.train):
            return output
        return replace(output, atomrefs=average_atomrefs(data.train, target))

    return tuple(completed(output) for output in outputs)


def normalised(
    outputs: Sequence[Output], terms: Sequence[Term], train: Sequence[Sample]
) -> tuple[Output, ...]:
    """Scales and shifts from the training labels, for outputs that have none.

    An energy: the root mean square of the force components (or of the energy per atom where there
    are no forces), and the mean energy per atom above E0. A summed target with atomrefs: the root
    mean square of what is left per atom. A Hessian: the root mean square of its entries. Vectors,
    tensors and norms: their root mean square. Others: standard deviation and mean.
    """
    kinds = {term.property: term.kind for term in terms}
    result = []
    for output in outputs:
        values = [leaf(s.labels, output.name) for s in train]
        known = [np.asarray(v, np.float64) for v in values if v is not None]
        skip = not _is_plain(output) or not known or output.relative_to or output.rotation
        if skip or kinds.get(output.name) in ("cross-entropy", *DESCRIPTORS, *VIEWS):
            result.append(output)
        elif output.name == "energy":
            above = _per_atom(output.name, train)
            forces = [s.labels.forces for s in train if s.labels.forces is not None]
            spread = np.concatenate(forces) if forces else above - above.mean()
            result.append(replace(output, scale=_rms(spread), shift=float(above.mean())))
        elif output.atomrefs:
            result.append(replace(output, scale=_rms(_per_atom(output.name, train))))
        else:
            every = np.concatenate([v.reshape(-1) for v in known])
            centre = every.mean() if output.is_scalar and not output.norm else 0.0
            result.append(replace(output, scale=_rms(every - centre), shift=float(centre)))
    return tuple(result)


def _per_atom(name: str, train: Sequence[Sample]) -> np.ndarray:
    known = [s for s in train if leaf(s.labels, name) is not None]
    return np.array([float(leaf(s.labels, name)) / len(s.graph.nodes["species"]) for s in known])


def _rms(values: np.ndarray) -> float:
    found = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return found if found > NOTHING else 1.0


def _is_plain(output: Output) -> bool:
    return output.scale == 1.0 and output.shift == 0.0
