"""What a check works with: a model in one precision, examples, and how a figure is judged.

A check is a function `check(context) -> Measurement | None` in the registry `CHECKS`; None: it does
not apply to this model or this precision.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irreps

from geojax.checks import examples
from geojax.checks.programs import Probe, Programs, Values, round_up, sizes
from geojax.graphs import Budget, Properties, Sample, Structure, pad, sample
from geojax.model import Model
from geojax.registry import Registry

__all__ = ["CHECKS", "Context", "Measurement", "difference", "largest", "make_context"]

GIVEN = "given"  # how names of given structures start


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


class Context:
    """A model in one precision, and the structures that it is measured on.

    Attributes:
        model: as given.
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

    @property
    def cutoff(self) -> float:
        """[Å]; may be infinite."""
        return float(self.model.network.cutoff)

    @property
    def nearest(self) -> int | None:
        """How many nearest senders a node listens to, for networks on such graphs."""
        return getattr(self.model.network, "nearest", None)

    @property
    def chiral(self) -> bool:
        """Whether the network states that it tells mirror images apart."""
        return getattr(self.model.network, "group", "E(3)") == "SE(3)"

    @property
    def has_energy(self) -> bool:
        """Whether the model predicts an energy, so that forces are its derivative."""
        return self.programs.has_energy

    @property
    def has_hessian(self) -> bool:
        """Whether the model predicts Hessians directly."""
        return any(output.name == "hessian" for output in self.model.card.outputs)

    @property
    def local(self) -> bool:
        """Whether the cutoff is a finite radius, so that structures may repeat or be far apart."""
        whole = not getattr(self.model.network, "local", True)  # looks at all of a structure
        return 0 < self.cutoff < math.inf and self.nearest is None and not whole

    @property
    def double(self) -> bool:
        """Whether this precision resolves finite differences."""
        return self.dtype == "float64"

    @property
    def generated(self) -> dict[str, Structure]:
        """The examples that were not given: small, without labels."""
        return {n: s for n, s in self.examples.items() if not n.startswith(GIVEN)}

    @cached_property
    def irreps(self) -> dict[str, Irreps]:
        """The symmetry of every predicted value but stress and Hessian, by its name."""
        outputs = [o for o in self.model.card.outputs if o.name != "hessian"]
        found = {o.name: Irreps("0e" if o.norm else o.result) for o in outputs}
        if self.has_energy:
            found |= {"energies": Irreps("0e"), "forces": Irreps("1o")}
        return found

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Rows of node inputs, of all examples; empty for networks that read species alone."""
        every = list(self.examples.values())
        return {name: np.concatenate([s.inputs[name] for s in every]) for name in every[0].inputs}

    @cached_property
    def vector_inputs(self) -> tuple[str, ...]:
        """Node inputs that turn with the world: rows of three, and no scalars to the network."""
        scalars = getattr(self.model.network, "scalars", ())
        of_three = [name for name, v in self.inputs.items() if v.ndim > 1 and v.shape[-1] == 3]
        return tuple(name for name in of_three if name not in scalars)

    def rng(self) -> np.random.Generator:
        """Random numbers, the same for every check."""
        return np.random.default_rng(self.seed)

    @cached_property
    def programs(self) -> Programs:
        """Of a budget that any example fits, also twice repeated; the probe's is smaller."""
        small = list(self.generated.values())
        large = [*self.examples.values(), *(examples.supercell(s) for s in small if any(s.pbc))]
        each = [sizes([self.sample(s)]) for s in large]
        nodes, edges = max(s.n_node for s in each), max(s.n_edge for s in each)
        budget = Budget(round_up(max(nodes, 96), 32), round_up(max(edges, 1024), 128), 17)
        need = sizes([self.sample(s) for s in small])
        little = Budget(round_up(max(need.n_node, 40), 8), round_up(max(need.n_edge, 256), 64), 9)
        stress = any(any(s.pbc) for s in self.examples.values())
        return Programs(self.model, self.dtype, budget, little, stress=stress)

    def sample(
        self, structure: Structure, *, reach: float | None = None, slots: int | None = None
    ) -> Sample:
        """The graph that the model reads.

        A structure without node inputs gets those that the network needs, one row per element, so
        that an atom has the same input in whatever structure it is.

        Args:
            reach: in place of the cutoff [Å]: edges beyond the cutoff are there as well.
            slots: the table layout, see `graphs.messages`.
        """
        if self.inputs and not structure.inputs:
            element = np.searchsorted(self.species, structure.species)
            rows = {name: rows[element % len(rows)] for name, rows in self.inputs.items()}
            structure = structure.replace(inputs=rows)
        options = {"nearest": self.nearest, "slots": slots, "labels": Properties()}
        return sample(structure, reach or self.cutoff, **options)

    def predict(self, structures: Sequence[Structure], **options: Any) -> list[Values]:
        """What the model predicts for each structure; options are those of `sample`."""
        return self.programs.evaluate([self.sample(s, **options) for s in structures])

    @cached_property
    def reference(self) -> dict[str, Values]:
        """What the model predicts for the examples as they are."""
        return dict(zip(self.examples, self.predict(list(self.examples.values())), strict=True))

    def probe(
        self,
        structures: Sequence[Structure],
        vectors: Sequence[np.ndarray] | None = None,
        weights: Sequence[float] | None = None,
    ) -> list[Probe]:
        """Predictions, gradients and second derivatives, see `Programs.probe`.

        Args:
            vectors: zero by default.
            weights: one by default.
        """
        vectors = vectors or [np.zeros_like(s.positions) for s in structures]
        weights = weights or [1.0] * len(structures)
        return self.programs.probe([self.sample(s) for s in structures], vectors, weights)

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
    small = jax.tree.map(jnp.asarray, pad(one, sizes(one)).graph)
    small = small._replace(nodes=Inputs(small.nodes))
    jax.eval_shape(lambda p: context.model.network.apply(p, small).array, context.model.params)


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
        scale = largest(w for _, w in pairs)
        error = largest(g - w for g, w in pairs)
        error = error / scale if scale > 0 else error
        if not error <= worst:  # also true of NaN
            worst, where = error if np.isfinite(error) else math.inf, f"largest in {name}"
    return worst, where


def largest(arrays: Iterable[Any]) -> float:
    """The largest absolute value of all arrays; infinite if one holds NaN."""
    found = np.max([np.max(np.abs(a), initial=0) for a in arrays], initial=0)
    return float(found) if np.isfinite(found) else math.inf
