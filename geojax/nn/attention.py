"""Attention over the edges that arrive at a node, smooth where neighbours come and go.

    a_ij = u_ij * u_ij exp(l_ij) / sum over k of u_ik exp(l_ik)

With logits l and an envelope u that vanishes at the cutoff. Without one (u = 1) it is the softmax
of the published networks, whose weights jump when a neighbour enters. The first factor u makes the
weight of the last neighbour of a node vanish as well.

References:
    Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers", NeurIPS 2020. The envelope is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_divide
from geojax.graphs import Graph, from_receivers, largest_at_receivers, to_receivers

__all__ = ["edge_softmax"]


def edge_softmax(
    logits: Float[Array, "edge head"], graph: Graph, envelope: Float[Array, "edge"] | None = None
) -> Float[Array, "edge head"]:
    """The weight of each edge among those that arrive at its receiver.

    Without an envelope the weights of a node sum to one. Rows of padding edges are finite.

    Args:
        logits: of each edge and head.
        graph: the graph of the edges.
        envelope: factor of each edge, zero from the cutoff on; None leaves it out.
    """
    factor = jnp.ones_like(logits[:, :1]) if envelope is None else envelope[:, None]
    near = factor >= jnp.finfo(factor.dtype).tiny
    factor = jnp.where(near, factor, 0)
    # The largest weight is no part of the result, and is taken out of its derivatives too. With it
    # the sum is at least one: its square does not vanish where all neighbours are at the cutoff.
    heights = jnp.where(near, logits + jnp.log(jnp.where(near, factor, 1)), -jnp.inf)
    largest = jax.lax.stop_gradient(largest_at_receivers(heights, graph))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    heights = jnp.where(near, logits - from_receivers(largest, graph), 0)
    weights = factor * jnp.exp(heights)
    total = from_receivers(to_receivers(weights, graph), graph)
    share = safe_divide(weights, total)
    return share if envelope is None else factor * share
