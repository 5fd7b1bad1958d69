"""From nodes to graphs: sums, means and maxima over the nodes of each graph."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.graphs.graph import Graph, graph_mask, graph_of_nodes, node_mask

__all__ = ["POOLS", "centered", "pool"]

POOLS = ("sum", "mean", "max")


def pool(x: Float[Array, "node d"], graph: Graph, how: str = "sum") -> Float[Array, "graph d"]:
    """The sum, mean or maximum over the nodes of each graph; zero for padding graphs.

    Raises:
        ValueError: `how` is none of POOLS.
    """
    if how not in POOLS:
        raise ValueError(f"nodes are pooled by {', '.join(POOLS)}; got {how!r}")
    real = node_mask(graph)[:, None]
    index, n_graph = graph_of_nodes(graph), graph.n_node.shape[0]
    if how == "max":
        low = jnp.finfo(x.dtype).min
        top = jax.ops.segment_max(jnp.where(real, x, low), index, n_graph, indices_are_sorted=True)
        return jnp.where(graph_mask(graph)[:, None], top, 0)
    total = jax.ops.segment_sum(jnp.where(real, x, 0), index, n_graph, indices_are_sorted=True)
    if how == "sum":
        return total
    return total / jnp.maximum(graph.n_node, 1).astype(x.dtype)[:, None]


def centered(graph: Graph) -> Float[Array, "node 3"]:
    """Positions relative to the mean of their graph [Å]."""
    x = graph.nodes["positions"]
    return x - pool(x, graph, "mean")[graph_of_nodes(graph)]
