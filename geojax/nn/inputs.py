"""What a network reads at its nodes beside positions: the species, and input arrays by name."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Graph, node_mask
from geojax.registry import did_you_mean

__all__ = ["node_scalars", "node_vectors", "one_hot_species"]


def one_hot_species(graph: Graph, elements: Sequence[int]) -> Float[Array, "node species"]:
    """One column per element, in the dtype of the positions; zero for padding nodes.

    A real node of any other element has NaN in every column: nothing computed from it can pass for
    a prediction. (On the host, unknown elements are refused with a message before that.)

    Raises:
        ValueError: the elements are not set, or one occurs twice.
    """
    if not elements or len(set(elements)) != len(elements):
        raise ValueError(
            f"a network knows its elements, each once; got elements={tuple(elements)}; give their "
            "atomic numbers (0 for bare points), or let fit_to_data read them from the data"
        )
    dtype = graph.nodes["positions"].dtype
    equal = graph.nodes["species"][:, None] == jnp.asarray(elements, jnp.int32)[None, :]
    unknown = node_mask(graph) & ~equal.any(-1)
    rows = jnp.where(node_mask(graph)[:, None], equal.astype(dtype), 0)
    return jnp.where(unknown[:, None], jnp.nan, rows)


def node_scalars(
    graph: Graph, elements: Sequence[int], scalars: Sequence[str] = (), vectors: Sequence[str] = ()
) -> Float[Array, "node d"]:
    """Invariant inputs side by side: the arrays `scalars` and the lengths of `vectors`.

    The one-hot species come first where there is more than one element, or nothing else.

    Args:
        graph: whose nodes have the arrays.
        elements: atomic numbers that the network knows.
        scalars: names of arrays `[node]` or `[node, d]`.
        vectors: names of arrays `[node, 3]` or `[node, k, 3]`.

    Raises:
        KeyError: the graph has no such array.
        ValueError: vectors have another shape; species are needed and the elements are not set, or
            one occurs twice.
    """
    parts = [_read(graph, name) for name in scalars]
    parts = [part.reshape(part.shape[0], -1) for part in parts]
    parts += [safe_norm(_channels(graph, name), 1) for name in vectors]
    if len(elements) > 1 or not parts:
        parts = [one_hot_species(graph, elements), *parts]
    return jnp.concatenate(parts, -1)


def node_vectors(graph: Graph, vectors: Sequence[str]) -> Float[Array, "node xyz d"]:
    """The arrays `vectors`, `[node, 3]` or (k vectors) `[node, k, 3]`, a channel for each vector.

    Raises:
        KeyError: the graph has no such array.
        ValueError: an array has another shape.
    """
    none = jnp.zeros((*graph.nodes["positions"].shape, 0), graph.nodes["positions"].dtype)
    return jnp.concatenate([none, *(_channels(graph, name) for name in vectors)], -1)


def _channels(graph: Graph, name: str) -> Float[Array, "node xyz d"]:
    x = _read(graph, name)
    if x.ndim not in (2, 3) or x.shape[-1] != 3:
        raise ValueError(
            "vectors of nodes are arrays [node, 3], or [node, k, 3] of k each; "
            f"{name!r} has shape {x.shape}"
        )
    return x[..., None] if x.ndim == 2 else jnp.swapaxes(x, 1, 2)


def _read(graph: Graph, name: str) -> Array:
    if name not in graph.nodes:
        raise KeyError(
            f"a network's inputs are arrays of the structures; these have {sorted(graph.nodes)}, "
            f"not {name!r}; {did_you_mean(name, graph.nodes)}"
        )
    return graph.nodes[name].astype(graph.nodes["positions"].dtype)
