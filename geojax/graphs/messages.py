"""All gathers and scatters along edges: the one place that chooses how messages move.

Two layouts, told apart by the keys of `graph.edges` (static under jit):

* **list** (default): edges in one list sorted by receiver; the sum is a sorted `segment_sum`. On a
  CPU it fuses with what made the messages.
* **table** (`"mask"` is there): every node owns K consecutive slots, `edge = node * K + slot`, and
  `mask` `[edge]` tells which are taken. The sum is a plain reduction: nothing scatters.

In both, `"reverse"` `[edge]` may hold the index of the reverse edge (a full neighbour list has
every edge's reverse). Then the transpose of the gather from senders *gathers* as well,
`sum over edges e with sender j of g_e = sum over edges e with receiver j of g_reverse(e)`,
so that in the table layout no derivative of any order scatters and GPU results are reproducible
bit by bit.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.graphs.graph import Graph, Size, n_edges, n_nodes
from geojax.multilinear import Multilinear

__all__ = ["degree", "from_receivers", "from_senders", "largest_at_receivers", "to_receivers"]


def from_senders(x: Float[Array, "node *d"], graph: Graph) -> Float[Array, "edge *d"]:
    """The value of each edge's sender."""
    if "reverse" not in graph.edges:
        return _rows(x, graph.senders)
    edges = graph.edges
    mask = edges.get("mask")
    sources = (
        graph.senders,
        graph.receivers,
        edges["reverse"],
        *([] if mask is None else [mask]),
    )
    return _gather(x.shape[0], mask is not None)(x, *sources)


@cache
def _gather(nodes: Size, masked: bool) -> Multilinear:
    """The gather from senders, whose transpose gathers from reverse edges and sums at receivers."""

    def call(x: Array, senders: Array, *others: Array) -> Array:
        del others
        return _rows(x, senders)

    def transpose(g: Array, senders: Array, receivers: Array, reverse: Array, *mask: Array):
        return back(g, senders, receivers, reverse, *mask)

    def sum_reversed(g: Array, senders: Array, receivers: Array, reverse: Array, *mask: Array):
        del senders
        return _sum(_rows(g, reverse), receivers, nodes, mask[0] if mask else None)

    constants = (None,) * (4 if masked else 3)
    forward = Multilinear(call, (transpose, *constants))
    back = Multilinear(sum_reversed, (forward, *constants))
    return forward


def from_receivers(x: Float[Array, "node *d"], graph: Graph) -> Float[Array, "edge *d"]:
    """The value of each edge's receiver."""
    if "mask" not in graph.edges:
        return _rows(x, graph.receivers)
    slots = n_edges(graph) // x.shape[0]
    wide = jnp.broadcast_to(x[:, None], (x.shape[0], slots, *x.shape[1:]))
    return wide.reshape(n_edges(graph), *x.shape[1:])


def to_receivers(messages: Float[Array, "edge *d"], graph: Graph) -> Float[Array, "node *d"]:
    """The sum of the messages that arrive at each node."""
    return _sum(messages, graph.receivers, n_nodes(graph), graph.edges.get("mask"))


def largest_at_receivers(values: Float[Array, "edge *d"], graph: Graph) -> Float[Array, "node *d"]:
    """The largest of the values that arrive at each node; -inf where none does."""
    mask = graph.edges.get("mask")
    if mask is None:
        return jax.ops.segment_max(
            values,
            graph.receivers,
            n_nodes(graph),
            indices_are_sorted=True,
            mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )
    kept = jnp.where(mask.reshape(-1, *[1] * (values.ndim - 1)), values, -jnp.inf)
    return kept.reshape(n_nodes(graph), -1, *values.shape[1:]).max(1)


def _sum(messages: Array, receivers: Array, nodes: Size, mask: Array | None) -> Array:
    if mask is None:
        return jax.ops.segment_sum(
            messages,
            receivers,
            nodes,
            indices_are_sorted=True,
            mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )
    kept = jnp.where(mask.reshape(-1, *[1] * (messages.ndim - 1)), messages, 0)
    return kept.reshape(nodes, -1, *messages.shape[1:]).sum(1)


def degree(graph: Graph, dtype=jnp.float32) -> Float[Array, "node"]:
    """The number of edges that arrive at each node."""
    return to_receivers(jnp.ones(n_edges(graph), dtype), graph)


def _rows(x: Array, index: Array) -> Array:
    return x.at[index].get(mode="promise_in_bounds")
