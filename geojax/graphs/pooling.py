"""From nodes to graphs: sums, means, maxima and dipoles over the nodes of each graph."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.graphs.graph import Graph, graph_mask, graph_of_nodes, node_mask

__all__ = ["POOLS", "centered", "pool"]

POOLS = ("sum", "mean", "max", "dipole")


def pool(x: Float[Array, "node d"], graph: Graph, how: str = "sum") -> Float[Array, "graph _"]:
    """The sum, mean, maximum or dipole over the nodes of each graph; zero for padding graphs.

    Args:
        x: values of nodes; for a dipole their charges, or charges and dipoles (see `_dipole`).
        graph: whose nodes they are.
        how: one of POOLS.

    Raises:
        ValueError: `how` is none of POOLS.
    """
    if how not in POOLS:
        raise ValueError(f"nodes are pooled by {', '.join(POOLS)}; got {how!r}")
    if how == "dipole":
        return _dipole(x, graph)
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


def _dipole(x: Float[Array, "node d"], graph: Graph) -> Float[Array, "graph 3"]:
    """sum_i q_i r_i + d_i, of neutral molecules: the mean of q is subtracted from it.

    So no origin has a part in it. In a periodic cell it depends on which image of an atom is
    listed.

    Args:
        x: q and (if there are four columns) d, as x, y, z.
        graph: whose positions are taken.

    References:
        Schütt, Unke, Gastegger, "Equivariant message passing", ICML 2021 (PaiNN).
    """
    q = x[:, :1]
    q = q - pool(q, graph, "mean")[graph_of_nodes(graph)]
    terms = q * centered(graph)
    return pool(terms + x[:, 1:] if x.shape[-1] == 4 else terms, graph)
