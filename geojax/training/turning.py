"""Structures and their labels as rotations turn them: the whole, or one cloud of a pair."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from e3nn_jax import Irreps
from jaxtyping import Array, Float

from geojax.graphs import (
    Batch,
    Properties,
    centered,
    graph_of_nodes,
    is_per_node,
    leaves,
    pool,
    replace_leaves,
    split_parts,
)
from geojax.symmetrize.average import into_frame, turn_irreps

__all__ = ["Turning", "partner_turned", "turned"]

PHYSICAL = ("forces", "stress", "hessian")  # labels of one structure, not of a pair


class Turning(NamedTuple):
    """What turns with the positions.

    Attributes:
        inputs: names of node arrays `[node, ..., 3]`.
        labels: irreps of targets and node targets, by the names of `graphs.leaves`.
    """

    inputs: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}


def turned(batch: Batch, matrices: Float[Array, "graph 3 3"], turning: Turning) -> Batch:
    """Each structure and its labels, as an orthogonal matrix turns them."""
    origins = jnp.zeros_like(matrices[:, 0])
    graph = into_frame(batch.graph, matrices.mT, origins, vectors=turning.inputs)
    at_node = matrices[graph_of_nodes(graph)]
    labels = leaves(batch.labels)
    for name, value in labels.items():
        if name == "forces":
            labels[name] = turn_irreps(value, at_node, "1o")
        elif name == "stress":
            labels[name] = _tensor(matrices, value)
        elif name == "hessian":
            labels[name] = _tensor(at_node[:, None], value)
        elif name in turning.labels:
            rows = at_node if is_per_node(name) else matrices
            labels[name] = _of_irreps(value, rows, turning.labels[name])
    return batch._replace(graph=graph, labels=replace_leaves(Properties(), labels))


def partner_turned(batch: Batch, matrices: Float[Array, "graph 3 3"], turning: Turning) -> Batch:
    """The second cloud of each pair turned about the origin, which becomes the mean of all again.

    x -> R x + t takes the first cloud to the second: every target `[3, 3]` is such an R, and one
    that is a vector is the t of the first of them. Vectors of nodes turn with their cloud; places
    in a common frame stay.

    Raises:
        KeyError: the structures have no parts.
        ValueError: another label that turns.
    """
    labels = leaves(batch.labels)
    vectors = {n for n, irreps in turning.labels.items() if irreps in ("1o", "1x1o")}
    poses = [n for n, v in labels.items() if n.startswith("targets.") and v.shape[1:] == (3, 3)]
    whole = {n for n in turning.labels if n in labels and not is_per_node(n)} - {*poses}
    turns = {n for n in whole if any(item.ir.l for item in Irreps(turning.labels[n]))}
    if other := (turns - (vectors if poses else set())) | ({*labels} & {*PHYSICAL}):
        raise ValueError(
            "what turns with one cloud of a pair is its pose, a rotation [3, 3] and a vector; got "
            f"{', '.join(sorted(other))} as well"
        )
    parts = split_parts(batch.graph, 2)
    own = jnp.broadcast_to(jnp.eye(3, dtype=matrices.dtype)[None], matrices.shape)
    each = jnp.stack([own, matrices], 1).reshape(-1, 3, 3)
    nodes = into_frame(parts, each.mT, jnp.zeros_like(each[:, 0]), vectors=turning.inputs).nodes
    graph = batch.graph._replace(nodes=nodes)
    mean = pool(nodes["positions"], graph, "mean")
    at_node = each[graph_of_nodes(parts)]
    for name in poses:
        labels[name] = _apply(matrices, labels[name])
    for name in turns:
        shifted = _apply(matrices, labels[name][..., None]) - mean[..., None]
        labels[name] = (shifted + _apply(labels[poses[0]], mean[..., None]))[..., 0]
    for name in {*turning.labels} & {*filter(is_per_node, labels)}:
        labels[name] = _of_irreps(labels[name], at_node, turning.labels[name])
    graph = graph._replace(nodes={**nodes, "positions": centered(graph)})
    return batch._replace(graph=graph, labels=replace_leaves(Properties(), labels))


def _apply(matrices: Array, columns: Array) -> Array:
    return jnp.einsum("rxy,ryz->rxz", matrices, columns, precision="highest")


def _tensor(matrices: Array, value: Array) -> Array:
    return jnp.einsum("...xy,...yz,...wz->...xw", matrices, value, matrices, precision="highest")


def _of_irreps(value: Array, matrices: Float[Array, "row 3 3"], irreps: str) -> Array:
    """Rows of irreps, turned; a single scalar may come without its axis."""
    if value.shape[1:] == (3, 3) and Irreps(irreps).dim != 9:  # between two clouds that turn alike
        return _tensor(matrices, value)
    if all(item.ir.l == 0 and item.ir.p == 1 for item in Irreps(irreps)):
        return value
    if value.shape[1:] == (3, 3):  # a rotation matrix, whose columns turn
        return _apply(matrices, value)
    return turn_irreps(value.reshape(len(value), -1), matrices, irreps).reshape(value.shape)
