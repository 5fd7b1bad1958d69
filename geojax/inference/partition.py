"""One large structure in pieces, over several devices or one after the other on one.

Each piece holds its own atoms and a halo: the atoms, and periodic images of atoms, from which
messages reach them, as many edges away as the network passes messages on (`receptive_hops`). A
device evaluates its pieces with the unchanged network. The energy is the sum over own atoms; the
derivatives of a piece by the atoms of its halo are added to the forces on these atoms. Nothing is
approximated, so that any number of pieces gives the same numbers to rounding.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from geojax.graphs import Budget, Graph, Properties, Sample, pad
from geojax.inference.engine import Engine
from geojax.inference.predictor import LEAST, grown
from geojax.inference.receptive import receptive_hops
from geojax.model import Model
from geojax.potential import predict_fn, with_derivatives

__all__ = ["Piece", "partitioned", "pieces_of"]

AXIS = "piece"
OWN = "own"  # a node array: 1 for own atoms, 0 in the halo


class Piece(NamedTuple):
    """A part of a structure and its halo.

    Attributes:
        graph: without padding; images of atoms are nodes of their own, and no edge has a shift.
        atoms: `[node]`, of which atom of the structure each node is an image. Own atoms come first.
        own: how many they are.
    """

    graph: Graph
    atoms: Int[np.ndarray, "node"]
    own: int


def partitioned(model: Model, *, pieces: int | None = None, devices: int | None = None) -> Engine:
    """A model that evaluates structures in pieces: `Predictor(partitioned(model), batch_size=1)`.

    A `calculator` takes it likewise. It predicts energy, energies, forces and stress.

    Args:
        pieces: a multiple of the devices; those of one device are evaluated one after the other,
            so that more pieces take less memory. As many as there are devices by default.
        devices: of the default backend; all by default.

    Raises:
        ValueError: there are fewer devices, or the pieces are no multiple of them; a network that
            looks at whole structures (see `receptive_hops`); a model with other outputs than an
            energy.
    """
    there = jax.devices()
    count = len(there) if devices is None else devices
    parts = count if pieces is None else pieces
    if not 1 <= count <= len(there) or parts < 1 or parts % count:
        raise ValueError(
            f"pieces are dealt out evenly to devices that exist; got {parts} pieces and {count} "
            f"devices, and there are {len(there)}; give a multiple"
        )
    names = [output.name for output in model.card.outputs]
    if names != ["energy"]:
        raise ValueError(
            f"a structure in pieces has an energy and its derivatives; {model.card.name!r} "
            f"predicts {', '.join(names)}; evaluate the structure whole"
        )
    hops = receptive_hops(model)
    mesh = Mesh(np.array(there[:count]), (AXIS,))
    params = jax.tree.map(lambda x: np.asarray(x, model.card.dtype), model.params)

    @cache
    def program(forces: bool, stress: bool, deviations: bool) -> Callable[[Graph], Properties]:
        del deviations  # of these no property has one
        run = jax.jit(on_pieces(model, mesh, forces=forces, stress=stress))

        def evaluate(graph: Graph) -> Properties:
            cut = pieces_of(graph, parts, hops, model.network.cutoff)
            found = run(params, stacked(cut, mesh, model.card.dtype))
            return _joined(found, cut, graph)

        return evaluate

    nearest = getattr(model.network, "nearest", None)
    return Engine(model.card, model.network.cutoff, nearest, False, program)


def on_pieces(
    model: Model, mesh: Mesh, *, forces: bool, stress: bool
) -> Callable[[Any, Graph], Properties]:
    """`(params, graphs of all pieces stacked) -> Properties of all pieces stacked`."""
    run = predict_fn(model.network, model.card.outputs)

    def own_energies(params: Any, graph: Graph) -> tuple[Any, None]:
        energies = run(params, graph).energies
        assert energies is not None
        return energies * graph.nodes[OWN], None

    derivatives = with_derivatives(own_energies, forces=forces, stress=stress)

    def of_device(params: Any, graphs: Graph) -> Properties:
        return jax.lax.map(lambda graph: derivatives(params, graph)[0], graphs)

    each = P(AXIS)
    return jax.shard_map(
        of_device, mesh=mesh, in_specs=(P(), each), out_specs=each, check_vma=False
    )


def stacked(pieces: list[Piece], mesh: Mesh, dtype: str) -> Graph:
    """The graphs of all pieces in one shape, each on its device."""
    nodes = max(int(piece.graph.n_node[0]) for piece in pieces) + 1
    edges = max(int(piece.graph.n_edge[0]) for piece in pieces)
    budget = Budget(grown(nodes, LEAST.n_node), grown(edges, LEAST.n_edge), 2)
    graphs = [pad([Sample(p.graph, Properties())], budget, np.dtype(dtype)).graph for p in pieces]
    whole = jax.tree.map(lambda *parts: np.stack(parts), *graphs)
    return jax.device_put(whole, NamedSharding(mesh, P(AXIS)))


def pieces_of(graph: Graph, count: int, hops: int, cutoff: float) -> list[Piece]:
    """The graph of one structure, cut into pieces of nearly equal numbers of own atoms.

    Args:
        graph: of one structure, padded or not; edges sorted by receiver, in the list layout.
        hops: how many edges the halo is deep.
        cutoff: [Å]; longer edges, as those within the skin of a list, are left out.

    Raises:
        ValueError: several structures, fewer atoms than pieces, or a table of edges.
    """
    if len(graph.n_node) > 2 or "mask" in graph.edges:
        raise ValueError(
            "one structure at a time is cut into pieces, with a list of edges; got "
            f"{len(graph.n_node) - 1}; give batch_size=1"
        )
    n, n_edge = int(graph.n_node[0]), int(graph.n_edge[0])
    if n < count:
        raise ValueError(f"a piece has at least one atom; got {n} atoms for {count} pieces")
    nodes = {name: np.asarray(rows)[:n] for name, rows in graph.nodes.items()}
    cell = np.asarray(graph.globals["cell"], np.float64)[0]
    x = nodes["positions"] = nodes["positions"].astype(np.float64)
    ends = np.asarray(graph.senders)[:n_edge], np.asarray(graph.receivers)[:n_edge]
    shifts = np.asarray(graph.edges["shifts"], np.float64)[:n_edge]
    near = np.linalg.norm(x[ends[1]] - x[ends[0]] + shifts @ cell, axis=1) <= cutoff
    senders, receivers = (end[near].astype(np.int64) for end in ends)
    images = np.rint(shifts[near]).astype(np.int64)
    starts = np.searchsorted(receivers, np.arange(n + 1))
    result = []
    for own in _bisected(x, np.arange(n), count):
        found = _halo(own, senders, images, starts, hops)
        rows = {name: array[found.atoms] for name, array in nodes.items()}
        places = rows["positions"] + found.images @ cell
        rows["positions"] = places - places[: len(own)].mean(0)
        rows[OWN] = (np.arange(len(found.atoms)) < len(own)).astype(np.float64)
        part = Graph(
            nodes=rows,
            edges={"shifts": np.zeros((len(found.senders), 3))},
            senders=found.senders.astype(np.int32),
            receivers=found.receivers.astype(np.int32),
            globals={"cell": cell[None]},
            n_node=np.array([len(found.atoms)], np.int32),
            n_edge=np.array([len(found.senders)], np.int32),
        )
        result.append(Piece(part, found.atoms, len(own)))
    return result


def _bisected(
    x: Float[np.ndarray, "node 3"], atoms: Int[np.ndarray, "own"], count: int
) -> list[np.ndarray]:
    """The atoms in so many groups, by cuts across the longest extent."""
    if count == 1:
        return [np.sort(atoms)]
    axis = int(np.ptp(x[atoms], axis=0).argmax())
    order = atoms[np.argsort(x[atoms, axis], kind="stable")]
    left = count // 2
    middle = len(atoms) * left // count
    return [*_bisected(x, order[:middle], left), *_bisected(x, order[middle:], count - left)]


class _Halo(NamedTuple):
    """Nodes as images of atoms, own ones first, and the edges among them by node."""

    atoms: Int[np.ndarray, "node"]
    images: Int[np.ndarray, "node 3"]
    senders: Int[np.ndarray, "edge"]
    receivers: Int[np.ndarray, "edge"]


def _halo(
    own: Int[np.ndarray, "own"],
    senders: Int[np.ndarray, "edge"],
    images: Int[np.ndarray, "edge 3"],
    starts: Int[np.ndarray, "bound"],
    hops: int,
) -> _Halo:
    """Own atoms and all images from which messages reach them in so many hops.

    The edge b → a with shift s ends at the image T of a; it begins at the image T - s of b.
    """
    nodes = np.concatenate([own[:, None], np.zeros((len(own), 3), np.int64)], axis=1)
    first, begins, ends = 0, [], []
    for _ in range(hops):
        front = np.arange(first, len(nodes))
        lengths = starts[nodes[front, 0] + 1] - starts[nodes[front, 0]]
        at = np.repeat(front, lengths)
        offset = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        edge = starts[nodes[at, 0]] + offset
        begin = np.concatenate([senders[edge, None], nodes[at, 1:] - images[edge]], axis=1)
        begins.append(begin)
        ends.append(at)
        first = len(nodes)
        every, place = np.unique(np.concatenate([nodes, begin]), axis=0, return_index=True)
        nodes = np.concatenate([nodes, every[place >= first]])
    begin, receivers = np.concatenate(begins), np.concatenate(ends)
    return _Halo(nodes[:, 0], nodes[:, 1:], _rows_of(begin, nodes), receivers)


def _rows_of(
    wanted: Int[np.ndarray, "edge 4"], nodes: Int[np.ndarray, "node 4"]
) -> Int[np.ndarray, "edge"]:
    """Which row of `nodes`, in which each occurs once, each wanted row is."""
    _, where = np.unique(np.concatenate([nodes, wanted]), axis=0, return_inverse=True)
    where = where.reshape(-1)
    index = np.empty(len(nodes), np.int64)
    index[where[: len(nodes)]] = np.arange(len(nodes))
    return index[where[len(nodes) :]]


def _joined(found: Properties, pieces: list[Piece], graph: Graph) -> Properties:
    """What the pieces give, added up in float64 for the padded structure."""
    rows = len(graph.nodes["positions"])
    energies, forces = np.zeros(rows), np.zeros((rows, 3))
    host = jax.tree.map(lambda a: np.asarray(a, np.float64), found)
    for i, piece in enumerate(pieces):
        energies[piece.atoms[: piece.own]] = host.energies[i, : piece.own]
        if host.forces is not None:
            np.add.at(forces, piece.atoms, host.forces[i, : len(piece.atoms)])
    total = np.array([energies.sum(), *np.zeros(len(graph.n_node) - 1)])
    stress = None
    if host.stress is not None:
        stress = np.concatenate([host.stress.sum(0)[:1], np.zeros((len(total) - 1, 3, 3))])
    return Properties(total, None if host.forces is None else forces, stress, energies=energies)
