"""Nearest points between two sets, on the device, and features carried from one set to the other.

Every query is compared with every point, a chunk of queries at a time: chunk x point numbers are
held for each cloud. On a CPU, large clouds in space are searched in tiles instead, which finds the
same. Distances are computed from differences, not from |x|^2 + |y|^2 - 2 x y, whose rounding would
depend on where the cloud is. Where points have many coordinates, as features do, `nearest` lets
that product find some more than are asked for, and the differences of these say which are nearest:
one is missed only where SPARE others are as near up to the rounding of the product.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from geojax.arrays import safe_norm
from geojax.points.tiles import MOST, nearest_in_tiles

__all__ = [
    "Neighbors",
    "gather",
    "in_chunks",
    "interpolate",
    "nearest",
    "square_distances",
    "within",
]


GROUP = 17  # coordinates at a time: two steps for the 33 of FPFH; fewer are slower on a CPU
WIDE = 16  # more coordinates than these are many
SPARE = 12  # so many candidates more than neighbours
LARGE, FEW = 2048, 64  # points, slots: from how many and up to how many tiles are faster


class Neighbors(NamedTuple):
    """What each query finds, nearest first; of points equally far the one that is listed first.

    Attributes:
        index: rows of the points; 0 where the slot is empty.
        distance: in the unit of the positions; 0 where the slot is empty. Its derivatives are those
            of the norm, and zero between coincident points.
        mask: whether the slot is taken.
        count: how many points are in reach; where it exceeds the slots, the farthest are left out.
    """

    index: Int[Array, "*n query neighbor"]
    distance: Float[Array, "*n query neighbor"]
    mask: Bool[Array, "*n query neighbor"]
    count: Int[Array, "*n query"]


@partial(jax.jit, static_argnames=("k", "exclude_self", "chunk"))
def nearest(
    queries: Float[Array, "*n query d"],
    points: Float[Array, "*n point d"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    k: int,
    query_mask: Bool[Array, "*n query"] | None = None,
    exclude_self: bool = False,
    chunk: int = 256,
) -> Neighbors:
    """The k nearest points of each query, in positions or in features of any dimension.

    Args:
        queries: where to look from; they may be the points.
        points: what is found.
        mask: which points are real; the others are never found.
        k: slots; empty ones remain where there are fewer points.
        query_mask: which queries are real; the others find nothing.
        exclude_self: query i does not find point i; for a set that is searched in itself.
        chunk: queries that are compared at once.

    Raises:
        ValueError: k or chunk is not positive; the sets differ in dimension; a set without points.
    """
    return _search(
        queries, points, mask, query_mask, k, np.inf, exclude_self=exclude_self, chunk=chunk
    )


@partial(jax.jit, static_argnames=("radius", "k", "exclude_self", "chunk"))
def within(
    queries: Float[Array, "*n query d"],
    points: Float[Array, "*n point d"],
    mask: Bool[Array, "*n point"] | None = None,
    *,
    radius: float,
    k: int,
    query_mask: Bool[Array, "*n query"] | None = None,
    exclude_self: bool = False,
    chunk: int = 256,
) -> Neighbors:
    """The points at most `radius` from each query, the nearest k of them.

    PointNet++ keeps the first k in the order of the list, so that its neighbours depend on that
    order; here they are the nearest, and `count` tells where there are more.

    Args:
        radius: in the unit of the positions.
        k, mask, query_mask, exclude_self, chunk: as in `nearest`.

    Raises:
        ValueError: as in `nearest`, and where the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"a radius is a positive length; got {radius}")
    return _search(
        queries, points, mask, query_mask, k, radius, exclude_self=exclude_self, chunk=chunk
    )


def _search(
    queries: Array,
    points: Array,
    mask: Array | None,
    query_mask: Array | None,
    k: int,
    radius: float,
    *,
    exclude_self: bool,
    chunk: int,
) -> Neighbors:
    if k < 1 or chunk < 1:
        raise ValueError(f"a search has at least one slot and query; got k={k}, chunk={chunk}")
    if queries.shape[-1] != points.shape[-1]:
        raise ValueError(
            "queries and points have as many coordinates each; got shapes "
            f"{queries.shape} and {points.shape}"
        )
    if points.shape[-2] == 0:
        raise ValueError("a search needs at least one point, real or not; got an empty set")
    mask = jnp.ones(points.shape[:-1], bool) if mask is None else mask
    query_mask = jnp.ones(queries.shape[:-1], bool) if query_mask is None else query_mask

    options = {"k": k, "radius": radius, "exclude_self": exclude_self}
    all_pairs = partial(_all_pairs, chunk=chunk, **options)

    def one_cloud(queries: Array, points: Array, mask: Array, query_mask: Array):
        given = *jax.lax.stop_gradient((queries, points)), mask, query_mask
        if _is_large(queries, points, k):
            tiles = partial(nearest_in_tiles, **options)
            index, taken, count = jax.lax.platform_dependent(*given, cpu=tiles, default=all_pairs)
        else:
            index, taken, count = all_pairs(*given)
        vectors = gather(points, index) - queries[:, None]
        distance = safe_norm(jnp.where(taken[..., None], vectors, 0))
        return index, distance, taken, count

    search = jnp.vectorize(one_cloud, signature="(q,d),(p,d),(p),(q)->(q,k),(q,k),(q,k),(q)")
    return Neighbors(*search(queries, points, mask, query_mask))


def _is_large(queries: Array, points: Array, k: int) -> bool:
    """Whether sorting points saves more than it costs."""
    sizes = queries.shape[0], points.shape[0]
    known = all(isinstance(size, int) for size in sizes)  # no symbols
    return (
        known and min(sizes) >= LARGE and max(sizes) <= MOST and points.shape[1] <= 3 and k <= FEW
    )


def _all_pairs(
    queries: Array,
    points: Array,
    mask: Array,
    query_mask: Array,
    *,
    k: int,
    radius: float,
    exclude_self: bool,
    chunk: int,
) -> tuple[Array, Array, Array]:
    """Rows of the nearest points, which slots are taken, and how many points are in reach."""
    spare = SPARE if points.shape[1] > WIDE and np.isinf(radius) else 0
    block, more = _block(points.shape[0], k + spare)
    among = jnp.pad(points, ((0, more), (0, 0))), jnp.pad(mask, (0, more))
    of_chunk = partial(
        _of_chunk, among, k=k, spare=spare, radius=radius, exclude_self=exclude_self, block=block
    )
    return in_chunks(of_chunk, queries, query_mask, jnp.arange(queries.shape[0]), chunk=chunk)


def _block(n_point: Any, k: int) -> tuple[int, int]:
    """Points in a block of `_least`, and how many to add, for full blocks and k points or more."""
    if not isinstance(n_point, int):  # symbolic
        return 1, k
    block = max(int(np.sqrt(n_point / k)), 1)
    if block < 8:
        return 1, max(k - n_point, 0)
    return block, -n_point % block


def _of_chunk(
    among: tuple[Array, Array],
    queries: Array,
    real: Array,
    row: Array,
    *,
    k: int,
    spare: int,
    radius: float,
    exclude_self: bool,
    block: int,
) -> tuple[Array, Array, Array]:
    """As `_all_pairs`, for some of the queries."""
    points, mask = among
    square = _by_products(queries, points, mask) if spare else square_distances(queries, points)
    reached = mask[None] & real[:, None] & (square <= radius**2)
    if exclude_self:
        reached &= row[:, None] != jnp.arange(points.shape[0])[None]
    least, index = _least(jnp.where(reached, square, jnp.inf), k + spare, block)
    if spare:
        index, least = jax.lax.sort((index, least), num_keys=1)  # of equal ones the first, as ever
        exact = jnp.sum(jnp.square(points[index] - queries[:, None]), -1)
        least, place = jax.lax.top_k(-jnp.where(least < jnp.inf, exact, jnp.inf), k)
        least, index = -least, jnp.take_along_axis(index, place, 1)
    taken = least < jnp.inf
    return jnp.where(taken, index, 0), taken, jnp.sum(reached, -1, dtype=jnp.int32)


def _by_products(queries: Array, points: Array, mask: Array) -> Array:
    """|x - y|^2 up to a number for each query, rounded; places are those from the mean point."""
    known = jnp.where(mask[:, None], points, 0)
    mean = jnp.sum(known, 0, keepdims=True) / jnp.maximum(jnp.sum(mask), 1).astype(points.dtype)
    x, y = queries - mean, points - mean
    return jnp.sum(jnp.square(y), 1)[None] - 2 * jnp.einsum("qd,pd->qp", x, y, precision="highest")


def square_distances(
    queries: Float[Array, "query d"], points: Float[Array, "point d"]
) -> Float[Array, "query point"]:
    """|x - y|^2 of all pairs, a few coordinates at a time: long loops over points, no large sum."""
    query, d = queries.shape
    point, groups = points.shape[0], -(-d // GROUP)

    def add(square: Array, parts: tuple[Array, Array]) -> tuple[Array, None]:
        x, y = parts
        for i in range(x.shape[0]):
            square += jnp.square(x[i][:, None] - y[i][None])
        return square, None

    none = jnp.zeros((query, point), queries.dtype)
    if groups <= 1:
        return add(none, (queries.T, points.T))[0]
    full = groups * GROUP
    split = lambda x: jnp.pad(x, ((0, 0), (0, full - d))).T.reshape(groups, GROUP, -1)
    return jax.lax.scan(add, none, (split(queries), split(points)))[0]


def _least(values: Array, k: int, block: int) -> tuple[Array, Array]:
    """The k smallest numbers of each row and their columns, those of equal numbers ascending.

    They are in the k blocks with the smallest minima. So two short selections replace a long one,
    which takes several times as long.
    """
    if block == 1:
        least, column = jax.lax.top_k(-values, k)
        return -least, column
    blocks = values.reshape(values.shape[0], -1, block)
    chosen = jnp.sort(jax.lax.top_k(-jnp.min(blocks, -1), k)[1], -1)
    inside = jnp.take_along_axis(blocks, chosen[..., None], 1).reshape(-1, k * block)
    least, place = jax.lax.top_k(-inside, k)
    return -least, jnp.take_along_axis(chosen, place // block, 1) * block + place % block


def in_chunks(function: Callable[..., Any], *rows: Shaped[Array, "row ..."], chunk: int) -> Any:
    """function(*rows), which treats rows one by one, at most `chunk` of them at a time.

    What the function holds between input and output is held for one chunk only. The last chunk is
    filled up with zeros.

    Args:
        function: takes arrays and returns a tree of arrays, all with one entry per row.
        rows: its arguments.
        chunk: rows at a time, a static number.
    """
    n = rows[0].shape[0]
    if isinstance(n, int):
        if n <= chunk:
            return function(*rows)
        chunk = -(-n // -(-n // chunk))  # as many chunks, with the least to fill up
    number = -(-n // chunk)

    def split(x: Array) -> Array:
        padding = [(0, number * chunk - n)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(number, chunk, *x.shape[1:])

    out = jax.lax.map(lambda parts: function(*parts), tuple(split(x) for x in rows))
    return jax.tree.map(lambda y: y.reshape(number * chunk, *y.shape[2:])[:n], out)


@jax.jit
def gather(
    values: Shaped[Array, "*n point d"], index: Int[Array, "*n query neighbor"]
) -> Shaped[Array, "*n query neighbor d"]:
    """The values of the points that an index names, for each slot of each query."""
    rows = lambda values, index: values.at[index].get(mode="promise_in_bounds")
    return jnp.vectorize(rows, signature="(p,d),(q,k)->(q,k,d)")(values, index)


@jax.jit
def interpolate(
    features: Float[Array, "*n point channel"], neighbors: Neighbors
) -> Float[Array, "*n query channel"]:
    """The mean of the features of the neighbours, by the inverse square of their distance.

    At a point it is the value of that point (the mean of those that coincide), without the small
    number that is usually added to distances; its derivative there is the limit, zero. Queries that
    found nothing get zeros.

    Args:
        features: of the points.
        neighbors: what the queries found; three nearest is usual.

    References:
        Qi, Yi, Su, Guibas, "PointNet++", NeurIPS 2017, https://arxiv.org/abs/1706.02413 (eq. 2).
    """
    distance, mask = neighbors.distance, neighbors.mask
    farthest = jax.lax.stop_gradient(jnp.max(jnp.where(mask, distance, 0), -1, keepdims=True))
    relative = distance / jnp.where(farthest > 0, farthest, 1)
    # Nearer than this, the others have no part in the sum that rounding would not remove.
    here = mask & (relative < float(jnp.finfo(distance.dtype).eps) ** 0.75)
    far = mask & ~here
    weights = jnp.where(far, jnp.where(far, relative, 1) ** -2, 0)
    weights = jnp.where(jnp.any(here, -1, keepdims=True), here, weights)
    weights = weights / jnp.where(jnp.any(mask, -1), jnp.sum(weights, -1), 1)[..., None]
    return jnp.sum(weights[..., None] * _of_slots(features, neighbors), -2)


def _of_slots(features: Array, neighbors: Neighbors) -> Array:
    return jnp.where(neighbors.mask[..., None], gather(features, neighbors.index), 0)
