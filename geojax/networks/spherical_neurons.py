"""Banks of learned spheres on points, and vector neurons on what they say.

Each point, from the mean of its cloud, goes into the banks of K spheres, which turn with the cloud
as a vector 1o and a scalar 0e each (`nn.spherical_neurons`): four rows f_i of K channels. Layers
are those of VN-DGCNN, in four dimensions and with own maps of vectors and scalars. With the nearest
points j in features, q and d maps of [f_j - f_i, f_i], and <q, d> over all four rows,

    f_i <- mean_j q - (1 - slope) min(<q, d̂>, 0) d̂

so that the scalars are a threshold for the vectors. Invariants of vectors, and the scalars, go
through the head of a PointNet.

References:
    Melnyk, Felsberg, Wadenbäck, "Steerable 3D spherical neurons", ICML 2022,
    https://arxiv.org/abs/2106.13863.
    Melnyk, Robinson, Felsberg, Wadenbäck, "TetraSphere: a neural descriptor for O(3)-invariant
    point cloud analysis", CVPR 2024, https://arxiv.org/abs/2211.14456 (banks before vector neurons
    of four dimensions).
"""

from math import sqrt
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph, centered, graph_of_nodes, pool
from geojax.networks.network import NETWORKS
from geojax.networks.pointnet import PointHead, check_readout
from geojax.nn import (
    InvariantHead,
    Neighborhood,
    VectorGraphNorm,
    VectorLinear,
    bank_features,
    counts,
    in_order,
    nearest_nodes,
    neighbor_mean,
    node_scalars,
    node_vectors,
    vector_leaky_relu,
)
from geojax.nn.dense import uniform

__all__ = ["BankConvolution", "BankNeuron", "SphericalNeuronNetwork"]

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)


def map_rows(
    f: Float[Array, "*n 4 channel"], vectors: Float[Array, "channel width"], scalars: Array
) -> Float[Array, "*n 4 width"]:
    """One matrix for the vectors, the first three rows, and one for the scalars, the last."""
    return jnp.concatenate([f[..., :3, :] @ vectors, f[..., 3:, :] @ scalars], -2)


def matrices(module: nn.Module, name: str, parts: int, fan_in: int, width: int) -> tuple:
    """Those of vectors and of scalars, `[parts, fan_in, width]`, and the shift of scalars."""
    bound = 1 / sqrt(parts * fan_in)
    return (
        module.param(f"{name}_vectors", uniform(bound), (parts, fan_in, width)),
        module.param(f"{name}_scalars", uniform(bound), (parts, fan_in, width)),
        module.param(f"{name}_shift", uniform(bound), (width,)),
    )


class BankNeuron(nn.Module):
    """A vector neuron on four rows; see the module."""

    channels: int
    slope: float = 0.2

    @nn.compact
    def __call__(self, f: Float[Array, "*n 4 channel"]) -> Float[Array, "*n 4 channels"]:
        """Of each point by itself."""
        vectors, scalars, shift = matrices(self, "map", 1, f.shape[-1], 2 * self.channels)
        y = map_rows(f, vectors[0].astype(f.dtype), scalars[0].astype(f.dtype))
        q, direction = jnp.split(y + _on_scalars(shift, y), 2, -1)
        return vector_leaky_relu(q, direction, self.slope)


class BankConvolution(nn.Module):
    """The mean over neighbours of a neuron of [f_j - f_i, f_i], or also v_j × v_i of vectors v.

    The maps of f_j and f_i act on nodes, before anything is done for each edge. Cross products are
    axial: with them, what comes out keeps rotations but no reflections.
    """

    channels: int
    cross: bool = False
    slope: float = 0.2

    @nn.compact
    def __call__(
        self, f: Float[Array, "node 4 channel"], near: Neighborhood
    ) -> Float[Array, "node 4 channels"]:
        """One row for each node; zero for padding."""
        width, fan_in = 2 * self.channels, f.shape[-1]  # for the map and the directions
        vectors, scalars, shift = matrices(self, "map", 2, fan_in, width)
        (away, own), (away_0, own_0) = vectors.astype(f.dtype), scalars.astype(f.dtype)
        there = map_rows(f, away, away_0)
        here = map_rows(f, own, own_0) - there
        here = here + _on_scalars(shift, here)
        across, v = None, f[:, :3]
        if self.cross:
            across = self.param("across", uniform(1 / sqrt(fan_in)), (fan_in, width))

        def sent(other: Float[Array, "node 4 _"]) -> Float[Array, "node 4 channels"]:
            y = other[..., :width] + here
            if across is not None:
                turned = jnp.cross(other[:, :3, width:], v, axis=1) @ across.astype(f.dtype)
                y = y + jnp.pad(turned, ((0, 0), (0, 1), (0, 0)))
            q, direction = jnp.split(y, 2, -1)
            return vector_leaky_relu(q, direction, self.slope)

        carried = jnp.concatenate([there, f], -1) if self.cross else there
        return neighbor_mean(sent, carried, near)


def _on_scalars(shift: Array, like: Array) -> Array:
    """A shift of every channel on the last of four rows."""
    rows = jnp.pad(shift.astype(like.dtype)[None], ((3, 0), (0, 0)))
    return rows.reshape(*[1] * (like.ndim - 2), *rows.shape)


@NETWORKS.register("spherical-neurons")
class SphericalNeuronNetwork(nn.Module):
    """Banks of spheres, convolutions among nearest points, a maximum of invariants; see the module.

    Invariant under E(3), with vectors 1o equivariant; with `cross` under SE(3). A shape and its
    image in a mirror have the same invariants without `cross`: the four numbers of a bank are of
    natural parity, and products of two vectors cannot see a hand. It jumps where neighbours or
    maxima change.

    A bank has a basis of its own, by the rotation that takes the centre of its sphere to (1, 1, 1),
    so that nothing after it may mix spheres; here all are read in the frame of the points, and
    mixed. One matrix for all four rows, as published, would keep O(4): it loses
    which row is the scalar, and scalars have no shift. Lengths are normalised over the cloud where
    the published ones use statistics of the batch. A bank of a point has no more than the point and
    |x|² in it, so that this is VN-DGCNN with scalars beside the vectors. Widths are those of
    VN-DGCNN.

    Node inputs `vectors` and `scalars` are more channels of the first rows, the other rows zero.
    """

    spheres: int = 8  # K
    neighbors: int = 20  # of each point, itself among them
    widths: tuple[int, ...] = (21, 21, 42, 85)  # of the convolutions
    embedding: int = 341  # of the neurons that invariants are made of
    head: tuple[int, ...] = (512, 256)  # of the perceptron of the cloud
    cross: bool = False  # cross products along the first edges, which tell mirror images apart
    readout: str = "graph"  # "node": one answer for each point
    irreps_out: str = "0e"  # of 0e and 1o
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.cross else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another readout, or irreps other than 0e and 1o.
        """
        check_readout(self.readout)
        widths = counts(self.irreps_out)
        if other := [str(i) for i in widths if i not in (SCALAR, VECTOR)]:
            raise ValueError(
                "a bank of spheres has scalars 0e and vectors 1o; got irreps_out="
                f"{self.irreps_out!r} with {', '.join(other)}; take a network of higher degree"
            )
        f, layers = self._banks(graph), []
        place = centered(graph)
        for i, width in enumerate(self.widths):
            near = nearest_nodes(f.reshape(f.shape[0], -1) if i else place, graph, self.neighbors)
            f = BankConvolution(width, self.cross and not i, name=f"layer_{i}")(f, near)
            f = VectorGraphNorm(name=f"norm_{i}")(f, graph)
            layers.append(f)
        f = BankNeuron(self.embedding, name="embedding")(jnp.concatenate(layers, -1))
        f = VectorGraphNorm(name="norm")(f, graph)
        index = graph_of_nodes(graph)
        mean = pool(f.reshape(f.shape[0], -1), graph, "mean").reshape(-1, *f.shape[1:])
        out = {}
        if SCALAR in widths:
            invariants = InvariantHead(name="invariants")(f[:, :3], mean[index][:, :3])
            h = jnp.concatenate([invariants, f[:, 3], mean[index][:, 3]], -1)
            local = jnp.concatenate([invariants, *(y[:, 3] for y in layers)], -1)
            irreps = str(Irreps([(widths[SCALAR], SCALAR)]))
            head = PointHead(self.head, self.readout, irreps, name="head")
            out[SCALAR] = head(h, local, graph).array[:, None]
        if VECTOR in widths:
            y = mean if self.readout == "graph" else jnp.concatenate([f, mean[index]], -1)
            u = BankNeuron(self.embedding, name="vectors_0")(y)[:, :3]
            u = VectorLinear(widths[VECTOR], name="vectors_1")(u)
            out[VECTOR] = u[index] if self.readout == "graph" else u
        return in_order(out, self.irreps_out)

    def _banks(self, graph: Graph) -> Float[Array, "node 4 channel"]:
        """Features of the spheres, then node inputs."""
        x = centered(graph)
        sphere = self.param("spheres_in", uniform(1 / sqrt(5)), (self.spheres, 5))
        parts = [bank_features(x, sphere.astype(x.dtype))]
        if self.vectors:
            parts.append(jnp.pad(node_vectors(graph, self.vectors), ((0, 0), (0, 1), (0, 0))))
        if self.scalars:
            numbers = node_scalars(graph, (0,), self.scalars)
            parts.append(jnp.pad(numbers[:, None], ((0, 0), (3, 0), (0, 0))))
        return jnp.concatenate(parts, -1)
