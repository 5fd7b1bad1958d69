"""What a check works with: a compiled model, structures to try it on, and how a figure is judged.

A check is a function `check(context) -> Measurement | None` in the registry `CHECKS` (None: it does
not apply to this model or precision). Compilation is most of the time, so all checks of one
precision share two programs: predictions in one budget, and a probe with second derivatives in a
smaller one.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irreps

from geojax.checks import examples
from geojax.graphs import (
    Budget,
    Graph,
    Properties,
    Sample,
    Structure,
    is_per_node,
    leaves,
    pad,
    sample,
)
from geojax.model import Model
from geojax.potential import pool, predict_fn
from geojax.registry import Registry

__all__ = ["CHECKS", "Context", "Measurement", "Probe", "Values", "difference", "make_context"]

Values = dict[str, np.ndarray]  # the prediction for one structure, by the names of `graphs.leaves`


@dataclass(frozen=True)
class Measurement:
    """One figure of a model.

    Attributes:
        name: of the check, as in `CHECKS`.
        figure: the entry of the acceptance list that it belongs to, "A1" to "A28".
        value: what was measured; infinite where it was not a number.
        limit: the largest value that passes.
        passed: `value <= limit`.
        detail: what the value is; where it failed, first what that means and where to look.
        unit: of value and limit; "relative" is relative to the largest absolute reference value.
        dtype: of the arithmetic.
    """

    name: str
    figure: str
    value: float
    limit: float
    passed: bool
    detail: str
    unit: str
    dtype: str


class Probe(NamedTuple):
    """What `Context.probe` finds of one structure.

    Attributes:
        values: what the model predicts, forces as the negative gradient.
        gradient: `[node, 3]`, of the weighted sum over structures of energies (else of outputs).
        directional: `[node, 3]`, the derivative of the gradient along the given vectors.
    """

    values: Values
    gradient: np.ndarray
    directional: np.ndarray


class Context:
    """A model in one precision, and the structures that it is measured on.

    Attributes:
        model: as given; its parameters are cast to `dtype` for the measurement.
        examples: by name; generated ones first, then the given.
        species: the atomic numbers that examples are made of.
        dtype: "float64" or "float32".
        seed: of all random numbers.
    """

    def __init__(
        self,
        model: Model,
        structures: Mapping[str, Structure],
        *,
        species: Sequence[int],
        dtype: str,
        seed: int,
    ):
        self.model, self.examples, self.species = model, dict(structures), tuple(species)
        self.dtype, self.seed = dtype, seed

    # What the model is

    @property
    def cutoff(self) -> float:
        """[Å]; may be infinite."""
        return float(self.model.network.cutoff)

    @property
    def nearest(self) -> int | None:
        """How many nearest senders a node listens to, for networks on such graphs."""
        return getattr(self.model.network, "nearest", None)

    @property
    def has_energy(self) -> bool:
        return any(output.name == "energy" for output in self.model.card.outputs)

    @property
    def local(self) -> bool:
        """Whether the cutoff is a finite radius, so that structures may repeat or be far apart."""
        return math.isfinite(self.cutoff) and self.nearest is None

    @property
    def double(self) -> bool:
        """Whether this precision resolves finite differences."""
        return self.dtype == "float64"

    @property
    def periodic(self) -> dict[str, Structure]:
        return {name: s for name, s in self.examples.items() if any(s.pbc)}

    @property
    def generated(self) -> dict[str, Structure]:
        """The examples that were not given: small, without labels."""
        return {n: s for n, s in self.examples.items() if not n.startswith(GIVEN)}

    @cached_property
    def irreps(self) -> dict[str, Irreps]:
        """The symmetry of every predicted value but the stress, by its name."""
        found = {o.name: Irreps(o.irreps) for o in self.model.card.outputs}
        if self.has_energy:
            found |= {"energies": Irreps("0e"), "forces": Irreps("1o")}
        return found

    @cached_property
    def vector_inputs(self) -> tuple[str, ...]:
        """Node inputs that turn with the world: rows of three that the network takes as no scalars."""
        scalars = getattr(self.model.network, "scalars", ())
        inputs = {name: v for s in self.examples.values() for name, v in s.inputs.items()}
        return tuple(n for n, v in inputs.items() if v.shape[1:] == (3,) and n not in scalars)

    def rng(self) -> np.random.Generator:
        """Random numbers, the same for every check."""
        return np.random.default_rng(self.seed)

    # What the model predicts

    @cached_property
    def budget(self) -> Budget:
        """Of the main program: any example fits, also twice repeated."""
        large = [*self.examples.values()]
        large += [examples.supercell(s) for s in self.generated.values() if any(s.pbc)]
        sizes = [_sizes([self.sample(s)]) for s in large]
        nodes, edges = max(s.n_node for s in sizes), max(s.n_edge for s in sizes)
        return Budget(_ceil(max(nodes, 96), 32), _ceil(max(edges, 1024), 128), 17)

    @cached_property
    def probe_budget(self) -> Budget:
        """Of the probe: the generated examples fit."""
        sizes = _sizes([self.sample(s) for s in self.generated.values()])
        return Budget(_ceil(max(40, sizes.n_node), 8), _ceil(max(sizes.n_edge, 256), 64), 9)

    def sample(
        self, structure: Structure, *, reach: float | None = None, slots: int | None = None
    ) -> Sample:
        """The graph that the model reads.

        Args:
            reach: in place of the cutoff [Å]: edges beyond the cutoff are there as well.
            slots: the table layout, see `graphs.messages`.
        """
        bare = structure.replace(properties=Properties())
        return sample(bare, reach or self.cutoff, nearest=self.nearest, slots=slots)

    def predict(self, structures: Sequence[Structure], **options: Any) -> list[Values]:
        """What the model predicts for each structure; options are those of `sample`."""
        return self.evaluate([self.sample(s, **options) for s in structures])

    def evaluate(self, samples: Sequence[Sample], budget: Budget | None = None) -> list[Values]:
        """What the model predicts for each sample, packed into few batches of one budget."""
        found: list[Values] = []
        for group in _packed(samples, budget or self.budget):
            found += _split(group, self.run(group, budget or self.budget))
        return found

    def run(self, samples: Sequence[Sample], budget: Budget) -> dict[str, np.ndarray]:
        """What the model predicts for one batch, rows of padding included."""
        with self._precision():
            graph = pad(samples, budget, self.dtype).graph
            return _numpy(leaves(self._predict(self._params, graph)))

    @cached_property
    def reference(self) -> list[Values]:
        """What the model predicts for the examples as they are."""
        return self.predict(list(self.examples.values()))

    def probe(
        self,
        structures: Sequence[Structure],
        vectors: Sequence[np.ndarray] | None = None,
        weights: Sequence[float] | None = None,
    ) -> list[Probe]:
        """Predictions, gradients and second derivatives, in a program of its own.

        Args:
            vectors: `[node, 3]` each: the gradient is differentiated along them; default zero.
            weights: of each structure in the sum that is differentiated; default one. Structures
                that are weighed have to fit one batch.
        """
        samples = [self.sample(s) for s in structures]
        vectors = [np.zeros_like(s.positions) for s in structures] if vectors is None else vectors
        weights = np.ones(len(samples)) if weights is None else weights
        found, done = [], 0
        for group in _packed(samples, self.probe_budget):
            mine = slice(done, done + len(group))
            found += self._run_probe(group, vectors[mine], np.asarray(weights[mine]))
            done += len(group)
        return found

    # How a figure is judged

    def judge(
        self,
        name: str,
        figure: str,
        value: float,
        limits: tuple[float, float],
        *,
        detail: str,
        meaning: str,
        unit: str = "relative",
    ) -> Measurement:
        """The measurement of a check.

        Args:
            limits: in float64 and in float32.
            meaning: one sentence for a model that fails: what it means and where to look.
        """
        value = float(value) if np.isfinite(value) else math.inf
        limit = limits[0] if self.double else limits[1]
        passed = value <= limit
        detail = detail if passed else f"{meaning} ({detail})"
        return Measurement(name, figure, value, limit, passed, detail, unit, self.dtype)

    # Programs

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The precision of this context, whatever the caller's; NaN is measured, not raised."""
        with jax.enable_x64(self.double), jax.debug_nans(False):
            yield

    @cached_property
    def _params(self) -> Any:
        cast = lambda a: a.astype(self.dtype) if a.dtype.kind == "f" else a
        return jax.tree.map(lambda a: cast(np.asarray(a)), self.model.params)

    @cached_property
    def _predict(self) -> Callable[[Any, Graph], Properties]:
        energy, outputs = self.has_energy, self.model.card.outputs
        periodic = bool(self.periodic)
        return jax.jit(
            predict_fn(self.model.network, outputs, forces=energy, stress=energy and periodic)
        )

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

        return jax.jit(probe)

    def _run_probe(self, samples, vectors, weights) -> list[Probe]:
        budget, rows = self.probe_budget, np.concatenate(vectors)
        along = np.zeros((budget.n_node, 3), self.dtype)
        along[: len(rows)] = rows
        weigh = np.zeros(budget.n_graph, self.dtype)
        weigh[: len(samples)] = weights
        with self._precision():
            graph = pad(samples, budget, self.dtype).graph
            found, slope, second = self._probe(self._params, graph, weigh, along)
            found, slope, second = _numpy(found), np.asarray(slope), np.asarray(second)
        if self.has_energy:
            found["forces"] = -slope.astype(np.float64)
        return [
            Probe(values, slope[own], second[own])
            for values, own in zip(_split(samples, found), _node_slices(samples), strict=True)
        ]


GIVEN = "given"  # how names of given structures start

CHECKS: Registry[Callable[[Context], Measurement | None]] = Registry("check")


def make_context(
    model: Model, structures: Sequence[Structure], *, dtype: str, seed: int
) -> Context:
    """The context of a model: generated examples that suit it, then the given structures.

    Raises:
        ValueError: the network reads node inputs that generated structures cannot have, and no
            structures are given.
    """
    network, card = model.network, model.card
    known = card.elements or getattr(network, "elements", ()) or tuple(card.E0s)
    species = tuple(sorted(known)) or tuple(
        sorted({int(z) for s in structures for z in s.species}) or (0,)
    )
    inputs = {
        name: np.concatenate([s.inputs[name] for s in structures])
        for name in (structures[0].inputs if structures else ())
    }
    local = getattr(network, "nearest", None) is None
    reach = float(network.cutoff) if local else math.inf
    made = examples.generated(species, reach, seed, inputs)
    given = {f"{GIVEN} {i}": s for i, s in enumerate(structures)}
    context = Context(model, made | given, species=species, dtype=dtype, seed=seed)
    _refuse_missing_inputs(context)
    return context


def _refuse_missing_inputs(context: Context) -> None:
    """A network's first look at a graph, with the names of the inputs that are not there."""

    class Inputs(dict):
        def __missing__(self, name: str) -> Any:
            raise ValueError(
                f"a model that reads node inputs is measured on structures that have them; the "
                f"network reads {name!r}; give such structures: certify(model, structures)"
            )

    graph = context.sample(next(iter(context.examples.values()))).graph
    one = [Sample(graph, Properties())]
    small = jax.tree.map(jnp.asarray, pad(one, _sizes(one)).graph)
    small = small._replace(nodes=Inputs(small.nodes))
    jax.eval_shape(lambda: context.model.network.apply(context.model.params, small).array)


def difference(
    got: Sequence[Values], want: Sequence[Values], names: Sequence[str] | None = None
) -> tuple[float, str]:
    """The largest difference, relative to the largest absolute value that is wanted, and of what.

    Each kind of value has its own scale, over all structures; absolute where all are zero.
    """
    worst, where = 0.0, "no difference"
    for name in sorted({name for values in want for name in values}):
        if names is not None and name not in names:
            continue
        pairs = [(g[name], w[name]) for g, w in zip(got, want, strict=True) if name in w]
        scale = max(float(np.abs(w).max(initial=0)) for _, w in pairs)
        error = max(float(np.abs(g - w).max(initial=0)) for g, w in pairs)
        error = error / scale if scale > 0 else error
        if not error <= worst:  # also true of NaN
            worst, where = error if np.isfinite(error) else math.inf, f"largest in {name}"
    return worst, where


def _sums(found: Properties, graph: Graph) -> jax.Array:
    """One number per graph: the energy, else the sum of all outputs."""
    if found.energy is not None:
        return found.energy
    total = jnp.zeros(graph.n_node.shape[0], graph.nodes["positions"].dtype)
    for name, value in leaves(found).items():
        rows = value.reshape(value.shape[0], -1).sum(-1)
        total = total + (pool(rows[:, None], graph)[:, 0] if is_per_node(name) else rows)
    return total


def _ceil(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _sizes(samples: Sequence[Sample]) -> Budget:
    """What the samples need, padding counted."""
    nodes = sum(int(s.graph.n_node[0]) for s in samples) + 1
    return Budget(nodes, sum(int(s.graph.n_edge[0]) for s in samples), len(samples) + 1)


def _packed(samples: Sequence[Sample], budget: Budget) -> Iterator[list[Sample]]:
    """The samples in order, as many at a time as fit."""
    group: list[Sample] = []
    for one in samples:
        need = _sizes([*group, one])
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
    """The rows of each sample; no stress without a cell."""
    split = []
    for i, (one, own) in enumerate(zip(samples, _node_slices(samples), strict=True)):
        values = {n: v[own] if is_per_node(n) else v[i] for n, v in found.items()}
        if not one.graph.globals["cell"].any():
            values.pop("stress", None)
        split.append(values)
    return split
