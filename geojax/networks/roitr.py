"""RoITr: descriptors of two clouds that hear of each other, whatever the pose of either.

Each cloud by itself first: what a centre i hears of the k points j nearest to it is said by
point-pair features alone, |d| and three angles with normals,

    f_i <- norm(f_i + W sum_j softmax_j(q_i . (k_j + W_k E_ij)) (v_j + W_v E_ij)),  E_ij = W PPF_ij

from all points to fewer and fewer centres (farthest points, a part of those before). The last
centres, superpoints, hear of those of their own cloud with the structure that distances and angles
tell, and of those of the other (`nn.geometric_attention`), in turn. Features are then interpolated
back, a layer of the same kind at each step, to one descriptor for each point.

References:
    Yu, Qin, Hou, Saleh, Li, Busam, Ilic, "Rotation-invariant transformer for point cloud matching",
    CVPR 2023, https://arxiv.org/abs/2303.08231.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray

from geojax.arrays import unit
from geojax.graphs import Graph, by_graph, centered, of_members, split_parts
from geojax.graphs.parts import PART
from geojax.networks.network import NETWORKS
from geojax.networks.risurconv import Level
from geojax.nn import (
    Affine,
    LayerNorm,
    between_clouds,
    masked_softmax,
    node_scalars,
    node_vectors,
    split_heads,
)
from geojax.points import farthest_points, gather, interpolate, nearest, point_pair_features

__all__ = ["PairFeatureAttention", "RoITr", "thinned"]

PARTS = 2  # source and target
# Vectorised, so that its own check of shapes does not meet symbolic sizes of batches
PAIRS = jnp.vectorize(point_pair_features, signature="(d),(d),(d)->(f)")


class PairFeatureAttention(nn.Module):
    """What centres hear of the points near them, told by point-pair features; see the module."""

    neighbors: int
    heads: int

    @nn.compact
    def __call__(self, points: Level, centres: Level) -> Level:
        """The centres with new features.

        Args:
            points: that are heard, with as many channels as the centres.
            centres: that hear, with the features that queries are made of.

        Raises:
            ValueError: the heads do not share the channels evenly.
        """
        width = centres.f.shape[-1]
        split = lambda y: split_heads(y, self.heads)
        near = nearest(centres.x, points.x, points.real, k=self.neighbors, query_mask=centres.real)
        pairs = PAIRS(
            gather(points.x, near.index) - centres.x[:, :, None],
            centres.normals[:, :, None],
            gather(points.normals, near.index),
        )
        per_pi = jnp.asarray([1, 1 / math.pi, 1 / math.pi, 1 / math.pi], pairs.dtype)
        e = Affine(width, name="pairs")(pairs * per_pi.reshape(1, 1, 1, 4))
        q = split(Affine(width, name="query")(centres.f))
        sent = lambda name: split(
            gather(Affine(width, name=name)(points.f), near.index)
            + Affine(width, bias=False, name=f"pair_{name}")(e)
        )
        logits = jnp.einsum("gihd,gikhd->gihk", q, sent("key")) / math.sqrt(q.shape[-1])
        weights = masked_softmax(logits, near.mask[:, :, None])
        heard = jnp.einsum("gihk,gikhd->gihd", weights, sent("value")).reshape(centres.f.shape)
        f = LayerNorm(name="norm")(centres.f + Affine(width, name="output")(heard))
        return centres._replace(f=jnp.where(centres.real[..., None], f, 0))


@NETWORKS.register("roitr")
class RoITr(nn.Module):
    """Local attention to point pairs, then within and between two clouds; see the module.

    It reads the clouds that the node input `part` numbers 0 and 1; any more have NaN. A descriptor
    does not change when either cloud is moved, turned or reflected by itself, together with its
    normals; these (`vectors`) are to be of one side, by a viewpoint that moves along. It jumps
    where neighbours or farthest points change.

    Published for scans indoors in metres: widths (64, 128, 256, 256), neighbours (8, 16, 16, 16),
    blocks (2, 3, 3, 3), 4 heads, 3 global layers, a quarter of the points in each layer. Sizes here
    are smaller. There, superpoints are matched by the features after the global layers and points
    within them by others; here the decoder starts after them, so that each point has one descriptor
    that knows of both, for losses such as `circle`. Farthest points do not start at random.
    """

    centres: tuple[int, ...] = (256, 64)  # of each layer after the first, at most
    stride: int = 4  # one centre for so many points of the layer before
    neighbors: tuple[int, ...] = (16, 16, 16)  # of each layer
    widths: tuple[int, ...] = (32, 64, 96)  # of each layer
    blocks: tuple[int, ...] = (1, 1, 1)  # attentions in each layer
    heads: int = 4
    global_layers: int = 2  # within each cloud and between them, in turn
    distance: float = 0.2  # sigma_d of the structure, in the unit of the positions
    angle: float = 15.0  # sigma_a of the structure [degree]
    irreps_out: str = "32x0e"  # the descriptor
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ("normals",)  # the node input [node, 3] with unit normals

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True
    reads_parts: ClassVar[bool] = True
    group: ClassVar[str] = "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name, or no `part`.
            ValueError: not one array of normals; outputs other than 0e; sizes of layers that do not
                go together.
        """
        self._check()
        clouds = split_parts(graph, PARTS)
        fine = self._points(clouds)
        fine = fine._replace(f=Affine(self.widths[0], name="embedding")(fine.f))
        levels: list[Level] = []
        for i in range(len(self.widths)):
            if i:
                levels.append(fine)
                f = Affine(self.widths[i], bias=False, name=f"widen_{i}")(fine.f)
                sources = fine._replace(f=f)
                fine = thinned(sources, self.centres[i - 1], self.stride)
            else:
                sources = fine
            for j in range(self.blocks[i]):
                attention = self._attention(i, f"encoder_{i}_{j}")
                fine = attention(fine if j else sources, fine)
        f = between_clouds(
            fine.f, fine.x, fine.real, self.global_layers, self.heads, self.distance, self.angle
        )
        coarse = fine._replace(f=f)
        for i, fine in reversed(list(enumerate(levels))):
            near = nearest(fine.x, coarse.x, coarse.real, k=3, query_mask=fine.real)
            f = Affine(self.widths[i], name=f"affine_{i}")(interpolate(coarse.f, near), fine.f)
            fine = fine._replace(f=nn.relu(LayerNorm(name=f"norm_{i}")(f)))
            coarse = self._attention(i, f"decoder_{i}")(fine, fine)
        y = Affine(Irreps(self.irreps_out).dim, name="output")(of_members(coarse.f, clouds))
        pair = (graph.nodes[PART] < PARTS)[:, None]  # a third cloud has no descriptors
        return IrrepsArray(self.irreps_out, jnp.where(pair, y, jnp.nan))

    def _attention(self, i: int, name: str) -> PairFeatureAttention:
        return PairFeatureAttention(self.neighbors[i], self.heads, name=name)

    def _points(self, clouds: Graph) -> Level:
        """All points, about the mean of their cloud, with one and scalars as features."""
        x, real = by_graph(centered(clouds), clouds)
        normals, _ = by_graph(node_vectors(clouds, self.vectors)[..., 0], clouds)
        f = jnp.where(real[..., None], jnp.ones((), x.dtype), 0)
        if self.scalars:
            more, _ = by_graph(node_scalars(clouds, (0,), self.scalars), clouds)
            f = jnp.concatenate([f, more], -1)
        return Level(x, unit(normals), real, f)

    def _check(self) -> None:
        if len(self.vectors) != 1:
            raise ValueError(
                f"it reads the normals of points, one node input; got vectors={self.vectors}"
            )
        if any(ir != Irrep(0, 1) for _, ir in Irreps(self.irreps_out)):
            raise ValueError(f"descriptors are invariants, 0e; got irreps_out={self.irreps_out!r}")
        layers = {len(self.neighbors), len(self.widths), len(self.blocks), len(self.centres) + 1}
        if len(layers) > 1 or self.stride < 1 or min(self.blocks) < 1:
            raise ValueError(
                "every layer has neighbours, a width and blocks, each but the first a number of "
                f"centres, and the stride is positive; got neighbors={self.neighbors}, "
                f"widths={self.widths}, blocks={self.blocks}, centres={self.centres}, "
                f"stride={self.stride}"
            )


def thinned(points: Level, most: int, stride: int) -> Level:
    """Every so-many-th of the points by farthest-point sampling, rounded up, and at most `most`."""
    places = points.x.shape[1]
    count = min(most, -(-places // stride)) if isinstance(places, int) else most
    chosen = farthest_points(points.x, points.real, count=count)
    wanted = -(-jnp.sum(points.real, -1) // stride)
    taken = chosen.mask & (jnp.arange(count)[None] < wanted[:, None])
    rows = lambda x: jnp.take_along_axis(x, chosen.index[..., None], 1)
    f = jnp.where(taken[..., None], rows(points.f), 0)
    return Level(rows(points.x), rows(points.normals), taken, f)
