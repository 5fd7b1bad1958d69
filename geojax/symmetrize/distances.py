"""Coordinates from distances: classical scaling with a sign rule, one pose for every structure.

With the squared distances D² and J = 1 - 11ᵀ/n,

    B = -J D² J / 2 = Q diag(l) Qᵀ,    Z = Q_d diag(l_d)^(1/2)

of the d largest eigenvalues, and each column has the sign with sum_i z_i³ >= 0. Then Z Zᵀ = B where
the distances are those of points in d dimensions, and Z does not change when these are turned or
mirrored. Of points it is (X - c) V with their principal axes V, so that a 3 x 3 matrix will do.

Mirror images get the same coordinates. Where eigenvalues coincide, or a column has no skewness
(as in structures with a twofold axis or a mirror plane), the pose is left to rounding, as for the
PCA frames, of which this is one.

References:
    Torgerson, "Multidimensional scaling: I. Theory and method", Psychometrika 1952.
    The sign rule is our own choice; TinvNN leaves its rule open.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_power
from geojax.graphs import Graph, centered, graph_mask, graph_of_nodes, pool
from geojax.symmetrize.frames import PROVIDERS, Frames, unless_periodic
from geojax.symmetrize.pca import eigen, scatter_of

__all__ = [
    "DistanceFrames",
    "coordinates_from_distances",
    "coordinates_from_positions",
    "doubly_centered",
]


def doubly_centered(
    square: Float[Array, "*n point point"], mask: Bool[Array, "*n point"] | None = None
) -> Float[Array, "*n point point"]:
    """B = -J D² J / 2, the scalar products of points around their mean, of squared distances."""
    real = _real(square[..., 0], mask)
    both = real[..., None, :] * real[..., :, None]
    square = jnp.where(both > 0, square, 0)
    count = jnp.maximum(jnp.sum(real, -1), 1)
    rows = jnp.sum(square, -1) / count[..., None]
    whole = jnp.sum(rows, -1) / count
    centred = square - rows[..., :, None] - rows[..., None, :] + whole[..., None, None]
    return -centred * both / 2


def coordinates_from_distances(
    square: Float[Array, "*n point point"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    dims: int = 3,
    scale: bool = False,
) -> Float[Array, "*n point dims"]:
    """Z, from squared distances; of those of no points, eigenvalues below zero count as zero.

    Args:
        square: squared distances, symmetric.
        mask: which points are real; the rows of others are zero.
        dims: columns of Z, largest eigenvalue first; zero beyond the dimension of the points.
        scale: divide by the root mean square distance from the mean.

    Raises:
        ValueError: fewer points than columns.
    """
    if not 1 <= dims <= square.shape[-1]:
        raise ValueError(
            f"n points have 1 to n coordinates; got dims={dims} for {square.shape[-1]} points"
        )
    values, axes = eigen(doubly_centered(square, mask))
    values, axes = values[..., -dims:][..., ::-1], axes[..., -dims:][..., ::-1]
    size = jnp.max(jnp.abs(values), -1, keepdims=True)
    rounding = values <= 8 * float(jnp.finfo(square.dtype).eps) * size
    z = axes * safe_power(jnp.where(rounding, 0, values), 0.5)[..., None, :]
    z = z * _real(square[..., 0], mask)[..., None]
    return _scaled(z * _signs(jnp.sum(z**3, -2))[..., None, :], mask, scale)


def coordinates_from_positions(
    positions: Float[Array, "*n point 3"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    scale: bool = False,
) -> Float[Array, "*n point 3"]:
    """Z, from points: the same as from their distances.

    Args:
        positions: of points.
        mask: which are real; the rows of others are zero.
        scale: divide by the root mean square distance from the mean.
    """
    real = _real(positions[..., 0], mask)[..., None]
    positions = jnp.where(real > 0, positions, 0)
    mean = jnp.sum(positions, -2, keepdims=True) / jnp.maximum(jnp.sum(real, -2, keepdims=True), 1)
    x = (positions - mean) * real
    scatter = jnp.einsum("...pa,...pb->...ab", x, x, precision="highest")
    axes = eigen(scatter)[1][..., ::-1]
    z = jnp.einsum("...pa,...ab->...pb", x, axes, precision="highest")
    return _scaled(z * _signs(jnp.sum(z**3, -2))[..., None, :], mask, scale)


@PROVIDERS.register("distances")
@dataclass(frozen=True)
class DistanceFrames:
    """One frame, in which positions are the coordinates Z of the distances; see the module."""

    group: ClassVar[str] = "E(3)"
    conservative: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    periodic: ClassVar[bool] = False

    def __call__(self, graph: Graph) -> Frames:
        """`[graph, 1]`.

        Raises:
            ValueError: a crystal.
        """
        axes = eigen(scatter_of(graph))[1][..., ::-1]
        at_node = axes[graph_of_nodes(graph)]
        z = jnp.einsum("na,nab->nb", centered(graph), at_node, precision="highest")
        axes = axes * _signs(pool(z**3, graph))[:, None, :]
        weights = graph_mask(graph).astype(axes.dtype)[:, None]
        origins = pool(graph.nodes["positions"], graph, "mean")
        return unless_periodic(Frames(axes[:, None], origins, weights), graph, "distance")


def _real(like: Float[Array, "*n point"], mask: Bool[Array, "*n point"] | None) -> Array:
    return jnp.ones_like(like) if mask is None else mask.astype(like.dtype)


def _signs(moments: Array) -> Array:
    return jnp.where(moments < 0, -1, 1).astype(moments.dtype)


def _scaled(z: Array, mask: Array | None, scale: bool) -> Array:
    if not scale:
        return z
    count = jnp.maximum(jnp.sum(_real(z[..., 0], mask), -1), 1)
    radius = safe_power(jnp.sum(z * z, (-2, -1)) / count, 0.5)
    return safe_divide(z, jnp.broadcast_to(radius[..., None, None], z.shape))
