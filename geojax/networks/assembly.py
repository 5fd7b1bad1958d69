"""Shapes put together from pieces: poses from vectors of each piece that all pieces have a say in.

With F_p [channel, 3] vectors that a backbone makes of piece p alone, about its own mean,

    T_p = three vectors that vector neurons make of F_p
    G_p = A(F_p T_p^T, s_p) W,    F'_p = (sum_q G_q) F_p        [channel, 3]

where s_p is the mean distance of its points from c_p, their mean, A a perceptron of invariants to
[channel, rank], and W a trained matrix [rank, channel]: F'_p turns with piece p, and does not
change when another piece turns. The published G_p is a linear map of the three numbers of each
row of F_p T_p^T, hence of rank four at most; no matrix [channel, channel] is formed here.

From F'_p come the rotation A_p that turned the piece out of the pose that it has in the whole, and
w_p, the way from c_p to a centre of the whole, as piece p is turned. Pieces go to the first one,
which stays:

    x -> A_0 A_p^T (x - c_p - w_p) + c_0 + w_0

References:
    Wu, Tie, Du, Zhao, Dong, "Leveraging SE(3) equivariance for learning 3D geometric shape
    assembly", ICCV 2023, https://arxiv.org/abs/2309.06810.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.graphs import Graph, centered, graph_of_nodes, part_mask, pool, split_parts
from geojax.graphs.parts import PART
from geojax.networks.network import NETWORKS, OnBackbone, with_fields
from geojax.networks.vn_dgcnn import VNDGCNN
from geojax.nn import InvariantHead, Perceptron, VectorLeakyReLU, VectorLinear
from geojax.registry import did_you_mean

__all__ = ["Assembly", "Correlation"]

Matrices = Float[Array, "graph part 3 3"]


def _from_two(v: Float[Array, "*n 3 2"]) -> Float[Array, "*n 3 3"]:
    """The rotation whose first column is along the first vector; see `so3.from_6d`."""
    return so3.from_6d(jnp.concatenate([v[..., 0], v[..., 1]], -1))


# How many vectors make a rotation, and how: Q v gives Q R.
ROTATIONS: Mapping[str, tuple[int, Callable[[Array], Array]]] = {
    "6d": (2, _from_two),
    "svd": (3, so3.nearest_rotation),
}


class Poses(NamedTuple):
    """How the pieces lie, relative to the mean of all nodes.

    Attributes:
        turns: A_p, of the pieces out of their pose in the whole.
        centres: c_p + w_p, where each piece sees the centre of the whole.
    """

    turns: Matrices
    centres: Float[Array, "graph part 3"]


class Correlation(nn.Module):
    """F'_p = (sum over pieces q of G_q) F_p; see the module."""

    rank: int  # of each G_q
    width: int  # of the perceptron of invariants

    @nn.compact
    def __call__(
        self,
        vectors: Float[Array, "graph part 3 channel"],
        sizes: Float[Array, "graph part"],
        present: Float[Array, "graph part"],
    ) -> Float[Array, "graph part 3 channel"]:
        """One row for each piece; zero in a graph without pieces.

        Args:
            vectors: F of the pieces.
            sizes: any invariant of each piece.
            present: 1 for pieces, 0 for empty places.
        """
        channels = vectors.shape[-1]
        invariants = InvariantHead(name="invariants")(vectors)
        invariants = jnp.concatenate([invariants, sizes[..., None]], -1)
        left = Perceptron((self.width, channels * self.rank), name="left")(invariants)
        left = left * present[..., None]
        total = left.sum(1).reshape(-1, channels, self.rank)
        right = VectorLinear(self.rank, name="right")(vectors)
        return jnp.einsum("gcr,gpxr->gpxc", total, right, precision="highest")


def _default() -> VNDGCNN:
    return VNDGCNN(widths=(21, 21, 42), embedding=85)


@NETWORKS.register("assembly")
class Assembly(OnBackbone, nn.Module):
    """Pieces of a shape put together around the first; see the module for its equations.

    The output 1o is how far each node has to go: labels are `node_targets.assembled` of
    `datasets.pieces`, relative to "positions". `poses` are the same answer as rotations and
    translations. Turning or moving a piece changes the answer exactly as it changes these labels:
    every other piece, and the place of its own points in the whole, stay. The first piece does not
    move, and the whole goes where it is. The order of the others does not matter.

    Pieces carry numbers below `parts`; nodes of others have NaN, since merged pieces have no pose.

    Differences: rotations come from vectors in place of a perceptron of flattened vectors, which
    would not turn, and from F' in place of F alone, as released; G is invariant of any rank with
    the size of the piece, which vector neurons normalise away; there are no terms of the loss for
    poses in a canonical frame, for embeddings of the whole and for a discriminator of shapes:
    the points in the frame of the first piece are the label. Equivariant under SE(3) of every
    piece alone if the backbone is under that of the whole; mirror images differ.
    """

    backbone: Any = field(default_factory=_default)  # a network; irreps_out is set here
    parts: int = 5  # of every structure, at most
    channels: int = 64  # vectors that the backbone puts out
    rank: int = 8  # of G
    width: int = 64  # of the perceptron that makes G
    rotation: str = "6d"  # from two vectors, or "svd" of three
    irreps_out: str = "1o"  # nothing else
    cutoff: float | None = None  # [Å]; that of the backbone

    local: ClassVar[bool] = False  # all nodes of all parts have a say
    reads_parts: ClassVar[bool] = True

    def __post_init__(self):
        if isinstance(self.backbone, nn.Module):
            irreps = f"{self.channels}x1o"
            self.backbone = with_fields(self.backbone, irreps_out=irreps, cutoff=self.cutoff)
            self.cutoff = self.backbone.cutoff
        super().__post_init__()

    @property
    def group(self) -> str:
        """SE(3) where the backbone keeps its rotations: no third column is in a mirror."""
        group = getattr(self.backbone, "group", "E(3)")
        return "SE(3)" if group in ("E(3)", "SE(3)") else group

    def setup(self):
        """The correlation and the head; the backbone is a field."""
        if self.rotation not in ROTATIONS:
            raise KeyError(
                f"rotation is one of {', '.join(ROTATIONS)}; got {self.rotation!r}; "
                f"{did_you_mean(self.rotation, ROTATIONS)}"
            )
        self.correlation = Correlation(self.rank, self.width)
        self.neuron = VectorLeakyReLU(self.channels)
        self.vectors_of_pose = VectorLinear(ROTATIONS[self.rotation][0] + 1)

    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, 1o]`, the way that each node has to go.

        Raises:
            KeyError: the graph has no input `part`, or an unknown rotation.
            ValueError: an output other than one vector, or what the backbone refuses.
        """
        if self.irreps_out not in ("1o", "1x1o"):
            raise ValueError(
                "an assembly puts out the way that each point has to go, one vector; got "
                f"irreps_out={self.irreps_out!r}; poses are those of the method poses"
            )
        found, x = self._poses(graph), centered(graph)
        part = graph.nodes[PART].astype(jnp.int32)
        place = (graph_of_nodes(graph), jnp.clip(part, 0, self.parts - 1))
        way = (x - found.centres[place])[:, :, None]
        to_first = _to_first(found.turns)[place]
        moved = jnp.sum(to_first * jnp.swapaxes(way, 1, 2), -1) + found.centres[place[0], 0]
        step = jnp.where((part == 0)[:, None], 0, moved - x)
        return IrrepsArray("1o", jnp.where((part < self.parts)[:, None], step, jnp.nan))

    def poses(self, graph: Graph) -> tuple[Matrices, Float[Array, "graph part 3"]]:
        """R and t of each piece, x -> R x + t: `rotations` and `translations` of the labels.

        Empty places have the identity, and so has the first piece.

        Raises:
            KeyError: as `__call__`.
        """
        found = self._poses(graph)
        mean = pool(graph.nodes["positions"], graph, "mean")[:, None]
        centres = found.centres + mean
        rotations = _to_first(found.turns)
        shifts = centres[:, :1] - jnp.sum(rotations * centres[:, :, None], -1)
        others = part_mask(graph, self.parts).at[:, 0].set(False)
        rotations = jnp.where(others[..., None, None], rotations, _eye(rotations))
        return rotations, jnp.where(others[..., None], shifts, 0)

    def correlated(self, graph: Graph) -> Float[Array, "graph part 3 channel"]:
        """F' of each piece."""
        return self._features(graph)[0]

    def _poses(self, graph: Graph) -> Poses:
        """From F' of each piece."""
        vectors, means = self._features(graph)
        count, decode = ROTATIONS[self.rotation]
        v = self.vectors_of_pose(self.neuron(vectors))
        return Poses(decode(v[..., :count]), means + v[..., count])

    def _features(self, graph: Graph) -> tuple[Array, Array]:
        """F' and the means of the pieces, relative to that of all nodes."""
        parts, x = split_parts(graph, self.parts), centered(graph)
        of_parts = lambda a: pool(a, parts, "mean")
        by_part = lambda a: a.reshape(-1, self.parts, *a.shape[1:])
        vectors = by_part(of_parts(self.backbone(parts).array))
        vectors = jnp.swapaxes(vectors.reshape(*vectors.shape[:2], self.channels, 3), 2, 3)
        means = of_parts(x)
        away = safe_norm(x - means[graph_of_nodes(parts)])
        sizes = by_part(of_parts(away[:, None]))[..., 0]
        present = part_mask(graph, self.parts).astype(x.dtype)
        return self.correlation(vectors, sizes, present), by_part(means)


def _to_first(turns: Matrices) -> Matrices:
    """A_0 A_p^T."""
    return jnp.einsum("gij,gpkj->gpik", turns[:, 0], turns, precision="highest")


def _eye(like: Matrices) -> Matrices:
    return jnp.broadcast_to(jnp.eye(3, dtype=like.dtype), like.shape)
