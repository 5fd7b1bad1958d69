"""RISurConv: convolutions on what neighbours of a point say about the surface, seen from there.

Each layer looks at the k nearest points of a centre. All that it knows of their places are the 14
lengths and cosines of `points.surface_features`, which do not change when a cloud is turned:

    h_j = relu(norm(W_2 norm(W_1 features_j)))         a = offset attention among the h of a patch
    f = max_j relu(norm(W [a_j, f_j]))                 and offset attention among the centres

Centres are farthest points, fewer in each layer. The points of the last one, with their distance
from the mean and the cosine between that vector and their normal, go through a transformer among
the points of the cloud, and a maximum over them gives the answer. For each point, features are
interpolated back from layer to layer instead.

References:
    Zhang, Yang, Xiang, "RISurConv: rotation invariant surface attention-augmented convolutions for
    3D point cloud classification and segmentation", ECCV 2024, https://arxiv.org/abs/2408.06110.
    Qi, Yi, Su, Guibas, "PointNet++", NeurIPS 2017, https://arxiv.org/abs/1706.02413 (propagation).
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_norm, unit
from geojax.graphs import Graph, by_graph, centered, graph_of_nodes, of_members
from geojax.networks.network import NETWORKS
from geojax.networks.pointnet import check_readout
from geojax.nn import (
    Affine,
    LayerNorm,
    OffsetAttention,
    TransformerLayer,
    node_scalars,
    node_vectors,
)
from geojax.points import farthest_points, gather, interpolate, nearest, surface_features

__all__ = ["Level", "RISurConv", "SurfaceConvolution"]


class Level(NamedTuple):
    """The points of a layer: all of a cloud, or centres.

    Attributes:
        x: positions relative to the mean of the cloud.
        normals: unit vectors.
        real: which points there are.
        f: features.
    """

    x: Float[Array, "graph point 3"]
    normals: Float[Array, "graph point 3"]
    real: Bool[Array, "graph point"]
    f: Float[Array, "graph point channel"]


class SurfaceConvolution(nn.Module):
    """Features of centres from the surface around them and the features there; see the module."""

    channels: int
    neighbors: int
    step: int  # along the cycle of neighbours, see `surface_features`
    hidden: tuple[int, ...]  # of the layers on surface features

    @nn.compact
    def __call__(self, points: Level, centres: Level) -> Level:
        """The centres, with features.

        Args:
            points: where neighbours are looked for.
            centres: whose own features are not read.
        """
        near = nearest(centres.x, points.x, points.real, k=self.neighbors, query_mask=centres.real)
        around = surface_features(
            gather(points.x, near.index) - centres.x[:, :, None],
            gather(points.normals, near.index),
            centres.normals,
            near.mask,
            step=self.step,
        )
        h = _embedded(around, self.hidden)
        h = OffsetAttention(name="neighbors")(h, near.mask)
        h = Affine(self.channels, name="affine")(h, gather(points.f, near.index))
        f = _masked_max(nn.relu(LayerNorm(name="norm")(h)), near.mask)
        return centres._replace(f=OffsetAttention(name="centres")(f, centres.real))


class Propagation(nn.Module):
    """Features of coarse points carried to finer ones, and a layer on both."""

    channels: int

    @nn.compact
    def __call__(self, coarse: Level, fine: Level) -> Float[Array, "graph point channel"]:
        """Of the finer points."""
        near = nearest(fine.x, coarse.x, coarse.real, k=3, query_mask=fine.real)
        h = Affine(self.channels, name="affine")(interpolate(coarse.f, near), fine.f)
        return jnp.where(fine.real[..., None], nn.relu(LayerNorm(name="norm")(h)), 0)


@NETWORKS.register("risurconv")
class RISurConv(nn.Module):
    """Surface convolutions, and a transformer among the last centres; see the module.

    Invariant under SE(3); mirror images differ, since neighbours are counted clockwise around the
    normal. The normals (`vectors`) are of one side, and those known up to sign are to be oriented
    before (`points.orient`). It jumps where neighbours or farthest points change.

    Repaired against released code: the transformer there attends across the batch, so that answers
    (and published accuracies) depend on what else is in it, and here among the points of one cloud;
    there the last layer takes its features from absolute positions and an eigenvector of arbitrary
    sign, and here from invariants about the mean; the weights of attention within a patch are there
    divided by sums over other patches; farthest points start at random there. The order of
    neighbours is another fault, see `points.surface`.

    Widths are those published for 1024 points. For parts the published ones are (64, 128, 256, 512)
    and a decoder as here, whose sizes are those of its layers. Layers are normalised over their
    channels where the published ones use statistics of the batch; dropout is left out.
    """

    centres: tuple[int, ...] = (1024, 512, 256, 128)  # of each layer; not more than points
    neighbors: tuple[int, ...] = (8, 16, 32, 64)  # of each centre
    widths: tuple[int, ...] = (32, 64, 128, 256)  # of each layer
    steps: tuple[int, ...] = (2, 1, 1, 1)  # along the cycle of neighbours
    hidden: tuple[int, ...] = (32, 64)  # of the layers on surface features
    embedding: int = 512  # of the transformer
    heads: int = 8
    layers: int = 3  # of the transformer
    feed_forward: int = 2048  # channels within its layers
    head: tuple[int, ...] = (512, 256, 128)  # of the perceptron of the cloud, or of points
    readout: str = "graph"  # "node": one answer for each point
    irreps_out: str = "0e"  # of 0e
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ("normals",)  # the node input [node, 3] with unit normals

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True
    group: ClassVar[str] = "SE(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another readout; not one array of normals; irreps other than 0e; settings of
                layers that do not go together.
        """
        self._check()
        levels = [self._points(graph)]
        order = _by_distance(levels[0], self.centres[0])
        for i, width in enumerate(self.widths):
            layer = SurfaceConvolution(
                width, self.neighbors[i], self.steps[i], self.hidden, name=f"layer_{i}"
            )
            levels.append(layer(levels[-1], _first(order, self.centres[i])))
        y = self._transformed(levels[-1])
        if self.readout == "node":
            coarse = levels.pop()._replace(f=y)
            for i, fine in reversed(list(enumerate(levels))):
                width = self.widths[max(i - 1, 0)]
                y = Propagation(width, name=f"propagation_{i}")(coarse, fine)
                coarse = fine._replace(f=y)
            y = of_members(y, graph)
        else:
            y = _masked_max(y, levels[-1].real)
        for i, width in enumerate(self.head):
            y = nn.relu(LayerNorm(name=f"norm_{i}")(Affine(width, name=f"affine_{i}")(y)))
        y = Affine(Irreps(self.irreps_out).dim, name="output")(y)
        y = y[graph_of_nodes(graph)] if self.readout == "graph" else y
        return IrrepsArray(self.irreps_out, y)

    def _transformed(self, last: Level) -> Float[Array, "graph point channel"]:
        """The last centres, told where they are in the cloud and what the others are."""
        place = [safe_norm(last.x), jnp.sum(unit(last.x) * last.normals, -1)]
        h = _embedded(jnp.stack(place, -1), self.hidden)
        h = OffsetAttention(name="cloud")(h, last.real)
        h = Affine(self.embedding, name="embedding")(h, last.f)
        h = nn.relu(LayerNorm(name="norm")(h))
        for i in range(self.layers):
            layer = TransformerLayer(self.heads, self.feed_forward, name=f"transformer_{i}")
            h = layer(h, last.real)
        return h

    def _points(self, graph: Graph) -> Level:
        """All points, with scalars as features."""
        x, real = by_graph(centered(graph), graph)
        normals, _ = by_graph(node_vectors(graph, self.vectors)[..., 0], graph)
        f = jnp.zeros((*real.shape, 0), x.dtype)
        if self.scalars:
            f, _ = by_graph(node_scalars(graph, (0,), self.scalars), graph)
        return Level(x, unit(normals), real, f)

    def _check(self) -> None:
        check_readout(self.readout)
        if len(self.vectors) != 1:
            raise ValueError(
                f"it reads the normals of points, one node input; got vectors={self.vectors}"
            )
        if any(ir != Irrep(0, 1) for _, ir in Irreps(self.irreps_out)):
            raise ValueError(f"its outputs are invariants, 0e; got irreps_out={self.irreps_out!r}")
        given = [self.centres, self.neighbors, self.widths, self.steps]
        if len({len(field) for field in given}) > 1 or not self.centres:
            raise ValueError(
                "every layer has a number of centres and neighbours, a width and a step; got "
                f"centres={self.centres}, neighbors={self.neighbors}, widths={self.widths}, "
                f"steps={self.steps}"
            )
        if any(b > a for a, b in zip(self.centres, self.centres[1:], strict=False)):
            raise ValueError(
                f"no layer has more centres than the one before; got centres={self.centres}"
            )


def _by_distance(points: Level, count: int) -> Level:
    """The farthest points, in the order of the choice: its start is a choice of fewer points."""
    places = points.x.shape[1]
    count = min(count, places) if isinstance(places, int) else count
    chosen = farthest_points(points.x, points.real, count=count)
    rows = lambda x: jnp.take_along_axis(x, chosen.index[..., None], 1)
    return Level(rows(points.x), rows(points.normals), chosen.mask, rows(points.f))


def _first(level: Level, count: int) -> Level:
    return Level(*(x[:, :count] for x in level))


def _embedded(x: Array, widths: Sequence[int]) -> Array:
    """Two layers without anything between them but norms, as published, and a ReLU at the end."""
    for i, width in enumerate(widths):
        x = LayerNorm(name=f"surface_norm_{i}")(Affine(width, name=f"surface_{i}")(x))
    return nn.relu(x)


def _masked_max(
    x: Float[Array, "*n point channel"], mask: Bool[Array, "*n point"]
) -> Float[Array, "*n channel"]:
    """The maximum over the points there are; zero where there are none."""
    low = jnp.finfo(x.dtype).min
    top = jnp.max(jnp.where(mask[..., None], x, low), -2)
    return jnp.where(jnp.any(mask, -1)[..., None], top, 0)
