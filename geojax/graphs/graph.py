"""`Graph`: what a network reads. jraph's container, our conventions, and the edge vector.

Conventions (all of geojax, checked by `checks.symmetry`):

* messages go sender -> receiver, and edges are sorted by receiver;
* `nodes["positions"]` `[node, 3]` [Å] and `nodes["species"]` `[node]` (0 for a point), and what the
  structures have as inputs;
* `edges["shifts"]` `[edge, 3]`, whole lattice vectors, so that
  `r_ij = x[receiver] - x[sender] + shifts @ cell`: from sender to receiver. Keeping integers (not
  Cartesian offsets) makes strain one line and survives a moving cell;
* `globals["cell"]` `[graph, 3, 3]` [Å], zero without a lattice;
* padding comes last: the last graph owns all padding nodes, and padding edges join its first node
  to itself with zero length. There is always at least one padding node.

Optional keys choose the layout of `graphs.messages`: `edges["mask"]`, `edges["reverse"]`.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Bool, Float, Int

__all__ = [
    "Graph",
    "edge_vectors",
    "graph_mask",
    "graph_of_edges",
    "graph_of_nodes",
    "n_edges",
    "n_graphs",
    "n_nodes",
    "node_mask",
    "volumes",
]

if TYPE_CHECKING:  # jraph declares its fields as nearly anything, which says nothing of ours

    class Graph(NamedTuple):
        """`jraph.GraphsTuple` with the keys that the module describes."""

        nodes: dict[str, Any]
        edges: dict[str, Any]
        receivers: Any
        senders: Any
        globals: dict[str, Any]
        n_node: Any
        n_edge: Any

else:
    Graph = jraph.GraphsTuple
Size = Any  # int, or a symbolic size while a program of any size is exported


def n_nodes(graph: Graph) -> Size:
    """Rows of node arrays, padding included (static)."""
    return graph.nodes["positions"].shape[0]


def n_edges(graph: Graph) -> Size:
    """Rows of edge arrays, padding included (static)."""
    return graph.senders.shape[0]


def n_graphs(graph: Graph) -> Size:
    """Rows of graph arrays, padding included (static)."""
    return graph.n_node.shape[0]


def graph_of_nodes(graph: Graph) -> Int[Array, "node"]:
    """The graph that each node belongs to."""
    index = jnp.arange(n_graphs(graph), dtype=jnp.int32)
    return jnp.repeat(index, graph.n_node, total_repeat_length=n_nodes(graph))


def graph_of_edges(graph: Graph) -> Int[Array, "edge"]:
    """The graph that each edge belongs to."""
    index = jnp.arange(n_graphs(graph), dtype=jnp.int32)
    return jnp.repeat(index, graph.n_edge, total_repeat_length=n_edges(graph))


def graph_mask(graph: Graph) -> Bool[Array, "graph"]:
    """True for real graphs; the last one is padding, and so are empty ones before it."""
    last = jnp.arange(n_graphs(graph)) == n_graphs(graph) - 1
    return (graph.n_node > 0) & ~last


def node_mask(graph: Graph) -> Bool[Array, "node"]:
    """True for nodes of real graphs."""
    return jnp.arange(n_nodes(graph)) < n_nodes(graph) - graph.n_node[-1]


def edge_vectors(graph: Graph) -> Float[Array, "edge 3"]:
    """r_ij = x[receiver] - x[sender] + shifts @ cell [Å], from sender to receiver."""
    from geojax.graphs.messages import from_receivers, from_senders

    x = graph.nodes["positions"]
    difference = from_receivers(x, graph) - from_senders(x, graph)
    shifts = graph.edges["shifts"].astype(x.dtype)
    if n_graphs(graph) == 2:  # one real graph: no gather of cells
        return difference + shifts @ graph.globals["cell"][0].astype(x.dtype)
    cells = graph.globals["cell"].astype(x.dtype)[graph_of_edges(graph)]
    return difference + jnp.einsum("es,esx->ex", shifts, cells)


def volumes(graph: Graph) -> Float[Array, "graph"]:
    """|det cell| [Å³] of each graph; zero without a lattice."""
    a, b, c = jnp.moveaxis(graph.globals["cell"], -2, 0)
    return jnp.abs(jnp.sum(a * jnp.cross(b, c), -1))
