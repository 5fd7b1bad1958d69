"""Attention among points that are lifted to a group of motions, by the logarithms between them.

A motion u = (x, R) moves the origin to x and turns the world by the rotation R. Of two motions, all
motions respect u⁻¹ v, which has the rotation Q = Rᵀ R' = exp([ω]x) and the translation
t = Rᵀ (x' - x). Its logarithm is the six numbers (V(ω)⁻¹ t, ω), with V = sum_n [ω]xⁿ / (n+1)!.

Points are lifted by all rotations of a finite group. So ω is one of few constants, and the
logarithm is linear in the positions: no derivative of it is singular, at no angle.

References:
    Hutchinson, Le Lan, Zaidi, Dupont, Teh, Kim, "LieTransformer: equivariant self-attention for Lie
    groups", ICML 2021, https://arxiv.org/abs/2012.10885.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.graphs import (
    Graph,
    from_receivers,
    from_senders,
    largest_at_receivers,
    to_receivers,
)
from geojax.nn.dense import Affine
from geojax.nn.orientations import rotation_group
from geojax.registry import Registry

__all__ = [
    "COMBINATIONS",
    "NORMALIZATIONS",
    "Lift",
    "LieAttention",
    "Pairs",
    "inverse_left_jacobian",
    "lift_of",
    "logarithms",
    "rotation_vector",
]


def rotation_vector(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """ω with exp([ω]x) = R and |ω| <= pi: the logarithm of a rotation, accurate at every angle.

    Through the unit quaternion, from its largest component. A half-turn has two logarithms: here
    the first component that is not zero is positive.
    """
    m = matrix
    squares = np.array([np.trace(m), *np.diag(m)]) * 2 - np.trace(m) + 1  # 4 q²
    sums = np.array(
        [
            [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
        ]
    )  # 4 q_a q_b
    q = sums[np.argmax(squares)]
    q = q / np.linalg.norm(q)
    first = next((v for v in q[1:] if abs(v) > 1e-6), 1.0)
    q = q * (np.sign(first) if abs(q[0]) < 1e-12 else np.sign(q[0]))
    sine = np.linalg.norm(q[1:])  # of half the angle
    return q[1:] * (2 * math.atan2(sine, q[0]) / sine if sine > 0 else 2.0)


def inverse_left_jacobian(omega: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """V(ω)⁻¹ = 1 - [ω]x / 2 + (1 - (θ/2) cot(θ/2)) [ω]x² / θ², with θ = |ω| < 2 pi."""
    x, y, z = omega
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    half = float(np.linalg.norm(omega)) / 2
    if half < 1e-3:
        factor = 1 / 12 + half**2 / 180
    else:
        factor = (1 - half / math.tan(half)) / (4 * half**2)
    return np.eye(3) - cross / 2 + factor * cross @ cross


class Lift(NamedTuple):
    """The rotations R_k of a lift, and the parts of log(u⁻¹ v) that are constant.

    Attributes:
        rotations: R_k.
        maps: V(ω_kl)⁻¹ R_kᵀ, which take x_j - x_i to the first three numbers.
        turns: ω_kl, the last three.
    """

    rotations: Float[np.ndarray, "k 3 3"]
    maps: Float[np.ndarray, "k k 3 3"]
    turns: Float[np.ndarray, "k k 3"]


@cache
def lift_of(order: int) -> Lift:
    """By a group of so many rotations. R_kᵀ R_l is one of them, so that each has one logarithm."""
    rotations = rotation_group(order)
    logs = np.stack([rotation_vector(m) for m in rotations])
    jacobians = np.stack([inverse_left_jacobian(omega) for omega in logs])
    between = np.einsum("kyx,lyz->klxz", rotations, rotations)
    index = np.argmax(np.einsum("klxy,mxy->klm", between, rotations), -1)
    maps = np.einsum("klxy,kzy->klxz", jacobians[index], rotations)
    return Lift(rotations, maps, logs[index])


def logarithms(r: Float[Array, "*n 3"], lift: Lift) -> Float[Array, "*n k l d"]:
    """log(u⁻¹ v) of the motions at two points r = x_j - x_i apart; r alone if nothing turns."""
    maps, turns = jnp.asarray(lift.maps, r.dtype), jnp.asarray(lift.turns, r.dtype)
    moved = jnp.einsum("klxy,...y->...klx", maps, r)
    if len(lift.rotations) == 1:
        return moved
    return jnp.concatenate([moved, jnp.broadcast_to(turns, moved.shape)], -1)


class HeadMLP(nn.Module):
    """Affine layers of every head's own, with SiLU after each."""

    heads: int
    widths: tuple[int, ...]
    shared: bool = True  # all heads read the same numbers

    @nn.compact
    def __call__(self, x: Float[Array, "*m d"]) -> Float[Array, "*n head width"]:
        """Of `[..., d]`, shared numbers, or of `[..., head, d]`."""
        for i, width in enumerate(self.widths):
            fan_in = x.shape[-1]
            start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", batch_axis=0)
            kernel = self.param(f"kernel_{i}", start, (self.heads, fan_in, width))
            shift = self.param(f"bias_{i}", nn.initializers.zeros, (self.heads, width))
            terms = "...d,hdo->...ho" if i == 0 and self.shared else "...hd,hdo->...ho"
            x = jnp.einsum(terms, x, kernel.astype(x.dtype))
            x = nn.silu(x + shift.astype(x.dtype).reshape(*[1] * (x.ndim - 2), *shift.shape))
        return x


class Mixed(nn.Module):
    """A network of content and location."""

    heads: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(
        self, content: Float[Array, "*n head"], place: Float[Array, "*m head"]
    ) -> Float[Array, "*n head"]:
        """Of arrays of one rank."""
        pair = jnp.stack([content, jnp.broadcast_to(place, content.shape)], -1)
        return HeadMLP(self.heads, self.widths, shared=False, name="mlp")(pair)[..., 0]


# (heads, widths) -> (content, location) -> scores
COMBINATIONS: Registry[Callable] = Registry("combination of content and location")
COMBINATIONS.register("sum")(lambda heads, widths: jnp.add)
COMBINATIONS.register("product")(lambda heads, widths: jnp.multiply)
COMBINATIONS.register("mlp")(lambda heads, widths: Mixed(heads, widths, name="combination"))


class Scores(nn.Module):
    """How much the motions u heed the motions v: content and location, combined."""

    heads: int
    width: int  # of the hidden layers
    combination: str

    @nn.compact
    def __call__(
        self,
        q: Float[Array, "*n k head d"],
        k: Float[Array, "*n l head d"],
        logs: Float[Array, "*m k l g"],
    ) -> Float[Array, "*n k l head"]:
        """Of queries, keys and logarithms of u⁻¹ v, which may be the same for all (m = 1).

        Raises:
            KeyError: no combination of this name.
        """
        content = jnp.einsum("...khd,...lhd->...klh", q, k) / math.sqrt(q.shape[-1])
        widths = (self.width, self.width, 1)
        place = HeadMLP(self.heads, widths, name="location")(logs)[..., 0]
        return COMBINATIONS[self.combination](self.heads, widths)(content, place)


def by_count(
    edges: Float[Array, "edge k l head"],
    own: Float[Array, "node k l head"],
    envelope: Float[Array, "edge 1 1 1"],
    count: Float[Array, "#node 1 1 1"],
    graph: Graph,
) -> tuple[Array, Array, Float[Array, "#node 1 1 1"]]:
    """Factors of neighbours and of the node itself, and a divisor: scores over their number."""
    del graph
    return envelope * edges, own, count * own.shape[2]


def by_softmax(
    edges: Float[Array, "edge k l head"],
    own: Float[Array, "node k l head"],
    envelope: Float[Array, "edge 1 1 1"],
    count: Float[Array, "#node 1 1 1"],
    graph: Graph,
) -> tuple[Array, Array, Float[Array, "node k head 1"]]:
    """The same with exponentials over their sum; an envelope counts neighbours in and out."""
    del count
    # The largest score is no part of the result, and is taken out of its derivatives too.
    largest = jnp.maximum(largest_at_receivers(edges.max(2), graph), own.max(2))
    largest = jax.lax.stop_gradient(largest)[:, :, None]
    edges = envelope * jnp.exp(edges - from_receivers(largest, graph))
    own = jnp.exp(own - largest)
    return edges, own, (to_receivers(edges.sum(2), graph) + own.sum(2))[..., None]


NORMALIZATIONS: Registry[Callable] = Registry("normalization")
NORMALIZATIONS.register("count")(by_count)
NORMALIZATIONS.register("softmax")(by_softmax)


class Pairs(NamedTuple):
    """What the layers read about pairs of motions.

    Attributes:
        edges: logarithms between a node and its neighbours.
        own: logarithms between the motions of one node.
        envelope: of each edge.
        count: of neighbours and the node itself.
    """

    edges: Float[Array, "edge k l g"]
    own: Float[Array, "1 k l g"]
    envelope: Float[Array, "edge 1 1 1"]
    count: Float[Array, "#node 1 1 1"]


class LieAttention(nn.Module):
    """W_O sum_v w_uv W_V f_v."""

    heads: int
    kernel_width: int
    combination: str
    normalization: str

    @nn.compact
    def __call__(
        self, f: Float[Array, "node k channel"], pairs: Pairs, graph: Graph
    ) -> Float[Array, "node k channel"]:
        """Of features on the lifted points.

        Raises:
            KeyError: no combination or normalization of this name.
            ValueError: the heads do not share the channels evenly.
        """
        width = f.shape[-1]
        if width % self.heads:
            raise ValueError(
                f"heads share the channels evenly; got {width} channels and {self.heads} heads; "
                "make one a multiple of the other"
            )
        split = lambda x: x.reshape(*x.shape[:2], self.heads, width // self.heads)
        q, k, v = (split(Affine(width, name=name)(f)) for name in ("query", "key", "value"))
        scores = Scores(self.heads, self.kernel_width, self.combination, name="scores")
        normalize = NORMALIZATIONS[self.normalization]
        edges, own, divisor = normalize(
            scores(from_receivers(q, graph), from_senders(k, graph), pairs.edges),
            scores(q, k, pairs.own),
            pairs.envelope,
            pairs.count,
            graph,
        )
        messages = jnp.einsum("eklh,elhd->ekhd", edges, from_senders(v, graph))
        sums = to_receivers(messages, graph) + jnp.einsum("nklh,nlhd->nkhd", own, v)
        return Affine(width, name="out")((sums / divisor).reshape(f.shape))
