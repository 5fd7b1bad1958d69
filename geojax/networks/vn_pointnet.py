"""VN-PointNet: a PointNet whose features are vectors, which turn with the cloud.

A point alone has one vector, its position from the mean, and all maps of one vector are multiples
of it. So points first hear of their neighbours in space, one layer of vector neurons on the vectors

    x_j - x_i,  x_i,  and if wanted x_j × x_i

of each edge and the mean over neighbours. Then come layers of each point, with vectors of the whole
cloud beside them, and invariants of the vectors go through the head of a PointNet.

References:
    Deng, Litany, Duan, Poulenard, Tagliasacchi, Guibas, "Vector neurons: a general framework for
    SO(3)-equivariant networks", ICCV 2021, https://arxiv.org/abs/2104.12229.
    Qi, Su, Mo, Guibas, "PointNet", CVPR 2017, https://arxiv.org/abs/1612.00593.
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
    Perceptron,
    VectorGraphNorm,
    VectorLeakyReLU,
    VectorLinear,
    counts,
    in_order,
    nearest_nodes,
    neighbor_mean,
    node_scalars,
    node_vectors,
    vector_leaky_relu,
)
from geojax.nn.dense import uniform

__all__ = ["ScalarFactors", "VNPointNet", "VectorEdgeConvolution", "VectorHead", "point_vectors"]

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)


def point_vectors(graph: Graph, vectors: tuple[str, ...]) -> Float[Array, "node 3 channel"]:
    """Positions relative to the mean, and node inputs that are vectors, a channel each.

    Raises:
        KeyError: the graph has no input of a name.
    """
    return jnp.concatenate([centered(graph)[..., None], node_vectors(graph, vectors)], -1)


class VectorEdgeConvolution(nn.Module):
    """The mean over neighbours of a vector neuron of [v_j - v_i, v_i], or also v_j × v_i.

    The maps of v_j and v_i act on nodes, before anything is done for each edge. Cross products are
    axial: with them, what comes out keeps rotations but no reflections.
    """

    channels: int
    cross: bool = False
    slope: float = 0.2

    @nn.compact
    def __call__(
        self, v: Float[Array, "node 3 channel"], near: Neighborhood
    ) -> Float[Array, "node 3 channels"]:
        """One row for each node; zero for padding."""
        parts, width = 2 + self.cross, 2 * self.channels  # for the map and the directions
        shape = (parts, v.shape[-1], width)
        kernel = self.param("kernel", uniform(1 / sqrt(parts * v.shape[-1])), shape)
        away, own, *across = kernel.astype(v.dtype)
        there = v @ away
        here = v @ own - there

        def sent(x: Float[Array, "node 3 _"]) -> Float[Array, "node 3 channels"]:
            y = x[..., :width] + here
            if self.cross:
                y = y + jnp.cross(x[..., width:], v, axis=1) @ across[0]
            q, direction = jnp.split(y, 2, -1)
            return vector_leaky_relu(q, direction, self.slope)

        carried = jnp.concatenate([there, v], -1) if self.cross else there
        return neighbor_mean(sent, carried, near)


class ScalarFactors(nn.Module):
    """Each channel of vectors times 1 + f(s): so scalars of nodes reach vectors and invariants."""

    names: tuple[str, ...]  # node inputs [node] or [node, d]

    @nn.compact
    def __call__(
        self, v: Float[Array, "node 3 channel"], graph: Graph
    ) -> Float[Array, "node 3 channel"]:
        """The vectors themselves where there are no names.

        Raises:
            KeyError: the graph has no input of a name.
        """
        if not self.names:
            return v
        width = v.shape[-1]
        factor = 1 + Perceptron((width, width), name="factor")(
            node_scalars(graph, (0,), self.names)
        )
        return v * factor[:, None]


class VectorHead(nn.Module):
    """From vectors of points to scalars 0e, by invariants, and vectors 1o, of clouds or points.

    Invariants are those of a point's vectors and their mean over the cloud side by side, and go
    through a `PointHead`; with `readout="node"` those of `layers` stand beside them. Vectors are
    linear in vectors, of the mean over the cloud or of points.
    """

    widths: tuple[int, ...]
    readout: str
    irreps_out: str
    slope: float = 0.2

    @nn.compact
    def __call__(
        self, v: Float[Array, "node 3 channel"], layers: Float[Array, "node 3 _"], graph: Graph
    ) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: another readout, or irreps other than 0e and 1o.
        """
        widths = counts(self.irreps_out)
        if other := [str(i) for i in widths if i not in (SCALAR, VECTOR)]:
            raise ValueError(
                "vector neurons put out scalars 0e and vectors 1o; got irreps_out="
                f"{self.irreps_out!r} with {', '.join(other)}; take a network of higher degree"
            )
        check_readout(self.readout)
        index, out = graph_of_nodes(graph), {}
        mean = pool(v.reshape(v.shape[0], -1), graph, "mean").reshape(-1, *v.shape[1:])
        whole = (mean, lambda y: y[index])
        if SCALAR in widths:
            h = InvariantHead(self.slope, name="invariants")(v, whole)
            local = h
            if self.readout == "node":
                local = InvariantHead(self.slope, name="local")(layers)
            irreps = str(Irreps([(widths[SCALAR], SCALAR)]))
            head = PointHead(self.widths, self.readout, irreps, name="head")
            out[SCALAR] = head(h, local, graph).array[:, None]
        if VECTOR in widths:
            parts = (mean,) if self.readout == "graph" else (v, whole)
            u = VectorLeakyReLU(v.shape[-1], self.slope, name="vectors_0")(*parts)
            u = VectorLinear(widths[VECTOR], name="vectors_1")(u)
            out[VECTOR] = u[index] if self.readout == "graph" else u
        return in_order(out, self.irreps_out)


class Layer(nn.Module):
    """A vector neuron and a norm over the cloud."""

    channels: int
    slope: float

    @nn.compact
    def __call__(self, v: Array, graph: Graph) -> Float[Array, "node 3 channels"]:
        v = VectorLeakyReLU(self.channels, self.slope, name="neuron")(v)
        return VectorGraphNorm(name="norm")(v, graph)


class Context(nn.Module):
    """Vectors of the whole cloud, in place of the matrices that PointNet turns its inputs with."""

    widths: tuple[int, ...]  # of layers of points; after the mean each is half as wide
    channels: int
    slope: float

    @nn.compact
    def __call__(self, v: Array, graph: Graph) -> Float[Array, "graph 3 channels"]:
        for i, width in enumerate(self.widths):
            v = Layer(width, self.slope, name=f"layer_{i}")(v, graph)
        v = pool(v.reshape(v.shape[0], -1), graph, "mean").reshape(-1, *v.shape[1:])
        for i in range(2):
            v = VectorLeakyReLU(v.shape[-1] // 2, self.slope, name=f"whole_{i}")(v)
        return VectorLinear(self.channels, name="vectors")(v)


@NETWORKS.register("vn-pointnet")
class VNPointNet(nn.Module):
    """Vector neurons of points, and a maximum of invariants over the cloud; see the module.

    Widths are a third of PointNet's, as published, since a vector has three numbers. Lengths are
    normalised over the cloud where the published ones use statistics of the batch.

    Invariant under E(3), with vectors 1o equivariant; with `cross` under SE(3), and images in a
    mirror differ. Node inputs `vectors` are more channels at the start, and `scalars` are factors
    of the channels after the first layer, so that vectors know of them too.
    """

    neighbors: int = 20  # of each point in space, itself among them
    widths: tuple[int, ...] = (
        21,
        21,
        42,
        341,
    )  # of the edges; of layers of points, the last linear
    context: tuple[int, ...] = (21, 42, 341)  # of the layers to vectors of the cloud; (): none
    head: tuple[int, ...] = (512, 256)  # of the perceptron of the cloud
    cross: bool = False  # cross products along edges, which tell mirror images apart
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
        v, slope = point_vectors(graph, self.vectors), 0.0
        near = nearest_nodes(v[..., 0], graph, self.neighbors)
        first, *middle, last = self.widths
        v = VectorEdgeConvolution(first, self.cross, slope, name="edges")(v, near)
        v = VectorGraphNorm(name="norm")(v, graph)
        v, layers = ScalarFactors(self.scalars, name="scalars")(v, graph), []
        for i, width in enumerate(middle):
            v = Layer(width, slope, name=f"layer_{i}")(v, graph)
            layers.append(v)
            if i == 0 and self.context:
                whole = Context(self.context, width, slope, name="context")(v, graph)
                v = jnp.concatenate([v, whole[graph_of_nodes(graph)]], -1)
        v = VectorGraphNorm(name="norm_last")(VectorLinear(last, name="linear")(v), graph)
        head = VectorHead(self.head, self.readout, self.irreps_out, slope, name="head")
        return head(v, jnp.concatenate(layers, -1), graph)
