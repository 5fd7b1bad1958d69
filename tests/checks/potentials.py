"""A small potential that passes every check, and one whose figures follow by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from e3nn_jax import IrrepsArray

from geojax.arrays import safe_norm
from geojax.checks.context import Context, make_context
from geojax.graphs import Graph, edge_vectors, from_receivers, from_senders, to_receivers
from geojax.model import Card, Model
from geojax.outputs import Output

ELEMENTS = (1, 6, 8)
E0S = {1: -13.6, 6: -1027.5, 8: -2041.2}  # [eV]


@dataclass(frozen=True)
class Good:
    """E_i = tanh(sum_j q_i q_j u(r_ij) exp(-r_ij)) + |sum_j q_j u(r_ij) r_ij|² / 10."""

    cutoff: float = 4.0
    irreps_out: str = "0e"
    elements: tuple[int, ...] = ELEMENTS

    def init(self, key: Any, graph: Graph) -> dict[str, jnp.ndarray]:
        del key, graph
        return {"charge": jnp.asarray([0.6, 1.1, 0.8])}

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        return IrrepsArray("0e", self.energies(params, graph)[:, None])

    def vectors(self, graph: Graph) -> jnp.ndarray:
        return edge_vectors(graph)

    def envelope(self, x: jnp.ndarray) -> jnp.ndarray:
        return 1 - x**3 * (10 - x * (15 - 6 * x))

    def energies(self, params: Any, graph: Graph) -> jnp.ndarray:
        r = self.vectors(graph)
        d = safe_norm(r)
        u = self.envelope(jnp.minimum(d / self.cutoff, 1))
        q = params["charge"][jnp.searchsorted(jnp.asarray(self.elements), graph.nodes["species"])]
        u = u * from_senders(q, graph)
        density = to_receivers(u * from_receivers(q, graph) * jnp.exp(-d), graph)
        pull = to_receivers(u[:, None] * r, graph)
        return jnp.tanh(density) + jnp.sum(pull * pull, -1) / 10


def model(network: Any = None, **card: Any) -> Model:
    """The network (or `Good`) with numbers and a card."""
    network = network or Good()
    params = {name: np.asarray(v) for name, v in Good().init(None, None).items()}
    known = {"name": "good", "elements": ELEMENTS, "E0s": E0S, "outputs": (Output(),)}
    return Model(network, params, Card(**(known | card)))


@dataclass(frozen=True)
class Rule(Good):
    """E_i = rule(graph): simple enough that its figures follow by hand."""

    rule: Callable[[Graph], jnp.ndarray] = lambda graph: 0 * graph.nodes["positions"][:, 0]

    def energies(self, params: Any, graph: Graph) -> jnp.ndarray:
        del params
        return self.rule(graph)


def ruled(rule: Callable[[Graph], jnp.ndarray], *, cutoff: float = 4.0, **card: Any) -> Context:
    """The context of such a potential, float64."""
    ruler = model(Rule(rule=rule, cutoff=cutoff), **card)
    return make_context(ruler, (), dtype="float64", seed=0)
