"""Fewer points for a cloud: farthest-point sampling and the cells of a grid."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Subset", "Voxels", "farthest_points", "voxel_mean", "voxels"]


class Subset(NamedTuple):
    """Points that were chosen, in the order of the choice.

    Attributes:
        index: rows of the cloud, all different where the slot is taken; else that of the first.
        mask: whether the slot is taken.
    """

    index: Int[Array, "*n slot"]
    mask: Bool[Array, "*n slot"]


@partial(jax.jit, static_argnames="count")
def farthest_points(
    positions: Float[Array, "*n point d"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    count: int,
    start: Int[Array, "*n"] | None = None,
) -> Subset:
    """Points each of which is the farthest from all those chosen before it.

    The first is the one farthest from the centroid, so that the choice does not depend on how the
    cloud is placed, turned or listed, nor on a random number; of points equally far the one that is
    listed first. Points that coincide with a chosen one come after all others.

    Args:
        positions: in positions or in features of any dimension.
        mask: which points are real; the others are never chosen.
        count: slots, a static number; empty ones remain where there are fewer points.
        start: the row of the first point (a real one) instead.

    Raises:
        ValueError: count is not positive, or the cloud has no row.

    References:
        Eldar, Lindenbaum, Porat, Zeevi, "The farthest point strategy for progressive image
        sampling", IEEE Trans. Image Process. 1997, https://doi.org/10.1109/83.623193.
    """
    if count < 1:
        raise ValueError(f"a sample has at least one point; got count={count}")
    if positions.shape[-2] == 0:
        raise ValueError("a sample is taken of at least one row, real or not; got an empty cloud")
    real = jnp.ones(positions.shape[:-1], bool) if mask is None else mask
    x = jax.lax.stop_gradient(jnp.where(real[..., None], positions, 0))
    if start is None:
        number = jnp.maximum(jnp.sum(real, -1), 1).astype(x.dtype)[..., None]
        centroid = jnp.sum(x, -2) / number
        square = jnp.sum(jnp.square(x - centroid[..., None, :]), -1)
        start = jnp.argmax(jnp.where(real, square, -1), -1)

    def one_cloud(x: Array, real: Array, first: Array) -> tuple[Array, Array]:
        def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            least, last = state
            square = jnp.sum(jnp.square(x - x[last][None]), -1)
            least = jnp.minimum(least, square).at[last].set(-1)
            return (least, jnp.argmax(least)), last

        # The squared distance to the nearest chosen point; -1 for what must not be chosen (again).
        least = jnp.where(real, jnp.asarray(jnp.inf, x.dtype), -1)
        _, index = jax.lax.scan(step, (least, first), length=count)
        taken = jnp.arange(count) < jnp.sum(real)
        return jnp.where(taken, index, index[0]), taken

    choose = jnp.vectorize(one_cloud, signature="(p,d),(p),()->(k),(k)")
    return Subset(*choose(x, real, start))


class Voxels(NamedTuple):
    """The occupied cells of a grid, ordered by their place (first axis first).

    Attributes:
        index: the voxel of each point; the number of slots for points that are in none.
        count: how many points are in each voxel.
        mask: whether the slot is taken.
        overflow: true: more cells are occupied than there are slots, or points lie more than 2^30
            cells from the origin; the result must not be used.
    """

    index: Int[Array, "*n point"]
    count: Int[Array, "*n voxel"]
    mask: Bool[Array, "*n voxel"]
    overflow: Bool[Array, "*n"]


@partial(jax.jit, static_argnames=("size", "count"))
def voxels(
    positions: Float[Array, "*n point d"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    size: float,
    count: int,
    origin: Float[Array, "*n d"] | None = None,
) -> Voxels:
    """Which cell of a cubic grid each point is in, cells numbered without gaps.

    Args:
        positions: in any dimension.
        mask: which points are real; the others are in no cell.
        size: the edge of a cell, in the unit of the positions.
        count: slots for occupied cells, a static number; `overflow` tells where it is too small.
        origin: a corner of cells; by default the lowest coordinates of the real points, so that the
            grid moves with the cloud. It never turns with it.

    Raises:
        ValueError: size or count is not positive.
    """
    if not size > 0 or count < 1:
        raise ValueError(
            f"voxels have a positive edge and at least one slot; got size={size}, count={count}"
        )
    real = jnp.ones(positions.shape[:-1], bool) if mask is None else mask
    x = jax.lax.stop_gradient(positions)
    if origin is None:
        origin = jnp.min(jnp.where(real[..., None], x, jnp.inf), -2)
        origin = jnp.where(jnp.any(real, -1)[..., None], origin, 0)
    place = jnp.floor(jnp.where(real[..., None], x - origin[..., None, :], 0) / size)
    far = jnp.any(jnp.abs(place) > 2**30, (-2, -1))
    cell = jnp.clip(place, -(2**30), 2**30).astype(jnp.int32)

    def one_cloud(cell: Array, real: Array) -> tuple[Array, Array]:
        n, d = cell.shape
        keys = [~real, *(cell[:, axis] for axis in range(d))]
        *keys, row = jax.lax.sort([*keys, jnp.arange(n)], num_keys=d + 1)
        changed = [key[1:] != key[:-1] for key in keys]
        new = jnp.concatenate([jnp.ones(1, bool), jnp.any(jnp.stack(changed), 0)]) & ~keys[0]
        number = jnp.cumsum(new, dtype=jnp.int32) - 1
        inside = ~keys[0] & (number < count)
        index = jnp.zeros(n, jnp.int32).at[row].set(jnp.where(inside, number, count))
        return index, jnp.sum(new)

    index, occupied = jnp.vectorize(one_cloud, signature="(p,d),(p)->(p),()")(cell, real)
    ones = jnp.ones((*index.shape, 1), jnp.int32)
    points = _sums(ones, index, count)[..., 0]
    return Voxels(index, points, points > 0, (occupied > count) | far)


@jax.jit
def voxel_mean(values: Float[Array, "*n point d"], cells: Voxels) -> Float[Array, "*n voxel d"]:
    """The mean over the points of each voxel of their positions or features; zero for empty slots.

    Linear in the values, also as far as derivatives go.
    """
    count = cells.count.shape[-1]
    inside = (cells.index < count)[..., None]
    total = _sums(jnp.where(inside, values, 0), cells.index, count)
    return total / jnp.maximum(cells.count, 1).astype(values.dtype)[..., None]


def _sums(values: Array, index: Array, count: int) -> Array:
    """Sums over points with the same index; those with the index `count` are left out."""
    add = lambda values, index: jax.ops.segment_sum(values, index, count + 1)[:count]
    return jnp.vectorize(add, signature="(p,d),(p)->(v,d)")(values, index)
