"""Graphs as rows of their nodes, `[graph, member]`: for what looks at a whole graph at once.

A batch holds nodes end to end. Searches in feature space, attention among all points and maxima
over neighbours want one row for each graph instead, with as many places as the largest has nodes.
That number is static: a batch carries it as the shape of `globals["members"]` (`sample(...,
members=)`); without, there are as many places as the batch has nodes, which is right and slow.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from geojax.graphs.graph import Graph, Size, graph_mask, graph_of_nodes, n_nodes, node_mask

__all__ = ["by_graph", "local_index", "members", "of_members", "slot_nodes"]


def members(
    graph: Graph, places: Size | None = None
) -> tuple[Int[Array, "graph member"], Bool[Array, "graph member"]]:
    """The nodes of each graph, and which places are taken; node 0 in the others.

    Args:
        graph: padding graphs have no members.
        places: of each graph; nodes beyond them are left out. As the graph says by default.
    """
    if places is None:
        places = graph.globals["members"].shape[1] if "members" in graph.globals else n_nodes(graph)
    first = (jnp.cumsum(graph.n_node) - graph.n_node)[:, None]
    place = jnp.arange(places, dtype=jnp.int32)[None, :]
    real = (place < graph.n_node[:, None]) & graph_mask(graph)[:, None]
    return jnp.where(real, first + place, 0), real


def by_graph(
    x: Shaped[Array, "node *d"], graph: Graph
) -> tuple[Shaped[Array, "graph member *d"], Bool[Array, "graph member"]]:
    """The rows of x for each graph, zero where a place is empty, and which are taken."""
    node, real = members(graph)
    rows = x.at[node].get(mode="promise_in_bounds")
    taken = real.reshape(*real.shape, *[1] * (x.ndim - 1))
    return jnp.where(taken, rows, jnp.zeros((), x.dtype)), real


def of_members(x: Shaped[Array, "some member *d"], graph: Graph) -> Shaped[Array, "node *d"]:
    """The row of each node; the inverse of `by_graph`. Zero for padding, whose row is not read."""
    rows = x[graph_of_nodes(graph), jnp.minimum(local_index(graph), x.shape[1] - 1)]
    real = node_mask(graph).reshape(-1, *[1] * (x.ndim - 2))
    return jnp.where(real, rows, jnp.zeros((), x.dtype))


def local_index(graph: Graph) -> Int[Array, "node"]:
    """The number of each node within its graph."""
    first = jnp.cumsum(graph.n_node) - graph.n_node
    return jnp.arange(n_nodes(graph), dtype=jnp.int32) - first[graph_of_nodes(graph)]


def slot_nodes(
    graph: Graph, slots: Size
) -> tuple[Int[Array, "node slot"], Bool[Array, "node slot"]]:
    """The members of each node's graph, and which slots are taken; node 0 in the others."""
    node, real = members(graph, slots)
    index = graph_of_nodes(graph)
    mine = real[index] & node_mask(graph)[:, None]
    return jnp.where(mine, node[index], 0), mine
