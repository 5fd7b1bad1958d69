"""Structures, graphs and batches: from atoms or points on the host to padded device arrays."""

from geojax.graphs.batching import (
    Batch,
    Budget,
    Sample,
    Store,
    pad,
    sample,
    store,
    take,
)
from geojax.graphs.graph import (
    Graph,
    edge_vectors,
    graph_mask,
    graph_of_edges,
    graph_of_nodes,
    node_mask,
    volumes,
)
from geojax.graphs.hessian import block_rows, graph_hessians, whole_hessian
from geojax.graphs.members import by_graph, local_index, members, of_members, slot_nodes
from geojax.graphs.messages import (
    degree,
    from_receivers,
    from_senders,
    largest_at_receivers,
    to_receivers,
)
from geojax.graphs.neighbors import Edges, neighbor_list
from geojax.graphs.parts import check_parts, clouds_of_nodes, part_mask, part_sizes, split_parts
from geojax.graphs.pooling import POOLS, centered, pool
from geojax.graphs.structure import (
    Properties,
    Structure,
    is_per_node,
    leaf,
    leaves,
    replace_leaves,
)

__all__ = [
    "POOLS",
    "Batch",
    "Budget",
    "Edges",
    "Graph",
    "Properties",
    "Sample",
    "Store",
    "Structure",
    "block_rows",
    "by_graph",
    "centered",
    "check_parts",
    "clouds_of_nodes",
    "degree",
    "edge_vectors",
    "from_receivers",
    "from_senders",
    "graph_hessians",
    "graph_mask",
    "graph_of_edges",
    "graph_of_nodes",
    "is_per_node",
    "largest_at_receivers",
    "leaf",
    "leaves",
    "local_index",
    "members",
    "neighbor_list",
    "node_mask",
    "of_members",
    "pad",
    "part_mask",
    "part_sizes",
    "pool",
    "replace_leaves",
    "sample",
    "slot_nodes",
    "split_parts",
    "store",
    "take",
    "to_receivers",
    "volumes",
    "whole_hessian",
]
