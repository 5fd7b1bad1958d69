"""PARE-Net: descriptors of two clouds that do not turn, beside vectors that do.

A convolution whose kernel of each neighbour is a mixture of a few, by where the neighbour is. With
y_j = x_j - x_i, their mean y over the k neighbours, and channels of vectors V,

    s_j = softmax_m MLP(|U [y_j, y, y_j × y]|)
    V_i <- W V_i + sigma_2(sigma_1(mean_j unit(sum_m s_jm W_m [V_j - V_i, V_j, y_j])))

where sigma are vector neurons. Products of vectors make invariants; a few points of each cloud then
hear of those of their own and of the other (`nn.geometric_attention`). Where descriptors match, one
match gives a pose, by the rotation between the vectors (`points.register_by_features`).

References:
    Yao, Du, Cui, Tang, Yang, "PARE-Net: position-aware rotation-equivariant networks for robust
    point cloud registration", ECCV 2024, https://arxiv.org/abs/2407.10142.
"""

from math import sqrt
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.graphs import Graph, by_graph, centered, of_members, split_parts
from geojax.graphs.parts import PART
from geojax.networks.network import NETWORKS
from geojax.networks.risurconv import Level
from geojax.networks.roitr import PARTS, thinned
from geojax.nn import (
    Affine,
    InvariantHead,
    LayerNorm,
    Neighborhood,
    VectorGraphNorm,
    VectorLeakyReLU,
    VectorLinear,
    between_clouds,
    counts,
    in_order,
    nearest_nodes,
    neighbor_mean,
    node_scalars,
    node_vectors,
)
from geojax.nn.dense import uniform
from geojax.points import interpolate, nearest

__all__ = ["PARENet", "PositionAwareConvolution"]

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)


class PositionAwareConvolution(nn.Module):
    """Kernels mixed by where a neighbour is; see the module. Cross products leave SO(3)."""

    channels: int
    kernels: int = 4
    hidden: int = 8  # of the perceptron of lengths

    @nn.compact
    def __call__(
        self,
        v: Float[Array, "node 3 channel"],
        x: Float[Array, "node 3"],
        near: Neighborhood,
    ) -> Float[Array, "node 3 channels"]:
        """One row for each node; zero for padding without vectors."""
        width, half = v.shape[-1], -(-self.channels // 2)
        draw = lambda name, fan_in, *shape: self.param(name, uniform(1 / sqrt(fan_in)), shape)
        away, there, place = jnp.split(
            draw("bank", 2 * width + 1, 2 * width + 1, self.kernels * half).astype(v.dtype),
            [width, 2 * width],
        )
        lengths = draw("lengths", 3, 3, self.hidden).astype(v.dtype)
        first = draw("scores_0", self.hidden, self.hidden, self.hidden).astype(v.dtype)
        shift = self.param("shift", nn.initializers.zeros, (self.hidden,)).astype(v.dtype)
        last = draw("scores_1", self.hidden, self.hidden, self.kernels).astype(v.dtype)
        centre = mean_vector(x, near)
        own = v @ away

        def sent(carried: Float[Array, "node 3 _"]) -> Float[Array, "node 3 half"]:
            y, other = carried[..., -1] - x, carried[..., :-1]
            local = jnp.stack([y, centre, jnp.cross(y, centre)], -1)
            h = nn.relu(safe_norm(local @ lengths, 1) @ first + shift[None])
            scores = jax.nn.softmax(h @ last)
            z = other @ (away + there) - own + y[..., None] * place[None]
            z = jnp.einsum("nxmc,nm->nxc", z.reshape(*z.shape[:2], self.kernels, half), scores)
            return jnp.swapaxes(unit(jnp.swapaxes(z, 1, 2)), 1, 2)

        mixed = neighbor_mean(sent, jnp.concatenate([v, x[..., None]], -1), near)
        mixed = VectorLeakyReLU(half, name="neuron_0")(mixed)
        mixed = VectorLeakyReLU(self.channels, name="neuron_1")(mixed)
        return mixed + VectorLinear(self.channels, name="shortcut")(v)


def mean_vector(x: Float[Array, "node 3"], near: Neighborhood) -> Float[Array, "node 3"]:
    """The mean over neighbours of the vector to them."""
    return neighbor_mean(lambda other: other - x, x, near)


@NETWORKS.register("pare-net")
class PARENet(nn.Module):
    """Position-aware convolutions on vectors, then attention between two clouds; see the module.

    It reads the clouds that the node input `part` numbers 0 and 1; any more have NaN. Scalars 0e of
    `irreps_out` are descriptors and do not change when either cloud is moved or turned by itself;
    vectors 1o turn with their own cloud. Mirror images differ. It jumps where neighbours or
    farthest points change.

    Published for scans indoors: four stages of voxels from 25 mm on, each twice as wide, 35
    neighbours, channels from 96 on, attention of 192 channels, 4 heads and six layers; invariants
    by a frame of two vectors. Here all convolutions are on all points, invariants are products of
    vectors (a frame jumps where the two are parallel), and lengths are normalised over the cloud.
    Repaired: vectors are normalised without the small constant vector that is added there.
    """

    channels: tuple[int, ...] = (16, 32)  # of vectors, of each convolution
    neighbors: int = 16  # of each point, itself among them
    kernels: int = 4  # that are mixed
    width: int = 64  # of the invariants and the attention
    centres: int = 64  # points that hear of each other, at most
    stride: int = 4  # one of them for so many points
    heads: int = 4
    global_layers: int = 2  # within each cloud and between them, in turn
    distance: float = 0.1  # sigma_d of the structure, in the unit of the positions
    angle: float = 15.0  # sigma_a of the structure [degree]
    irreps_out: str = "32x0e+16x1o"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3]

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True
    reads_parts: ClassVar[bool] = True
    group: ClassVar[str] = "SE(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name, or no `part`.
            ValueError: outputs other than 0e and 1o.
        """
        widths = counts(self.irreps_out)
        if other := [str(i) for i in widths if i not in (SCALAR, VECTOR)]:
            raise ValueError(
                "descriptors are scalars 0e and vectors 1o; got irreps_out="
                f"{self.irreps_out!r} with {', '.join(other)}"
            )
        clouds = split_parts(graph, PARTS)
        x = centered(clouds)
        near = nearest_nodes(x, clouds, self.neighbors)
        v = jnp.concatenate(
            [mean_vector(x, near)[..., None], node_vectors(clouds, self.vectors)], -1
        )
        for i, channels in enumerate(self.channels):
            v = PositionAwareConvolution(channels, self.kernels, name=f"layer_{i}")(v, x, near)
            v = VectorGraphNorm(name=f"norm_{i}")(v, clouds)
        out = {}
        if SCALAR in widths:
            f = [InvariantHead(name="invariants")(v)]
            f += [node_scalars(clouds, (0,), self.scalars)] if self.scalars else []
            f = nn.relu(LayerNorm(name="norm")(Affine(self.width, name="embedding")(*f)))
            y = Affine(self.width, name="joined")(f, self._heard(f, x, clouds))
            y = nn.relu(LayerNorm(name="norm_last")(y))
            out[SCALAR] = Affine(widths[SCALAR], name="scalars_out")(y)[:, None]
        if VECTOR in widths:
            out[VECTOR] = VectorLinear(widths[VECTOR], name="vectors_out")(v)
        y = in_order(out, self.irreps_out).array
        pair = (graph.nodes[PART] < PARTS)[:, None]  # a third cloud has no descriptors
        return IrrepsArray(self.irreps_out, jnp.where(pair, y, jnp.nan))

    def _heard(self, f: Array, x: Array, clouds: Graph) -> Float[Array, "node channel"]:
        """What a few points of each cloud know of both, carried to all points."""
        places, real = by_graph(x, clouds)
        points = Level(places, places, real, by_graph(f, clouds)[0])
        few = thinned(points, self.centres, self.stride)
        h = between_clouds(
            few.f, few.x, few.real, self.global_layers, self.heads, self.distance, self.angle
        )
        found = nearest(places, few.x, few.real, k=3, query_mask=real)
        return of_members(interpolate(h, found), clouds)
