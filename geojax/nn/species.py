"""The species of nodes as a network reads them: one-hot among the elements it knows."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.graphs import Graph, node_mask

__all__ = ["one_hot_species"]


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
