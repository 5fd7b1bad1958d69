"""Predictions for structures of any size, in few compiled shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from geojax.assets import compile_cache
from geojax.deviations import std_name
from geojax.graphs import (
    Budget,
    Edges,
    Graph,
    Properties,
    Sample,
    Structure,
    is_per_node,
    leaves,
    pad,
    replace_leaves,
    sample,
    whole_hessian,
)
from geojax.inference.engine import engine_of, without_hessian
from geojax.model import Card, check_elements, references

__all__ = ["Predictor", "grown", "predict"]

STEP = 1.5  # budgets grow by this factor, so padding wastes a third at most
LEAST = Budget(32, 256, 2)  # what most molecules fit into, so that they share one program
DERIVED = ("forces", "stress", "hessian")
NEEDS_MODEL = "an exported file holds energies, forces and stress; a Hessian needs the model"
SLOTS = 16  # for the nodes of a graph, at least


class Predictor:
    """Predicts properties of structures; compiled programs are kept between calls.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        batch_size: structures of a batch, at most.
    """

    def __init__(self, model: Any, *, batch_size: int = 32):
        self.engine = engine_of(model)
        self.batch_size = batch_size
        compile_cache()
        self._shapes: set[tuple] = set()

    @property
    def card(self) -> Card:
        """The card of the model."""
        return self.engine.card

    @property
    def compilations(self) -> int:
        """How many programs and shapes were compiled."""
        return len(self._shapes)

    def __call__(
        self, structures: Sequence[Structure], properties: Sequence[str] | None = None
    ) -> list[Properties]:
        """The properties of each structure, float64 on the host, in the order given.

        Args:
            structures: any sizes; batched by size.
            properties: of "energy", "energies", "forces", "stress", "hessian", "targets.<name>",
                "node_targets.<name>"; by default what the model was trained on (stress only where
                all structures are periodic in three directions). A Hessian comes from the model's
                direct output where it has one, else by differentiation. Of an ensemble these are
                means, each with its standard deviation (see `std_name`) by default.

        Raises:
            ValueError: an element that the model does not know, stress of a structure that does
                not repeat in three directions, a property that the model does not have, or a
                prediction that is not finite (names the structure).
        """
        structures = list(structures)
        check_elements(self.card, structures)
        wanted = self._wanted(structures, properties)
        samples = self._samples(structures)
        order = sorted(range(len(samples)), key=lambda i: int(samples[i].graph.n_edge[0]))
        found: list[Properties] = [Properties()] * len(samples)
        for first in range(0, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            batch = self._run([samples[i] for i in chosen], wanted)
            for i, values in zip(chosen, batch, strict=True):
                found[i] = _finite(i, _whole(values, self.card, structures[i], wanted))
        return found

    def with_edges(
        self, structure: Structure, edges: Edges, properties: Sequence[str]
    ) -> Properties:
        """The properties of one structure whose edges are known (they may exceed the cutoff)."""
        check_elements(self.card, [structure])
        wanted = self._wanted([structure], properties)
        ready = sample(structure, self.engine.cutoff, labels=Properties(), edges=edges)
        (values,) = self._run([ready], wanted)
        return _finite(0, _whole(values, self.card, structure, wanted))

    def _wanted(
        self, structures: Sequence[Structure], properties: Sequence[str] | None
    ) -> tuple[str, ...]:
        own = [output.name for output in without_hessian(self.card.outputs)]
        own += ["hessian"] * (self.engine.rows is not None)
        known = [*own, *(("energies", *DERIVED) if "energy" in own else ())]
        deviations = lambda names: [std_name(n) for n in names if n in self.engine.deviations]
        solid = all(all(s.pbc) and s.cell is not None for s in structures)
        if properties is None:
            trained = {"forces": self.card.forces, "stress": self.card.stress and solid}
            own += [name for name in trained if trained[name]]
            return (*own, *deviations(own))
        known += deviations(known)
        for name in properties:
            if name not in known:
                raise ValueError(
                    f"{self.card.name!r} predicts {', '.join(dict.fromkeys(known))}; {name!r} was "
                    "asked for"
                )
        if _needs("stress", properties) and not solid:
            number = next(i for i, s in enumerate(structures) if not all(s.pbc) or s.cell is None)
            raise ValueError(
                "stress exists where three lattice vectors repeat; structure "
                f"{number} has pbc {structures[number].pbc}; ask for less"
            )
        return tuple(properties)

    def _samples(self, structures: Sequence[Structure]) -> list[Sample]:
        engine, members = self.engine, None
        if engine.members:
            members = grown(max(map(len, structures), default=1), SLOTS)
        return [
            sample(s, engine.cutoff, nearest=engine.nearest, members=members, labels=Properties())
            for s in structures
        ]

    def _run(self, samples: Sequence[Sample], wanted: tuple[str, ...]) -> list[Properties]:
        """The batch through the program, cut into structures again."""
        graph = self.padded(samples)
        forces, stress = _needs("forces", wanted), _needs("stress", wanted)
        spread = any(std_name(name) in wanted for name in ("forces", "stress"))
        with _precision(self.card.dtype):
            values = leaves(self.engine.program(forces, stress, spread)(graph))
            values = {name: np.asarray(v, np.float64) for name, v in values.items()}
            hessians = self._hessians(samples, graph) if "hessian" in wanted else None
        self._shapes.add((forces, stress, spread, *(x.shape for x in jax.tree.leaves(graph))))
        ends = np.cumsum([0, *(int(s.graph.n_node[0]) for s in samples)])
        found = []
        for i in range(len(samples)):
            rows = slice(ends[i], ends[i + 1])
            mine = {n: v[rows] if is_per_node(n) else v[i] for n, v in values.items()}
            if hessians is not None:
                mine["hessian"] = hessians[i]
            found.append(replace_leaves(Properties(), mine))
        return found

    def padded(self, samples: Sequence[Sample]) -> Graph:
        """The samples as one batch of one of the few shapes that programs are compiled for."""
        nodes = sum(int(s.graph.n_node[0]) for s in samples) + 1
        edges = sum(int(s.graph.n_edge[0]) for s in samples)
        graphs = 2 if len(samples) == 1 else self.batch_size + 1
        budget = Budget(grown(nodes, LEAST.n_node), grown(edges, LEAST.n_edge), graphs)
        return pad(samples, budget, np.dtype(self.card.dtype)).graph

    def curvature(self, structure: Structure) -> Callable[[np.ndarray], np.ndarray]:
        """The map from `[node, 3]` to the Hessian of the energy times it; no matrix is formed.

        Raises:
            ValueError: an element that the model does not know, or an exported file.
        """
        check_elements(self.card, [structure])
        if self.engine.curvature is None:
            raise ValueError(f"{NEEDS_MODEL}; use geojax.load")
        product, n = self.engine.curvature, len(structure)
        graph = self.padded(self._samples([structure]))

        def times(vector: np.ndarray) -> np.ndarray:
            padded = np.zeros((len(graph.nodes["positions"]), 3), self.card.dtype)
            padded[:n] = vector
            with _precision(self.card.dtype):
                return np.asarray(product(graph, padded)[:n], np.float64)

        return times

    def strains(self, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
        """d²E/dη dη `[6, 6]` [eV] and d²E/du dη `[node, 3, 6]` [eV/Å]; see `strain_derivatives`.

        Raises:
            ValueError: an element that the model does not know, or an exported file.
        """
        check_elements(self.card, [structure])
        if self.engine.strains is None:
            raise ValueError(f"{NEEDS_MODEL}; use geojax.load")
        graph = self.padded(self._samples([structure]))
        with _precision(self.card.dtype):
            found = self.engine.strains(graph)
        whole, inner = (np.asarray(x, np.float64) for x in found)
        return whole, inner[: len(structure)]

    def _hessians(self, samples: Sequence[Sample], graph: Graph) -> list[np.ndarray]:
        """`[node, 3, node, 3]` of each structure."""
        if self.engine.rows is None:
            return [self._derived_hessian(s) for s in samples]
        sizes = [int(s.graph.n_node[0]) for s in samples]
        rows = np.asarray(self.engine.rows(graph, grown(max(sizes), SLOTS)), np.float64)
        self._shapes.add(("hessian", rows.shape))
        ends = np.cumsum([0, *sizes])
        return [
            whole_hessian(rows[first:][:size]) for first, size in zip(ends, sizes, strict=False)
        ]

    def energy_hessian(self, structure: Structure) -> np.ndarray:
        """`[node, 3, node, 3]` [eV/Å²] of the energy, also where the model predicts another one.

        Raises:
            ValueError: an element that the model does not know, or an exported file.
        """
        check_elements(self.card, [structure])
        with _precision(self.card.dtype):
            return self._derived_hessian(*self._samples([structure]))

    def _derived_hessian(self, sample: Sample) -> np.ndarray:
        if self.engine.hessian is None:
            raise ValueError(f"{NEEDS_MODEL}; use geojax.load")
        n = int(sample.graph.n_node[0])
        whole = np.asarray(self.engine.hessian(self.padded([sample])), np.float64)
        self._shapes.add(("hessian", whole.shape))
        return whole[:n, :, :n]


def predict(
    model: Any, structures: Sequence[Structure], properties: Sequence[str] | None = None
) -> list[Properties]:
    """The properties of each structure; see `Predictor`."""
    return Predictor(model)(structures, properties)


def grown(n: int, least: int) -> int:
    """The smallest size at or above n in a series that grows by a half."""
    size = least
    while size < n:
        size = -(-int(size * STEP) // 16) * 16 if size > 64 else size + 16
    return size


def _needs(name: str, properties: Sequence[str]) -> bool:
    return name in properties or std_name(name) in properties


def _precision(dtype: str) -> Any:
    return jax.enable_x64(dtype == "float64")


def _whole(
    values: Properties, card: Card, structure: Structure, wanted: Sequence[str]
) -> Properties:
    """What was asked for, with references added back."""
    own = leaves(references(card, structure))
    kept = {
        name: value + own[name] if name in own else value
        for name, value in leaves(values).items()
        if name in wanted
    }
    return replace_leaves(Properties(), kept)


def _finite(number: int, values: Properties) -> Properties:
    for name, value in leaves(values).items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"a prediction must be finite; {name} of structure {number} is not; look at its "
                "shortest distance, and at the model's certificate"
            )
    return values
