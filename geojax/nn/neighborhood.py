"""Neighbourhoods in feature space: the nearest nodes of each node's own graph, found on the device.

They are searched anew wherever features have changed, so they are no edges of the graph, and a
network that makes them reads none. Every node has as many slots; what is done along them goes
through one slot after the other, all nodes at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from geojax.graphs import Graph, by_graph, of_members
from geojax.graphs.graph import n_nodes
from geojax.points import nearest

__all__ = ["Neighborhood", "nearest_nodes", "neighbor_max", "neighbor_mean"]


class Neighborhood(NamedTuple):
    """The nodes near each node, nearest first.

    Attributes:
        index: rows of nodes; the node itself where the slot is empty.
        mask: whether the slot is taken.
    """

    index: Int[Array, "node neighbor"]
    mask: Bool[Array, "node neighbor"]


def nearest_nodes(x: Float[Array, "node d"], graph: Graph, k: int) -> Neighborhood:
    """The k nodes of each node's graph whose x are nearest to its own, itself among them.

    Of nodes equally far the one that is listed first: the order of nodes matters where that is so,
    as in lattices, and nowhere else. Padding has no neighbours.

    Args:
        x: positions, or features of any dimension.
        graph: which nodes belong together; its edges are not read.
        k: slots; empty ones remain where a graph has fewer nodes.
    """
    rows, real = (a[:-1] for a in by_graph(jax.lax.stop_gradient(x), graph))  # but for padding
    found = nearest(rows, rows, real, k=k, query_mask=real)
    first = jnp.cumsum(graph.n_node) - graph.n_node
    index = of_members(found.index + first[:-1, None, None], graph)
    mask = jnp.arange(k)[None] < of_members(found.count, graph)[:, None]
    own = jnp.arange(n_nodes(graph), dtype=index.dtype)[:, None]
    return Neighborhood(jnp.where(mask, index, own), mask)


def neighbor_max(
    x: Float[Array, "node channel"], near: Neighborhood
) -> Float[Array, "node channel"]:
    """The largest value among each node's neighbours, channel by channel.

    The derivative is that of the first neighbour with this value. The slots are written out, so
    that a compiler makes one loop of them: for 20 neighbours of 4096 nodes in 256 channels a CPU
    core takes 9 ms with the derivative, and 150 ms for a gather and a maximum.
    """
    fixed = jax.lax.stop_gradient(x)
    row = jnp.broadcast_to(near.index[:, :1], x.shape)
    largest = _rows(fixed, near.index[:, 0])
    for slot in range(1, near.index.shape[1]):
        index = near.index[:, slot]
        value = _rows(fixed, index)
        larger = value > largest
        largest = jnp.where(larger, value, largest)
        row = jnp.where(larger, index[:, None], row)
    return jnp.take_along_axis(x, row, 0, mode="promise_in_bounds")


def neighbor_mean(
    function: Callable[[Float[Array, "node *d"]], Float[Array, "node *e"]],
    x: Float[Array, "node *d"],
    near: Neighborhood,
) -> Float[Array, "node *e"]:
    """The mean of a function over each node's neighbours; zero where there are none.

    Nothing is held for more than one slot, and for derivatives the function is evaluated again.

    Args:
        function: of what one neighbour of each node has, row by row; no module is called in it.
        x: what nodes have.
        near: whose neighbours they are.
    """

    @jax.checkpoint
    def add(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        index, taken = slot
        term = function(_rows(x, index))
        return total + jnp.where(taken.reshape(-1, *[1] * (term.ndim - 1)), term, 0), None

    like = jax.eval_shape(function, x)
    none = jnp.zeros(like.shape, like.dtype)
    total, _ = jax.lax.scan(add, none, (near.index.T, near.mask.T))
    count = jnp.maximum(jnp.sum(near.mask, 1), 1).astype(total.dtype)
    return total / count.reshape(-1, *[1] * (total.ndim - 1))


def _rows(x: Array, index: Array) -> Array:
    return x.at[index].get(mode="promise_in_bounds")
