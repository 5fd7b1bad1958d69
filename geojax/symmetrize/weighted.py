"""Weighted frames: continuous, for every structure that is not all on one line.

Each ordered pair of nodes, with x relative to the mean, gives a frame and its weight,

    R_ij = [x̂_i, ẑ × x̂_i, ẑ],  ẑ = (x_i × x_j) / |x_i × x_j|
    w_ij = |x_i × x_j|² u(|x_i - x_j| / radius),  u(r) = 1 - 10 r³ + 15 r⁴ - 6 r⁵

and what is found in the frames is divided by the sum of weights. No frame jumps but where its
weight vanishes, with its derivative: means of smooth functions have continuous forces, also at
methane, where principal axes fail. No unweighted frames do that.

A structure on one line turns freely about it. It gets its own frames: both directions of the line
with four turns about it, so that vectors and tensors up to l = 3 lose what is across the line, as
they must. Nearby structures come close to that only if frames come with their half turns about
their axes too (`half_turns`); without, the limit depends on the way there where four or more nodes
are involved. Points in one place get the frames of a line along x.

References:
    Dym, Lawrence, Siegel, "Equivariant frames and the impossibility of continuous
    canonicalization", ICML 2024, https://arxiv.org/abs/2402.16077. The formula above is one such
    set of frames; their weights for a finite number of directions differ.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_norm
from geojax.graphs import Graph, graph_mask, pool
from geojax.graphs.graph import Size, n_nodes
from geojax.so3.rotation_heads import from_6d
from geojax.symmetrize.frames import (
    PROVIDERS,
    SIGNS,
    Frames,
    check_group,
    known,
    unless_periodic,
)

__all__ = ["WeightedFrames", "line_frames", "nodes_by_graph", "pair_frames"]

# By what the frame of a pair is multiplied from the right: signs of its axes.
TURNS = {
    ("SE(3)", False): np.array([[1, 1, 1]]),
    ("SE(3)", True): SIGNS["SE(3)"],
    ("E(3)", False): np.array([[1, 1, 1], [1, 1, -1]]),
    ("E(3)", True): SIGNS["E(3)"],
}


class Pairs(NamedTuple):
    """The pairs that count most in each graph: both ends, relative to the mean, and weights."""

    first: Float[Array, "graph pair 3"]
    second: Float[Array, "graph pair 3"]
    weights: Float[Array, "graph pair"]


@PROVIDERS.register("weighted")
@dataclass(frozen=True)
class WeightedFrames:
    """The frames of pairs, with weights; see the module.

    A structure of n nodes has n (n-1) pairs: 72 for ethanol, and as many calls of the function.
    Where that is more than `pairs`, those with the largest weights w are taken, with w (1 - t/w)²
    in place of w, t being the largest weight left out: frames still come and go with weight zero,
    but forces jump where another pair is the first one left out. If all that are taken weigh the
    same, as may be in structures of high symmetry, there are no frames and the weights are NaN:
    take more pairs.
    """

    group: str = "SE(3)"  # "E(3)": twice as many frames, and mirror images are alike
    pairs: int = 132  # frames, at most, of each of `group` and `half_turns`; all pairs of 12 nodes
    radius: float = math.inf  # [Å]; pairs further apart do not count
    half_turns: bool = False  # 4 times as many: smooth where a structure becomes a line, too
    slots: int | None = None  # nodes of the largest structure; None: as many as the batch has

    conservative: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    periodic: ClassVar[bool] = False

    def __call__(self, graph: Graph) -> Frames:
        """`[graph, frame]`; weights are NaN where a structure has more nodes than slots.

        Raises:
            ValueError: another group, fewer than 16 pairs, a radius that is not positive; a
                crystal.
        """
        check_group(self.group)
        if self.pairs < 16 or self.radius <= 0:
            raise ValueError(
                "weighted frames have 16 pairs or more, and a positive radius; got "
                f"pairs={self.pairs}, radius={self.radius}"
            )
        slots = n_nodes(graph) if self.slots is None else self.slots
        x, real = nodes_by_graph(graph, slots)
        turns = TURNS[self.group, self.half_turns]
        pairs, defined = _largest(x, _weights(x, real, self.radius), self.pairs)
        matrices, weights = pair_frames(pairs, turns)
        on_line = ~_spans(x, real)[:, None]
        lines, shares = line_frames(x, self.group, matrices.shape[1])
        matrices = jnp.where(on_line[..., None, None], lines, matrices)
        weights = jnp.where(on_line, shares, weights)
        defined = (defined | on_line[:, 0]) & (graph.n_node <= slots) | ~graph_mask(graph)
        weights = known(jnp.where(graph_mask(graph)[:, None], weights, 0), defined)
        origins = pool(graph.nodes["positions"], graph, "mean")
        return unless_periodic(Frames(matrices, origins, weights), graph, "weighted")


def nodes_by_graph(
    graph: Graph, slots: Size
) -> tuple[Float[Array, "graph slot 3"], Bool[Array, "graph slot"]]:
    """Positions relative to their mean [Å], a row for each graph, and which are of a node."""
    first = (jnp.cumsum(graph.n_node) - graph.n_node)[:, None]
    slot = jnp.arange(slots, dtype=first.dtype)[None]
    real = (slot < graph.n_node[:, None]) & graph_mask(graph)[:, None]
    x = graph.nodes["positions"]
    mean = pool(x, graph, "mean")[:, None]
    x = x.at[jnp.where(real, first + slot, 0)].get(mode="promise_in_bounds") - mean
    return jnp.where(real[..., None], x, 0), real


def pair_frames(
    pairs: Pairs, turns: np.ndarray
) -> tuple[Float[Array, "graph frame 3 3"], Float[Array, "graph frame"]]:
    """The frame of each pair with each of the signs `turns`, and weights whose sum is one."""
    matrices = from_6d(jnp.concatenate([pairs.first, pairs.second], -1))
    n_graph, n_pair = pairs.weights.shape
    signs = jnp.asarray(turns, matrices.dtype)[None, :, None, None, :]
    matrices = (matrices[:, None] * signs).reshape(n_graph, -1, 3, 3)
    total = jnp.sum(pairs.weights, 1, keepdims=True) * len(turns)
    weights = safe_divide(pairs.weights, jnp.broadcast_to(total, (n_graph, n_pair)))
    return matrices, jnp.tile(weights, (1, len(turns)))


def line_frames(
    x: Float[Array, "graph slot 3"], group: str, count: int
) -> tuple[Float[Array, "graph frame 3 3"], Float[Array, "graph frame"]]:
    """Frames of points on a line: both directions of it, four turns (and mirrors, for E(3)).

    Args:
        x: the points, relative to their mean; zero for none.
        group: "E(3)" or "SE(3)".
        count: of frames in all; those that are too many repeat the first, with weight zero.
    """
    far = jnp.argmax(jnp.sum(x * x, -1), -1)
    axis = jnp.take_along_axis(x, far[:, None, None], 1)[:, 0]
    start = from_6d(jnp.concatenate([axis, jnp.zeros_like(axis)], -1))
    quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    turns = np.concatenate([np.diag(s) @ m for s in SIGNS["SE(3)"] for m in (np.eye(3), quarter)])
    turns = turns.reshape(-1, 3, 3)
    turns = np.concatenate([turns, turns * np.array([1, 1, -1])]) if group == "E(3)" else turns
    rest = count - len(turns)
    table = np.concatenate([turns, np.broadcast_to(np.eye(3), (rest, 3, 3))])
    shares = np.repeat([1 / len(turns), 0], [len(turns), rest])
    matrices = jnp.einsum("gab,fbc->gfac", start, jnp.asarray(table, x.dtype), precision="highest")
    shares = jnp.asarray(shares, x.dtype)[None]
    return matrices, jnp.broadcast_to(shares, matrices.shape[:2])


def _weights(
    x: Float[Array, "graph slot 3"], real: Bool[Array, "graph slot"], radius: float
) -> Float[Array, "graph first second"]:
    """w_ij, zero for i = j and where either is no node."""
    slots = x.shape[1]
    other = jnp.arange(slots)[:, None] != jnp.arange(slots)[None, :]
    both = real[:, :, None] & real[:, None, :] & other[None]
    return jnp.where(both, _weight(x[:, :, None], x[:, None, :], radius), 0)


def _weight(a: Array, b: Array, radius: float) -> Array:
    across = jnp.cross(a, b)
    weight = jnp.sum(across * across, -1)
    return weight if math.isinf(radius) else weight * _near(safe_norm(a - b) / radius)


def _near(r: Array) -> Array:
    """u(r), zero from r = 1 on: C², and written so that nothing cancels."""
    rest = 1 - jnp.minimum(r, 1)
    return rest**3 * (1 + r * (3 + 6 * r))


def _spans(x: Float[Array, "graph slot 3"], real: Bool[Array, "graph slot"]) -> Array:
    """Whether points are not on one line, up to rounding; of those without any pair too."""
    across = jnp.sum(_weights(x, real, math.inf), (1, 2))
    extent = jnp.sum(x * x, (1, 2)) ** 2
    return across > (64 * float(jnp.finfo(x.dtype).eps)) ** 2 * extent


def _largest(
    x: Float[Array, "graph slot 3"], weights: Float[Array, "graph first second"], count: int
) -> tuple[Pairs, Bool[Array, "graph"]]:
    """The pairs with the largest weights, lowered by the first one left out; whether any is."""
    slots = x.shape[1]
    flat = weights.reshape(weights.shape[0], slots * slots)
    flat = jnp.pad(flat, ((0, 0), (0, count + 1)))  # pairs of nothing, for small structures
    top, index = jax.lax.top_k(flat, count + 1)
    level = top[:, count:]
    index = jnp.where(index < slots * slots, index, 0)
    rows = lambda i: jnp.take_along_axis(x, i[:, :count, None], 1)
    lowered = 1 - safe_divide(level, jnp.broadcast_to(top[:, :count], (*level.shape[:1], count)))
    lowered = jnp.where(level > 0, lowered, 1)
    kept = top[:, :count] * lowered * lowered
    return Pairs(rows(index // slots), rows(index % slots), kept), jnp.sum(kept, 1) > 0
