"""Parts of structures as graphs of their own: pairs of clouds, pieces of a broken shape.

The node input `part` numbers the parts of a structure from 0, in ascending order. Edges join nodes
of one part only (`graphs.sample`), so that parts become graphs without moving a node: what looks at
one cloud runs on every part, and what joins them reads `[graph, part]`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from geojax.graphs.graph import Graph, graph_mask, graph_of_nodes, n_graphs
from geojax.graphs.neighbors import Edges, neighbor_list
from geojax.graphs.structure import Structure

__all__ = [
    "PART",
    "check_parts",
    "clouds_of_nodes",
    "edges_of_parts",
    "part_mask",
    "part_sizes",
    "split_parts",
]

PART = "part"  # the name of the node input


def check_parts(part: np.ndarray) -> None:
    """Refuse what does not number parts in order.

    Raises:
        ValueError: not one whole number from 0 for each node, or they fall.
    """
    bad = part.ndim != 1 or (part != np.floor(part)).any() or part.min(initial=0) < 0
    if bad or (np.diff(part) < 0).any():
        raise ValueError(
            "the input 'part' numbers the parts of a structure from 0, its nodes in that order; "
            f"got shape {part.shape}, numbers {np.unique(part)[:6].tolist()}"
            + ("" if bad else " that fall")
            + "; sort the nodes by their part"
        )


def edges_of_parts(structure: Structure, cutoff: float, *, nearest: int | None = None) -> Edges:
    """The neighbour lists of all parts; see `neighbor_list`.

    Raises:
        ValueError: as `check_parts` and `neighbor_list`.
    """
    part = np.asarray(structure.inputs[PART])
    check_parts(part)
    found, first = [], 0
    for size in np.unique(part, return_counts=True)[1].tolist():
        rows = slice(first, first + size)
        alone = Structure(
            structure.positions[rows], structure.species[rows], structure.cell, structure.pbc
        )
        senders, receivers, shifts = neighbor_list(alone, cutoff, nearest=nearest)
        found.append((senders + np.int32(first), receivers + np.int32(first), shifts))
        first += size
    return Edges(*(np.concatenate(column) for column in zip(*found, strict=True)))


def clouds_of_nodes(graph: Graph) -> Int[Array, "node"]:
    """A number for each graph, or, where there is an input `part`, for each part; ascending."""
    graphs = graph_of_nodes(graph)
    if PART not in graph.nodes:
        return graphs
    part = graph.nodes[PART]
    new = (graphs[1:] != graphs[:-1]) | (part[1:] != part[:-1])
    return jnp.cumsum(jnp.concatenate([jnp.zeros(1, jnp.int32), new.astype(jnp.int32)]))


def part_sizes(graph: Graph, count: int) -> Int[Array, "graph part"]:
    """How many nodes each part of each graph has; all of padding are in the last part.

    Args:
        count: of parts; higher numbers count as the last one.

    Raises:
        KeyError: the graph has no input `part`.
    """
    return _counts(_place(graph, count), graph, count).reshape(n_graphs(graph), count)


def _place(graph: Graph, count: int) -> Int[Array, "node"]:
    """The number of each node's part among those of all graphs, ascending."""
    if PART not in graph.nodes:
        raise KeyError(f"parts are told by the node input {PART!r}; got {sorted(graph.nodes)}")
    part = jnp.clip(graph.nodes[PART].astype(jnp.int32), 0, count - 1)
    index = graph_of_nodes(graph)
    return index * count + jnp.where(index == n_graphs(graph) - 1, count - 1, part)


def _counts(place: Array, graph: Graph, count: int) -> Array:
    """How many rows each part has."""
    ones, total = jnp.ones_like(place), n_graphs(graph) * count
    return jax.ops.segment_sum(ones, place, total, indices_are_sorted=True)


def part_mask(graph: Graph, count: int) -> Bool[Array, "graph part"]:
    """True for parts that have nodes, of real graphs."""
    return (part_sizes(graph, count) > 0) & graph_mask(graph)[:, None]


def split_parts(graph: Graph, count: int) -> Graph:
    """The same nodes and edges, with each part as a graph: part k of graph g is g * count + k.

    Args:
        count: of parts of every graph; empty ones are graphs without nodes.

    Raises:
        KeyError: the graph has no input `part`.
    """
    place = _place(graph, count)
    repeated = {k: jnp.repeat(v, count, axis=0) for k, v in graph.globals.items()}
    return graph._replace(
        n_node=_counts(place, graph, count),
        # Edges are sorted by receiver, hence by part.
        n_edge=_counts(place[graph.receivers], graph, count),
        globals=repeated,
    )
