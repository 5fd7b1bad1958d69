"""A small network that gives every structure a frame, for `Symmetrized`: learned canonicalization.

Vectors of nodes (positions relative to the mean, velocities …) go through vector neurons, with
messages between neighbours and the mean over the structure, and end as two or three vectors of the
structure, which become its frame (`symmetrize.gram_schmidt`). No map of vectors has a bias: with
one, as in published code for n-body systems, frames do not turn with the structure.

References:
    Kaba, Mondal, Zhang, Bengio, Ravanbakhsh, "Equivariance with learned canonicalization
    functions", ICML 2023, https://arxiv.org/abs/2211.06489.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    Graph,
    centered,
    edge_vectors,
    from_receivers,
    from_senders,
    graph_mask,
    graph_of_nodes,
    pool,
    to_receivers,
)
from geojax.nn import (
    Affine,
    VectorLeakyReLU,
    VectorLinear,
    VectorNorm,
    node_vectors,
    polynomial_envelope,
    vector_leaky_relu,
)
from geojax.symmetrize import PROVIDERS, Frames, check_group, gram_schmidt
from geojax.symmetrize.frames import unless_periodic

__all__ = ["Canonicalizer"]


class VectorMessages(nn.Module):
    """One round: what neighbours and the whole structure send, and a norm."""

    channels: int

    @nn.compact
    def __call__(
        self,
        v: Float[Array, "node 3 channel"],
        edges: Float[Array, "edge 3 _"],
        near: Float[Array, "edge"],
        graph: Graph,
    ) -> Float[Array, "node 3 channel"]:
        """Messages are of both ends and of the vectors of edges, and vanish with `near`."""
        to_edge = (lambda x: from_receivers(x, graph)), (lambda x: from_senders(x, graph))
        parts = ((v, to_edge[0]), (v, to_edge[1]), edges)
        q, d = (VectorLinear(self.channels, name=name)(*parts) for name in ("message", "direction"))
        sent = vector_leaky_relu(q, d) * near[:, None, None]
        count = 1 + to_receivers(near, graph)
        heard = to_receivers(sent, graph) / count[:, None, None]
        whole = _mean(v, graph)[graph_of_nodes(graph)]
        update = VectorLeakyReLU(self.channels, name="update")(
            jnp.concatenate([v, heard, whole], -1)
        )
        return VectorNorm(name="norm")(v + update)


@PROVIDERS.register("learned")
class Canonicalizer(nn.Module):
    """One frame for each graph, from vector neurons; see the module.

    For SE(3) two vectors and their cross product, and cross products of positions along edges among
    the features. For E(3) three vectors, and no cross products, which would not be polar.

    A structure that a rotation maps onto itself has no frame that follows all its rotations: its
    vectors vanish, and symmetry is lost, as it is for frames of principal axes.
    """

    group: str = "SE(3)"  # or "E(3)"
    channels: int = 16
    layers: int = 2
    cutoff: float = math.inf  # [Å]; that of the network behind it, unless given
    nearest: int | None = None  # as in the network behind it: edges have no envelope
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar
    offset: bool = False  # the origin is not the mean, but a learned vector away from it

    conservative: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    periodic: ClassVar[bool] = False

    @nn.compact
    def __call__(self, graph: Graph) -> Frames:
        """`[graph, 1]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another group; a crystal.
        """
        check_group(self.group)
        x = centered(graph)
        v = jnp.concatenate([x[..., None], node_vectors(graph, self.vectors)], -1)
        v = VectorLinear(self.channels, name="embedding")(v) * self._species(graph)[:, None]
        vectors = edge_vectors(graph)
        edges = vectors[..., None]
        if self.group == "SE(3)":
            cross = jnp.cross(from_senders(x, graph), from_receivers(x, graph))
            edges = jnp.concatenate([edges, cross[..., None]], -1)
        cutoff = self.cutoff if self.nearest is None else math.inf
        near = polynomial_envelope(safe_norm(vectors), cutoff, 3)
        for i in range(self.layers):
            v = VectorMessages(self.channels, name=f"layer_{i}")(v, edges, near, graph)
        n_axes = {"SE(3)": 2, "E(3)": 3}[self.group]
        last = _mean(VectorLinear(n_axes + self.offset, name="vectors")(v), graph)
        origins = pool(graph.nodes["positions"], graph, "mean")
        frames = Frames(
            gram_schmidt(last[..., :n_axes], group=self.group)[:, None],
            origins + last[..., -1] if self.offset else origins,
            graph_mask(graph).astype(x.dtype)[:, None],
        )
        return unless_periodic(frames, graph, "learned")

    def _species(self, graph: Graph) -> Float[Array, "node channel"]:
        """A factor of every vector; one for points."""
        number = graph.nodes["species"].astype(graph.nodes["positions"].dtype)
        size = jnp.log1p(number)[:, None]
        hidden = nn.silu(Affine(self.channels, name="species_0")(size)) * size
        return 1 + Affine(self.channels, bias=False, name="species_1")(hidden)


def _mean(v: Float[Array, "node 3 channel"], graph: Graph) -> Float[Array, "graph 3 channel"]:
    return pool(v.reshape(v.shape[0], -1), graph, "mean").reshape(-1, *v.shape[1:])
