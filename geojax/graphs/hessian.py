"""Hessians in batches: rows of 3 x 3 blocks, one row per node.

On the host the Hessian of a structure is `[node, 3, node, 3]`. In a batch it is
`[node, slot, 3, 3]`: block (i, k) is d²E / dr_i dr_j with j the k-th node of the graph that i
belongs to, and zero where that graph has no k-th node. So the Hessians of a batch of small
molecules take little room, and a label is masked entry by entry: its mask is `[node, slot]`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.graphs.graph import Graph
from geojax.graphs.members import members

__all__ = [
    "block_rows",
    "graph_hessians",
    "whole_hessian",
]


def block_rows(
    hessian: Float[np.ndarray, "node 3 node 3"], slots: int
) -> Float[np.ndarray, "node slots 3 3"]:
    """The rows of one structure's Hessian, zero beyond its size.

    Raises:
        ValueError: the structure has more nodes than there are slots.
    """
    n_node = len(hessian)
    if n_node > slots:
        raise ValueError(
            f"the rows of a Hessian have a slot for every node of its structure; got {n_node} "
            f"nodes and {slots} slots; give as many slots as the largest structure has nodes"
        )
    rows = np.zeros((n_node, slots, 3, 3), hessian.dtype)
    rows[:, :n_node] = hessian.transpose(0, 2, 1, 3)
    return rows


def whole_hessian(rows: Float[np.ndarray, "node slot 3 3"]) -> Float[np.ndarray, "node 3 node 3"]:
    """The Hessian of one structure from its rows; the inverse of `block_rows`."""
    return rows[:, : len(rows)].transpose(0, 2, 1, 3)


def graph_hessians(
    rows: Float[Array, "node slot 3 3"], graph: Graph
) -> tuple[Float[Array, "graph 3*slot 3*slot"], Bool[Array, "graph slot"]]:
    """A matrix for each graph, zero beyond its size, and which of its nodes are real."""
    slots = rows.shape[1]
    node, real = members(graph, slots)
    blocks = jnp.where(real[..., None, None, None], rows[node], 0)
    matrices = jnp.moveaxis(blocks, 3, 2)  # graph, node, xyz, node, xyz
    return matrices.reshape(-1, 3 * slots, 3 * slots), real
