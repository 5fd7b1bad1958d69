"""From structures to padded batches of a static size, on the host or inside a program.

`sample` turns a structure into a graph once. `Budget` is the static size of a batch. `pad` builds a
batch on the host; `Store` holds many samples end to end, without padding, and `take` builds the
same batch from it inside a compiled program, so that an epoch can shuffle without the host.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from geojax.graphs.graph import Graph
from geojax.graphs.hessian import block_rows
from geojax.graphs.neighbors import Edges, images, neighbor_list, order_keys, shifted, turned
from geojax.graphs.parts import PART, edges_of_parts
from geojax.graphs.structure import (
    Properties,
    Structure,
    is_per_node,
    leaves,
    replace_leaves,
)

__all__ = [
    "Batch",
    "Budget",
    "Sample",
    "Store",
    "pad",
    "sample",
    "store",
    "table",
    "take",
]

Rows = Array | np.ndarray  # on the device or on the host


class Budget(NamedTuple):
    """The static size of a batch, padding included.

    `n_graph` counts the padding graph, and `n_node` at least one padding node.
    """

    n_node: int
    n_edge: int
    n_graph: int


class Sample(NamedTuple):
    """One structure made ready, numpy float64: its graph without padding, and its labels."""

    graph: Graph
    labels: Properties


class Batch(NamedTuple):
    """What a training step reads. A network sees `graph` alone.

    Attributes:
        graph: padded.
        labels: zero where unknown and in padding; Hessians as rows (see `graphs.hessian`).
        masks: True where a label is known: `[graph]` or `[node]`, of Hessians `[node, slot]`.
    """

    graph: Graph
    labels: Properties
    masks: Properties


class Store(NamedTuple):
    """Samples end to end, unpadded: `batch` holds local senders and receivers.

    Attributes:
        batch: arrays of all samples concatenated.
        node_start: `[sample]`, the first node of each.
        edge_start: `[sample]`, the first edge of each.
    """

    batch: Batch
    node_start: Int[Rows, "sample"]
    edge_start: Int[Rows, "sample"]


def sample(
    structure: Structure,
    cutoff: float,
    *,
    nearest: int | None = None,
    slots: int | None = None,
    members: int | None = None,
    labels: Properties | None = None,
    edges: Edges | None = None,
) -> Sample:
    """The graph of a structure and its labels.

    Positions are wrapped into the cell along periodic axes (shifts change with them) and centred,
    in float64, so that float32 keeps its digits far from the origin. Where there is an input `part`
    (see `parts`), edges join nodes of one part only.

    Args:
        cutoff: [Å]; infinity joins all pairs, zero none (of networks that read no edges).
        nearest: keep only so many nearest senders of each receiver.
        slots: lay the edges out as a table of so many slots per node (see `messages`).
        members: places for the nodes of a graph, for networks that look at whole graphs (see
            `members`); the largest structure of a batch must fit.
        labels: in place of `structure.properties`.
        edges: that are known already; then cutoff and nearest are not looked at.

    Raises:
        ValueError: as `neighbor_list` and `table`; an edge names a node that is not there; more
            nodes than members.
    """
    if members is not None and members < len(structure):
        raise ValueError(
            f"a graph has a place for each of its nodes; got {len(structure)} and {members} members"
        )
    if edges is None and cutoff == 0:
        edges = Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), int))
    elif edges is None and PART in structure.inputs:
        edges = edges_of_parts(structure, cutoff, nearest=nearest)
    elif edges is None:
        edges = neighbor_list(structure, cutoff, nearest=nearest)
    else:
        _refuse_past_the_end(edges, len(structure))
    positions, edges = _near_origin(structure, edges)
    n_node = np.array([len(structure)], np.int32)
    more: dict[str, Any] = {}
    if slots is not None:
        edges, more = table(edges, len(structure), slots)
    graph = Graph(
        nodes={
            "positions": positions,
            "species": structure.species,
            **structure.inputs,
        },
        edges={"shifts": edges.shifts.astype(np.float64), **more},
        senders=edges.senders,
        receivers=edges.receivers,
        globals=_globals(structure, members),
        n_node=n_node,
        n_edge=np.array([len(edges.senders)], np.int32),
    )
    return Sample(graph, structure.properties if labels is None else labels)


def _globals(structure: Structure, members: int | None) -> dict[str, np.ndarray]:
    found = {"cell": np.zeros((1, 3, 3)) if structure.cell is None else structure.cell[None]}
    if members is not None:
        found["members"] = np.arange(members)[None] < len(structure)
    return found


def _refuse_past_the_end(edges: Edges, n_node: int) -> None:
    """On the device such an index would be clamped or dropped without a word."""
    for index in (edges.senders, edges.receivers):
        if len(index) and not 0 <= index.min() <= index.max() < n_node:
            raise ValueError(
                f"edges join nodes that exist; there are {n_node} and an edge names "
                f"{index.max() if index.min() >= 0 else index.min()}; compute the list again"
            )


def _near_origin(structure: Structure, edges: Edges) -> tuple[np.ndarray, Edges]:
    positions, moved = structure.positions.astype(np.float64), images(structure)
    if moved.any():
        positions = positions - moved @ structure.cell
        edges = shifted(edges, moved)
    return positions - (positions.mean(0) if len(positions) else 0), edges


def table(edges: Edges, n_node: int, slots: int) -> tuple[Edges, dict[str, np.ndarray]]:
    """The edges in `slots` places per node, and the edge arrays "mask" and "reverse".

    Raises:
        ValueError: a node has more neighbours than slots, or an edge has no reverse (a list of
            nearest neighbours is not symmetric).
    """
    counts = np.bincount(edges.receivers, minlength=n_node)
    if n_node and counts.max() > slots:
        raise ValueError(
            f"a table needs a slot for every neighbour; node {int(counts.argmax())} has "
            f"{int(counts.max())} and there are {slots}; give more slots"
        )
    starts = np.cumsum(counts) - counts
    place = edges.receivers * slots + np.arange(len(edges.receivers)) - starts[edges.receivers]
    node = np.repeat(np.arange(n_node, dtype=np.int32), slots)
    senders, shifts = node.copy(), np.zeros((n_node * slots, 3), int)
    senders[place], shifts[place] = edges.senders, edges.shifts
    mask = np.zeros(n_node * slots, bool)
    mask[place] = True
    back = np.arange(n_node * slots, dtype=np.int32)
    back[place] = place[_reverse(edges, n_node)]
    return Edges(senders, node, shifts), {"mask": mask, "reverse": back}


def _reverse(edges: Edges, n_node: int) -> np.ndarray:
    """The index of each edge's reverse."""
    there = order_keys(edges, n_node)
    back = order_keys(turned(edges), n_node)
    first, second = np.argsort(there, kind="stable"), np.argsort(back)
    if not np.array_equal(there[first], back[second]):
        raise ValueError(
            "the table layout needs the reverse of every edge; this list is not symmetric; "
            "use a cutoff rather than the nearest neighbours, or the list layout"
        )
    index = np.empty(len(first), np.int32)
    index[second] = first
    return index


def store(
    samples: Sequence[Sample], dtype: Any = np.float32, *, hessian_slots: int | None = None
) -> Store:
    """All samples end to end, floats as `dtype`; labels that some lack are masked there.

    Args:
        hessian_slots: of the rows of Hessians; as many as the largest sample has nodes by default.

    Raises:
        ValueError: no sample; samples differ in their inputs, edge layout or shapes of labels; a
            Hessian needs more slots.
    """
    if not samples:
        raise ValueError("a store holds at least one sample; got none")
    graphs = [s.graph for s in samples]
    for part in ("nodes", "edges"):
        keys = {frozenset(getattr(graph, part)) for graph in graphs}
        if len(keys) > 1:
            raise ValueError(
                f"the graphs of a store have the same {part}; got both "
                f"{' and '.join(str(sorted(k)) for k in sorted(keys, key=sorted)[:2])}; "
                "give all structures the same inputs and the same edge layout"
            )
    join = lambda *arrays: _cast(np.concatenate(arrays), dtype)
    graph = jax.tree.map(join, *graphs) if len(graphs) > 1 else jax.tree.map(join, graphs[0])
    labels, masks = _labels(samples, dtype, hessian_slots)
    starts = lambda n: (np.cumsum(n) - n).astype(np.int32)
    return Store(Batch(graph, labels, masks), starts(graph.n_node), starts(graph.n_edge))


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    kinds = {"f": dtype, "i": np.int32, "u": np.int32}
    return array.astype(kinds.get(array.dtype.kind, array.dtype))


def _labels(
    samples: Sequence[Sample], dtype: Any, hessian_slots: int | None
) -> tuple[Properties, Properties]:
    """Joined labels and masks of every property that at least one sample has."""
    found = [leaves(s.labels) for s in samples]
    sizes = [len(s.graph.nodes["positions"]) for s in samples]
    values, masks = {}, {}
    for name in sorted(set().union(*found)):
        if name == "hessian":
            rows = _hessians(found, sizes, hessian_slots or max(sizes))
            values[name], masks[name] = _cast(rows[0], dtype), rows[1]
            continue
        like = np.asarray(next(f[name] for f in found if name in f))
        node = is_per_node(name)
        tail = like.shape[1:] if node else like.shape
        rows, known = [], []
        for label, size in zip(found, sizes, strict=True):
            shape = (size, *tail) if node else tail
            value = label.get(name, np.zeros(shape, like.dtype))
            if np.shape(value) != shape:
                raise ValueError(
                    f"every structure gives {name} in one shape; got {np.shape(value)} "
                    f"where {shape} was expected"
                )
            rows.append(value if node else np.asarray(value)[None])
            known.append(np.full(len(rows[-1]), name in label))
        values[name] = _cast(np.concatenate(rows), dtype)
        masks[name] = np.concatenate(known)
    return replace_leaves(Properties(), values), replace_leaves(Properties(), masks)


def _hessians(
    found: Sequence[Mapping[str, Any]], sizes: Sequence[int], slots: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all Hessians, `[node, slot, 3, 3]`, and where they are known, `[node, slot]`."""
    rows, known = [], []
    for label, size in zip(found, sizes, strict=True):
        empty = np.zeros((size, 3, size, 3))
        rows.append(block_rows(np.asarray(label.get("hessian", empty)), slots))
        there = (np.arange(slots) < size) & ("hessian" in label)
        known.append(np.broadcast_to(there, (size, slots)))
    return np.concatenate(rows), np.concatenate(known)


def pad(samples: Sequence[Sample], budget: Budget, dtype: Any = np.float32) -> Batch:
    """One batch on the host.

    Raises:
        ValueError: the samples do not fit the budget.
    """
    sizes = Budget(
        sum(int(s.graph.n_node[0]) for s in samples) + 1,
        sum(int(s.graph.n_edge[0]) for s in samples),
        len(samples) + 1,
    )
    if any(need > have for need, have in zip(sizes, budget, strict=True)):
        raise ValueError(
            f"a batch must fit its budget; it needs {sizes} (padding counted) and the budget is "
            f"{budget}; take fewer structures or a larger budget"
        )
    ids = np.full(budget.n_graph - 1, -1, np.int32)
    ids[: len(samples)] = np.arange(len(samples))
    return take(store(samples, dtype), ids, budget, np)


def take(store: Store, ids: Int[Rows, "slot"], budget: Budget, xp: Any = jnp) -> Batch:
    """The batch of the samples `ids` (-1: none) from a store; traceable, nothing is copied twice.

    Args:
        ids: `[n_graph - 1]`.
        xp: `jax.numpy`, or `numpy` to work on the host. The sizes are not checked here: the sum
            over `ids` must fit the budget.

    Raises:
        ValueError: the store holds tables and the budget has another number of edges per node.
    """
    graph = store.batch.graph
    if "mask" in graph.edges:
        slots = len(graph.edges["mask"]) // len(graph.nodes["positions"])
        if budget.n_edge != slots * budget.n_node:
            raise ValueError(
                f"tables of {slots} slots need {slots} edges for each node of the budget; "
                f"got {budget}; give n_edge = {slots * budget.n_node}"
            )
    there = ids >= 0
    end = xp.zeros(1, xp.int32)
    n_node = xp.concatenate([xp.where(there, graph.n_node[ids], 0), end])
    n_edge = xp.concatenate([xp.where(there, graph.n_edge[ids], 0), end])
    first_node, first_edge = xp.cumsum(n_node) - n_node, xp.cumsum(n_edge) - n_edge
    start = lambda starts: xp.concatenate([xp.where(there, starts[ids], 0), end])

    slot, local, real = _places(n_node, first_node, budget.n_node, xp)
    node = xp.where(real, start(store.node_start)[slot] + local, 0)
    edge_slot, local, real_edge = _places(n_edge, first_edge, budget.n_edge, xp)
    edge = xp.where(real_edge, start(store.edge_start)[edge_slot] + local, 0)
    every = xp.arange(budget.n_edge, dtype=xp.int32)
    rest = n_node.sum() if "mask" not in graph.edges else every // (budget.n_edge // budget.n_node)
    ends = lambda index: xp.where(
        real_edge, _pick(index, edge, real_edge, xp) + first_node[edge_slot], rest
    )

    pick = lambda rows, real, xs: jax.tree.map(lambda a: _pick(a, rows, real, xp), xs)
    per_graph = xp.concatenate([xp.where(there, ids, 0), end])
    real_graph = xp.concatenate([there, xp.zeros(1, bool)])
    edges = pick(edge, real_edge, graph.edges)
    if "reverse" in edges:
        back = xp.where(real_edge, edges["reverse"] + first_edge[edge_slot], every)
        edges["reverse"] = back.astype(xp.int32)
    pad_node = xp.arange(budget.n_graph) == budget.n_graph - 1
    whole = lambda n, total: xp.where(pad_node, total - n.sum(), n).astype(xp.int32)
    out = Graph(
        nodes=pick(node, real, graph.nodes),
        edges=edges,
        senders=ends(graph.senders).astype(xp.int32),
        receivers=ends(graph.receivers).astype(xp.int32),
        globals=pick(per_graph, real_graph, graph.globals),
        n_node=whole(n_node, budget.n_node),
        n_edge=whole(n_edge, budget.n_edge),
    )
    in_rows = lambda name: is_per_node(name) or name == "hessian"
    rows = lambda name: (node, real) if in_rows(name) else (per_graph, real_graph)
    labelled = lambda p: replace_leaves(
        Properties(), {name: _pick(a, *rows(name), xp) for name, a in leaves(p).items()}
    )
    return Batch(out, labelled(store.batch.labels), labelled(store.batch.masks))


def _places(count: Rows, first: Rows, total: int, xp: Any) -> tuple[Rows, Rows, Rows]:
    """Of each of `total` rows: its slot in `ids`, its row in that sample, and if it is real."""
    row = xp.arange(total, dtype=xp.int32)
    index = xp.arange(len(count), dtype=xp.int32)
    if xp is np:
        slot = np.repeat(index, [*count[:-1], total - count.sum()])
    else:
        slot = xp.repeat(index, count, total_repeat_length=total)
    real = row < count.sum()
    return slot, row - first[slot], real


def _pick(array: Rows, rows: Rows, real: Rows, xp: Any) -> Rows:
    """Rows of an array, zero where not real."""
    if not len(array):  # no sample has an edge
        return xp.zeros((len(rows), *array.shape[1:]), array.dtype)
    return xp.where(
        real.reshape(-1, *[1] * (array.ndim - 1)),
        array[rows],
        xp.zeros((), array.dtype),
    )
