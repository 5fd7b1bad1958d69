"""Explanations of a model by gradients, and how far they keep the symmetry of what they explain.

With f one number of a structure, x its features in rows of nodes and x̄ a baseline:

    saliency          ∇_i f(x)                                      of the shape of the feature
    gradient-input    (x_i - x̄_i) · ∇_i f(x)                        one number of a node
    integrated        (x_i - x̄_i) · ∫ ∇_i f(x̄ + t (x - x̄)) dt       one number of a node

The numbers of the last add up to f(x) - f(x̄). Products are scalar products: those of single
components, as in codes for images, do not turn with a structure. Positions count from their mean.

An explanation e has, over elements g of a group and with s the cosine,

    invariance = mean_g s(e(g x), e(x)),    equivariance = mean_g s(e(g x), g e(x)),

both 1 at best. Of a model that is invariant, all three explanations turn with the structure, if the
baseline does. One that does not is cured by a mean over the group, `averaged`.

References:
    Crabbé, van der Schaar, "Evaluating the robustness of interpretability methods through
    explanation invariance and equivariance", NeurIPS 2023, https://arxiv.org/abs/2304.06715.
    Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017,
    https://arxiv.org/abs/1703.01365 (integrated gradients).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from geojax import so3
from geojax.graphs import (
    Budget,
    Graph,
    Properties,
    Sample,
    Structure,
    is_per_node,
    leaf,
    pad,
    sample,
)
from geojax.model import Model, check_elements
from geojax.networks.network import vector_inputs
from geojax.potential import predict_fn
from geojax.registry import Registry

__all__ = [
    "EXPLANATIONS",
    "Scores",
    "averaged",
    "equivariance",
    "explainer",
    "explanation_scores",
    "group_elements",
    "invariance",
]

Explain = Callable[[Structure], np.ndarray]
Slope = Callable[[jax.Array], jax.Array]

GROUPS = ("SO(3)", "O(3)")

EXPLANATIONS: Registry[Callable[[Slope, jax.Array, jax.Array, int], jax.Array]] = Registry(
    "explanation"
)


class Scores(NamedTuple):
    """Of explanations, means over structures and elements of the group.

    Attributes:
        invariance: see the module.
        equivariance: see the module.
        model: |f(g x) - f(x)| / (|f(g x)| + |f(x)|) of what is explained; zero if it is invariant.
    """

    invariance: float
    equivariance: float
    model: float


@EXPLANATIONS.register("saliency")
def _saliency(slope: Slope, x: jax.Array, start: jax.Array, steps: int) -> jax.Array:
    del start, steps
    return slope(x)


@EXPLANATIONS.register("gradient-input")
def _gradient_input(slope: Slope, x: jax.Array, start: jax.Array, steps: int) -> jax.Array:
    del steps
    return _shares((x - start) * slope(x))


@EXPLANATIONS.register("integrated")
def _integrated(slope: Slope, x: jax.Array, start: jax.Array, steps: int) -> jax.Array:
    """By Gauss-Legendre quadrature, which leaves out the baseline, where models may be singular."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    along = lambda t: slope(start + t * (x - start))
    slopes = jax.lax.map(along, jnp.asarray((places + 1) / 2, x.dtype))
    return _shares((x - start) * jnp.einsum("t,t...->...", jnp.asarray(weights / 2), slopes))


def _shares(products: jax.Array) -> jax.Array:
    return jnp.sum(products.reshape(products.shape[0], -1), -1)


class _Explained:
    """One number of a structure, as a function of one of its features."""

    def __init__(self, model: Model, output: str | None, column: int, feature: str):
        own = [o.name for o in model.card.outputs if not is_per_node(o.name)]
        own = [name for name in own if name != "hessian"]
        if not own or (output is not None and output not in own):
            raise ValueError(
                "what is explained is one number of a structure, the energy or targets.<name>; got "
                f"{output!r} of a model that predicts {', '.join(own) or 'none of them'}"
            )
        self.model, self.column, self.feature = model, column, feature
        self.output = output or own[0]
        self.params = jax.tree.map(lambda a: np.asarray(a, np.float64), model.params)
        self._predict = predict_fn(model.network, model.card.outputs)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Features that turn with the structure."""
        network = self.model.network
        return ("positions", *vector_inputs(network), *getattr(network, "axes", ()))

    def value(self, params: Any, graph: Graph) -> jax.Array:
        """f."""
        found = leaf(self._predict(params, graph), self.output)[0].reshape(-1)
        if not 0 <= self.column < found.shape[0]:
            raise ValueError(
                f"{self.output} has {found.shape[0]} numbers; column {self.column} is none of them"
            )
        return found[self.column]

    def graph(self, structure: Structure, *, far: bool = False) -> Graph:
        """Of one structure; `far`: with edges between all nodes, which no model notices."""
        network = self.model.network
        check_elements(self.model.card, [structure])
        nearest = getattr(network, "nearest", None)
        whole = far and network.cutoff > 0 and nearest is None
        members = len(structure) if getattr(network, "reads_members", False) else None
        one = sample(
            structure,
            np.inf if whole else network.cutoff,
            nearest=nearest,
            members=members,
            labels=Properties(),
        )
        graph = _padded(one)
        if self.feature not in graph.nodes or graph.nodes[self.feature].dtype.kind != "f":
            raise ValueError(
                f"an explained feature is an array of real numbers of the nodes; {self.feature!r} "
                f"is none of {', '.join(k for k in graph.nodes if k != 'species')}"
            )
        return graph


def _padded(one: Sample) -> Graph:
    nodes, edges = (int(n[0]) for n in (one.graph.n_node, one.graph.n_edge))
    return jax.tree.map(jnp.asarray, pad([one], Budget(nodes + 1, edges, 2), np.float64).graph)


def explainer(
    model: Model,
    method: str = "saliency",
    *,
    output: str | None = None,
    column: int = 0,
    feature: str = "positions",
    baseline: Float[np.ndarray, "node *d"] | None = None,
    steps: int = 16,
) -> Explain:
    """The function that explains a structure: `[node, *d]` for saliency, else `[node]`.

    In float64. Edges of a model with `nearest` stay those of the structure along the path of
    integration.

    Args:
        method: a name in EXPLANATIONS.
        output: "energy" or "targets.<name>"; the model's first by default.
        column: of an output of several numbers, such as the logit of a class.
        feature: "positions" or a node input.
        baseline: x̄; zero by default, which for positions is their mean.
        steps: of the quadrature.

    Raises:
        KeyError: no such method.
        ValueError: the output is not one number of a structure, or not there; no such feature; a
            baseline of another shape; shares of positions in a lattice, which has no origin.
    """
    return _explain(_Explained(model, output, column, feature), method, baseline, steps)


def _explain(
    explained: _Explained, method: str, baseline: np.ndarray | None = None, steps: int = 16
) -> Explain:
    function, feature = EXPLANATIONS[method], explained.feature

    @jax.jit
    def run(params: Any, graph: Graph, start: jax.Array) -> jax.Array:
        put = lambda x: graph._replace(nodes={**graph.nodes, feature: x})
        slope = jax.grad(lambda x: explained.value(params, put(x)))
        return function(slope, graph.nodes[feature], start, steps)

    def explain(structure: Structure) -> np.ndarray:
        if any(structure.pbc) and feature == "positions" and method != "saliency":
            raise ValueError(
                f"shares of positions need an origin, and a lattice has none; got {method!r} and "
                "a periodic structure; take saliency"
            )
        with jax.enable_x64(True):
            graph = explained.graph(structure, far=(method, feature) == ("integrated", "positions"))
            start = np.zeros(graph.nodes[feature].shape)
            if baseline is not None and np.shape(baseline) != start[:-1].shape:
                raise ValueError(
                    f"a baseline has the shape of the feature, {start[:-1].shape}; got "
                    f"{np.shape(baseline)}"
                )
            start[:-1] = 0 if baseline is None else baseline
            return np.asarray(run(explained.params, graph, jnp.asarray(start)))[:-1]

    return explain


def group_elements(count: int, *, group: str = "SO(3)", seed: int = 0) -> np.ndarray:
    """`[element, 3, 3]`, float64: random rotations; in "O(3)" every other one is improper.

    Raises:
        ValueError: another group.
    """
    if group not in GROUPS:
        raise ValueError(f"the group is one of {', '.join(GROUPS)}; got {group!r}")
    with jax.enable_x64(True):
        found = np.asarray(so3.random_rotation(jax.random.key(seed), (count,)), np.float64)
    signs = np.where(np.arange(count) % 2, -1.0, 1.0) if group == "O(3)" else np.ones(count)
    return found * signs[:, None, None]


def invariance(
    explain: Explain, structure: Structure, elements: np.ndarray, *, vectors: Sequence[str] = ()
) -> float:
    """mean_g s(e(g x), e(x)).

    Args:
        elements: `[element, 3, 3]`.
        vectors: node inputs that turn, besides positions and cell.
    """
    here = explain(structure)
    turned = [explain(_turned(structure, g, vectors)) for g in elements]
    return float(np.mean([_cosine(there, here) for there in turned]))


def equivariance(
    explain: Explain,
    structure: Structure,
    elements: np.ndarray,
    *,
    turns: bool = True,
    vectors: Sequence[str] = (),
) -> float:
    """mean_g s(e(g x), g e(x)).

    Args:
        turns: rows of the explanation are vectors; else they are invariant.
    """
    here = explain(structure)
    pairs = [
        (explain(_turned(structure, g, vectors)), here @ g.T if turns else here) for g in elements
    ]
    return float(np.mean([_cosine(there, wanted) for there, wanted in pairs]))


def averaged(
    explain: Explain, elements: np.ndarray, *, turns: bool = True, vectors: Sequence[str] = ()
) -> Explain:
    """ē(x) = mean_g g⁻¹ e(g x): equivariant over a finite group, and better with more elements."""

    def mean(structure: Structure) -> np.ndarray:
        found = [explain(_turned(structure, g, vectors)) for g in elements]
        back = zip(found, elements, strict=True)
        return np.mean([e @ g if turns else e for e, g in back], 0)

    return mean


def explanation_scores(
    model: Model,
    structures: Sequence[Structure],
    *,
    method: str = "saliency",
    output: str | None = None,
    column: int = 0,
    feature: str = "positions",
    group: str = "SO(3)",
    samples: int = 50,
    average: int = 0,
    seed: int = 0,
) -> Scores:
    """How far explanations of a model, and the model itself, keep a group.

    Args:
        method, output, column, feature: see `explainer`.
        group: see `group_elements`.
        samples: random elements of the group.
        average: explanations are means over so many other elements, see `averaged`.
        seed: of the elements.

    Raises:
        ValueError: no structures; as `explainer` and `group_elements`.
    """
    if not structures:
        raise ValueError("scores are means over structures; got none")
    explained = _Explained(model, output, column, feature)
    explain, vectors = _explain(explained, method), explained.vectors
    turns = method == "saliency" and feature in vectors
    elements = group_elements(samples, group=group, seed=seed)
    if average:
        others = group_elements(average, group=group, seed=seed + 1)
        explain = averaged(explain, others, turns=turns, vectors=vectors)
    value = jax.jit(explained.value)

    def of(structure: Structure) -> float:
        with jax.enable_x64(True):
            return float(value(explained.params, explained.graph(structure)))

    rows = []
    for one in structures:
        here, moved = of(one), [of(_turned(one, g, vectors)) for g in elements]
        rows.append(
            (
                invariance(explain, one, elements, vectors=vectors),
                equivariance(explain, one, elements, turns=turns, vectors=vectors),
                np.mean([_relative(there, here) for there in moved]),
            )
        )
    return Scores(*(float(mean) for mean in np.mean(rows, 0)))


def _relative(a: float, b: float) -> float:
    return abs(a - b) / (abs(a) + abs(b)) if a or b else 0.0


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of all numbers; 1 of two that are zero, 0 where one is."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        return float(not a.any() and not b.any())
    return float(np.sum(a * b)) / lengths


def _turned(structure: Structure, matrix: np.ndarray, vectors: Sequence[str]) -> Structure:
    """The structure in a world that is turned, without labels."""
    cell = None if structure.cell is None else structure.cell @ matrix.T
    inputs = {name: v @ matrix.T if name in vectors else v for name, v in structure.inputs.items()}
    return structure.replace(
        positions=structure.positions @ matrix.T, cell=cell, inputs=inputs, properties=Properties()
    )
