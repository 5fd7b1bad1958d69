"""EGNN: messages from scalars and squared distances, equivariant through relative positions.

With h_i scalars, r_ij = x_i - x_j, a_ij edge attributes (products of charges, projections of
vectors):

    m_ij = phi_e(h_i, h_j, |r_ij|², a_ij) [* sigmoid(w·m_ij)]
    x_i <- x_i + mean_j r_ij phi_x(m_ij) + phi_v(h_i) v_i
    h_i <- h_i + phi_h(h_i, sum_j m_ij)

References:
    Satorras, Hoogeboom, Welling, "E(n) Equivariant Graph Neural Networks", ICML 2021. As in the
    authors' code, the coordinate sum is a mean, every layer adds the *initial* velocity, and phi_x
    starts near zero. Their clamp of each summand to ±100 is left out: it breaks equivariance.
"""

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.graphs import (
    Graph,
    edge_vectors,
    from_receivers,
    from_senders,
    graph_of_nodes,
    pool,
    to_receivers,
)
from geojax.networks.network import NETWORKS
from geojax.nn import Affine, polynomial_envelope, sum_divisor

__all__ = ["EGNN"]


class Layer(nn.Module):
    """One round of messages; `moved` is what the positions have moved since the input."""

    channels: int
    attention: bool
    update_positions: bool

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "node channel"],
        moved: Float[Array, "node 3"],
        vectors: Float[Array, "edge 3"],
        attributes: Float[Array, "edge _"],
        envelope: Float[Array, "edge 1"] | None,
        velocity: Float[Array, "node 3"] | None,
        neighbors: Float[Array, "#node 1"],
        graph: Graph,
    ) -> tuple[Float[Array, "node channel"], Float[Array, "node 3"]]:
        width = self.channels
        if self.update_positions:
            vectors = vectors + from_receivers(moved, graph) - from_senders(moved, graph)
        square = jnp.sum(vectors * vectors, -1, keepdims=True)

        to_edge = (
            partial(from_receivers, graph=graph),
            partial(from_senders, graph=graph),
        )
        m = Affine(width, name="edge_0")((h, to_edge[0]), (h, to_edge[1]), square, attributes)
        m = nn.silu(Affine(width, name="edge_1")(nn.silu(m)))
        if self.attention:
            m = m * nn.sigmoid(Affine(1, name="attention")(m))
        if envelope is not None:
            m = m * envelope

        if self.update_positions:
            pull = Affine(1, bias=False, gain=1e-3, name="position_1")(
                nn.silu(Affine(width, name="position_0")(m))
            )
            moved = moved + to_receivers(vectors * pull, graph) / neighbors
            if velocity is not None:
                speed = Affine(1, name="velocity_1")(nn.silu(Affine(width, name="velocity_0")(h)))
                moved = moved + speed * velocity
        update = nn.silu(Affine(width, name="node_0")(h, to_receivers(m, graph)))
        return h + Affine(width, name="node_1")(update), moved


@NETWORKS.register("egnn")
class EGNN(nn.Module):
    """E(n)-equivariant network on scalars and positions.

    Inputs of a node: the one-hot species with powers of Z (where there is more than one species, or
    nothing else), the input arrays `scalars`, and the speed where there is a velocity.

    The output's scalars come from a two-layer readout of h; a single "1o" at the end of
    `irreps_out` is how far the node moved, x_out - x.
    """

    cutoff: float = math.inf  # [Å]
    nearest: int | None = None  # only so many nearest senders (not smooth: for point clouds)
    channels: int = 64
    layers: int = 4
    irreps_out: str = "0e"
    attention: bool = False  # messages times sigmoid(w·m)
    update_positions: bool = False  # nodes move; else the output is invariant
    readout: str = "node"  # "graph": sum over nodes and more layers; every node gets the result
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    velocity: str | None = None  # node input [node, 3]
    charge: str | None = None  # node input [node]; its pair product is an edge attribute
    axes: tuple[str, ...] = ()  # node inputs [node, 3] up to sign, such as normals
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty
    average_neighbors: float | None = None  # normalises positions under a finite cutoff

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: `irreps_out` holds more than scalars "0e" and one "1o".
        """
        n_scalars, moves = self._outputs()
        vectors = edge_vectors(graph)
        attributes = self._edge_attributes(graph, vectors)
        envelope = self._envelope(vectors)
        velocity = graph.nodes[self.velocity] if self.velocity else None
        h = Affine(self.channels, name="embedding")(self._node_inputs(graph))
        moved = jnp.zeros_like(graph.nodes["positions"])
        for i in range(self.layers):
            layer = Layer(self.channels, self.attention, self.update_positions, name=f"layer_{i}")
            h, moved = layer(
                h,
                moved,
                vectors,
                attributes,
                envelope,
                velocity,
                self._neighbors(graph),
                graph,
            )
        parts = [self._scalars(h, n_scalars, graph)] if n_scalars else []
        return IrrepsArray(self.irreps_out, jnp.concatenate([*parts, *[moved] * moves], -1))

    def _outputs(self) -> tuple[int, int]:
        irreps = Irreps(self.irreps_out)
        scalars, moves = irreps.count(Irrep(0, 1)), irreps.count(Irrep(1, -1))
        last = str(irreps[-1].ir) if len(irreps) else ""
        if scalars + 3 * moves != irreps.dim or moves > 1 or (moves and last != "1o"):
            raise ValueError(
                "EGNN puts out scalars and at most one vector, as in '0e', '14x0e' or '0e+1o'; "
                f"got irreps_out {self.irreps_out!r}"
            )
        if moves and not self.update_positions:
            raise ValueError("EGNN's vector is how positions moved; set update_positions = true")
        return scalars, moves

    def _node_inputs(self, graph: Graph) -> Float[Array, "node _"]:
        nodes, parts = graph.nodes, []
        dtype = nodes["positions"].dtype
        if self.velocity:
            parts.append(safe_norm(nodes[self.velocity])[:, None])
        parts += [nodes[name].reshape(len(nodes["species"]), -1) for name in self.scalars]
        if len(self.elements) > 1 or not parts:
            known = jnp.asarray(self.elements or (0,), jnp.int32)
            one_hot = (nodes["species"][:, None] == known[None, :]).astype(dtype)
            power = nodes["species"].astype(dtype) / max(max(self.elements, default=1), 1)
            parts += [one_hot * (power**k)[:, None] for k in range(3)]
        return jnp.concatenate(parts, -1)

    def _edge_attributes(self, graph: Graph, vectors: Array) -> Float[Array, "edge _"]:
        """Products of charges and the distance again (as published), projections of axes."""
        parts = []
        if self.charge:
            charge = graph.nodes[self.charge].reshape(-1, 1)
            parts.append(from_receivers(charge, graph) * from_senders(charge, graph))
        parts.append(jnp.sum(vectors * vectors, -1, keepdims=True))
        direction = unit(vectors) if self.axes else vectors
        for name in self.axes:
            ours = from_receivers(graph.nodes[name], graph)
            theirs = from_senders(graph.nodes[name], graph)
            pairs = ((ours, direction), (theirs, direction), (ours, theirs))
            parts += [jnp.sum(a * b, -1, keepdims=True) ** 2 for a, b in pairs]
        return jnp.concatenate(parts, -1)

    def _envelope(self, vectors: Array) -> Float[Array, "edge 1"] | None:
        if math.isinf(self.cutoff) or self.nearest is not None:
            return None
        return polynomial_envelope(safe_norm(vectors), self.cutoff, 3)[:, None]

    def _neighbors(self, graph: Graph) -> Float[Array, "#node 1"]:
        cutoff = self.cutoff if self.nearest is None else math.inf
        return sum_divisor(graph, cutoff, self.average_neighbors)

    def _scalars(self, h: Array, width: int, graph: Graph) -> Float[Array, "node _"]:
        h = nn.silu(Affine(self.channels, name="readout_0")(h))
        if self.readout == "node":
            return Affine(width, name="output")(h)
        total = pool(Affine(self.channels, name="readout_1")(h), graph)
        total = nn.silu(Affine(self.channels, name="graph_0")(total))
        return Affine(width, name="output")(total)[graph_of_nodes(graph)]
