"""A model's compiled programs in one precision: predictions, and a probe of second derivatives.

Compilation is most of the time that a certificate takes. So there is one program for predictions,
of one budget, compiled as it is for any user, and all others are compiled with little optimisation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import (
    Budget,
    Graph,
    Properties,
    Sample,
    is_per_node,
    leaves,
    pad,
    pool,
    whole_hessian,
)
from geojax.model import Model
from geojax.potential import predict_fn

__all__ = ["Probe", "Programs", "Values", "round_up", "sizes"]

Values = dict[str, np.ndarray]  # the prediction for one structure, by the names of `graphs.leaves`

QUICK = {"xla_backend_optimization_level": 0}  # halves the time of compilation


class Probe(NamedTuple):
    """What `Programs.probe` finds of one structure.

    Attributes:
        values: what the model predicts, forces as the negative gradient.
        gradient: `[node, 3]`, of the weighted sum over structures of energies (else of outputs).
        directional: `[node, 3]`, the derivative of the gradient along the given vectors.
    """

    values: Values
    gradient: np.ndarray
    directional: np.ndarray


class Programs:
    """The programs of a model; every call is in the precision asked for, whatever the caller's.

    Args:
        dtype: "float64" or "float32"; the parameters are cast to it.
        budget: of the main program.
        small: of the probe.
        stress: whether stress is predicted, where there is an energy.
    """

    def __init__(self, model: Model, dtype: str, budget: Budget, small: Budget, *, stress: bool):
        self.model, self.dtype, self.stress = model, dtype, stress
        self.budget, self.small = budget, small

    @property
    def has_energy(self) -> bool:
        """Whether the model predicts an energy, so that forces are its derivative."""
        return any(output.name == "energy" for output in self.model.card.outputs)

    def evaluate(self, samples: Sequence[Sample], budget: Budget | None = None) -> list[Values]:
        """What the model predicts for each sample, packed into few batches of one budget."""
        found: list[Values] = []
        for group in _packed(samples, budget or self.budget):
            found += _split(group, self.run(group, budget or self.budget))
        return found

    def run(self, samples: Sequence[Sample], budget: Budget) -> dict[str, np.ndarray]:
        """What the model predicts for one batch, rows of padding included."""
        program = self._predict if budget == self.budget else self._predict_quick
        with self._precision():
            graph = pad(samples, budget, self.dtype).graph
            return _numpy(leaves(program(self._params, graph)))

    def probe(
        self,
        samples: Sequence[Sample],
        vectors: Sequence[np.ndarray],
        weights: Sequence[float],
    ) -> list[Probe]:
        """Predictions, gradients and second derivatives.

        Args:
            vectors: `[node, 3]` of each sample: the gradient is differentiated along them.
            weights: of each sample in the sum that is differentiated. Samples of different weights
                have to fit one batch.
        """
        found: list[Probe] = []
        for group in _packed(samples, self.small):
            own = slice(len(found), len(found) + len(group))
            found += self._run_probe(group, vectors[own], weights[own])
        return found

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """NaN is measured, not raised."""
        with jax.enable_x64(self.dtype == "float64"), jax.debug_nans(False):
            yield

    @cached_property
    def _params(self) -> Any:
        cast = lambda a: a.astype(self.dtype) if a.dtype.kind == "f" else a
        return jax.tree.map(lambda a: cast(np.asarray(a)), self.model.params)

    @cached_property
    def _function(self) -> Callable[[Any, Graph], Properties]:
        energy, outputs = self.has_energy, self.model.card.outputs
        stress = energy and self.stress
        return predict_fn(self.model.network, outputs, forces=energy, stress=stress)

    @cached_property
    def _predict(self) -> Callable[[Any, Graph], Properties]:
        return jax.jit(self._function)

    @cached_property
    def _predict_quick(self) -> Callable[[Any, Graph], Properties]:
        return jax.jit(self._function, compiler_options=QUICK)

    @cached_property
    def _probe(self) -> Callable[..., tuple[Any, Any, Any]]:
        predict = predict_fn(self.model.network, self.model.card.outputs)

        def probe(params, graph, weights, vectors):
            def total(positions):
                moved = graph._replace(nodes={**graph.nodes, "positions": positions})
                found = predict(params, moved)
                return jnp.sum(_sums(found, moved) * weights), leaves(found)

            gradient = jax.grad(total, has_aux=True)
            start = graph.nodes["positions"]
            (slope, found), (along, _) = jax.jvp(gradient, (start,), (vectors,))
            return found, slope, along

        return jax.jit(probe, compiler_options=QUICK)

    def _run_probe(
        self, samples: Sequence[Sample], vectors: Sequence[np.ndarray], weights: Sequence[float]
    ) -> list[Probe]:
        rows = np.concatenate(vectors)
        along = np.zeros((self.small.n_node, 3), self.dtype)
        along[: len(rows)] = rows
        weigh = np.zeros(self.small.n_graph, self.dtype)
        weigh[: len(samples)] = weights
        with self._precision():
            graph = pad(samples, self.small, self.dtype).graph
            out, slope, second = self._probe(self._params, graph, weigh, along)
            found, slope, second = _numpy(out), np.asarray(slope), np.asarray(second)
        if self.has_energy:
            found["forces"] = -slope.astype(np.float64)
        return [
            Probe(values, slope[own], second[own])
            for values, own in zip(_split(samples, found), _node_slices(samples), strict=True)
        ]


def sizes(samples: Sequence[Sample]) -> Budget:
    """What the samples need, padding counted."""
    nodes = sum(int(s.graph.n_node[0]) for s in samples) + 1
    return Budget(nodes, sum(int(s.graph.n_edge[0]) for s in samples), len(samples) + 1)


def round_up(n: int, multiple: int) -> int:
    """The next multiple."""
    return -(-n // multiple) * multiple


def _sums(found: Properties, graph: Graph) -> jax.Array:
    """One number per graph: the energy, else the sum of all outputs."""
    if found.energy is not None:
        return found.energy
    total = jnp.zeros(graph.n_node.shape[0], graph.nodes["positions"].dtype)
    for name, value in leaves(found._replace(hessian=None)).items():
        rows = value.reshape(value.shape[0], -1).sum(-1)
        total = total + (pool(rows[:, None], graph)[:, 0] if is_per_node(name) else rows)
    return total


def _packed(samples: Sequence[Sample], budget: Budget) -> Iterator[list[Sample]]:
    """The samples in order, as many at a time as fit."""
    group: list[Sample] = []
    for one in samples:
        need = sizes([*group, one])
        if group and any(n > have for n, have in zip(need, budget, strict=True)):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _node_slices(samples: Sequence[Sample]) -> list[slice]:
    ends = np.cumsum([0] + [int(s.graph.n_node[0]) for s in samples])
    return [slice(first, last) for first, last in zip(ends, ends[1:], strict=False)]


def _numpy(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _split(samples: Sequence[Sample], found: Mapping[str, np.ndarray]) -> list[Values]:
    """The rows of each sample; no stress without a cell. Hessians are those of structures."""
    split, in_rows = [], lambda name: is_per_node(name) or name == "hessian"
    for i, (one, own) in enumerate(zip(samples, _node_slices(samples), strict=True)):
        values = {n: np.asarray(v[own if in_rows(n) else i]) for n, v in found.items()}
        if "hessian" in values:
            values["hessian"] = np.ascontiguousarray(whole_hessian(values["hessian"]))
        if not one.graph.globals["cell"].any():
            values.pop("stress", None)
        split.append(values)
    return split
