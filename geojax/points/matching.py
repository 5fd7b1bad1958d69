"""Which point of one set belongs to which of another: from scores, or from features.

Scores are a matrix `[source, target]`, large where two points fit. Rows and columns of points that
are not real have no part in any result, and what is in them does not matter.

References:
    Sarlin, DeTone, Malisiewicz, Rabinovich, "SuperGlue", CVPR 2020,
    https://arxiv.org/abs/1911.11763 (optimal transport with a dustbin).
    Rocco et al., "Neighbourhood consensus networks", NeurIPS 2018,
    https://arxiv.org/abs/1810.10510 (dual softmax).
    Qin et al., "Geometric transformer for fast and robust point cloud registration", CVPR 2022,
    https://arxiv.org/abs/2202.06688 (from superpoints to points with these).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from geojax.arrays import safe_norm
from geojax.points.search import square_distances

__all__ = [
    "LOG_ZERO",
    "Matches",
    "best_matches",
    "dual_softmax",
    "log_sinkhorn",
    "mutual_nearest",
    "mutual_top_k",
]

CHUNK = 128  # sources that are compared at once
LOG_ZERO = -1e9  # the logarithm of zero: finite, and its exponential is zero


class Matches(NamedTuple):
    """Pairs of points.

    Attributes:
        source: rows of the source.
        target: rows of the target.
        score: of each pair, large where it fits.
        mask: which pairs are matches; the rows of the others are valid all the same.
    """

    source: Int[Array, "*n match"]
    target: Int[Array, "*n match"]
    score: Float[Array, "*n match"]
    mask: Bool[Array, "*n match"]


def dual_softmax(
    logits: Float[Array, "*n source target"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
) -> Float[Array, "*n source target"]:
    """Softmax over the targets times softmax over the sources: near one for mutual best matches.

    With logits 2 f.g - 2 of unit features it is the normalisation of exp(-|f - g|^2) by the sums of
    its rows and columns.
    """
    real = _real(logits, source_mask, target_mask)
    log = jnp.where(real, logits, LOG_ZERO)
    both = 2 * log - _log_sum_exp(log, -1) - _log_sum_exp(log, -2)
    return jnp.where(real, jnp.exp(jnp.where(real, both, 0)), 0)


def log_sinkhorn(
    logits: Float[Array, "*n source target"],
    dustbin: Float[Array, ""],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    iterations: int = 100,
) -> Float[Array, "*n source+1 target+1"]:
    """The logarithm of the best assignment in which points may stay alone, in a dustbin.

    Entropic optimal transport between the sets, each with one point more, the dustbin. Each real
    point has mass one, and a dustbin as many as the other set has points. So exp of the result has
    rows and columns that sum to one but for the last of each: the columns exactly, the rows in the
    limit of many iterations.

    The iterations are computed again for the derivatives instead of being stored.

    Args:
        logits: scores of the pairs.
        dustbin: the score of staying alone, the same for all; a parameter that is learned.
        source_mask: which sources are real.
        target_mask: which targets are real.
        iterations: of updates of rows, then columns; a static number.

    Returns:
        Logarithms; `LOG_ZERO` in rows and columns of points that are not real.

    Raises:
        ValueError: no iteration.
    """
    if iterations < 1:
        raise ValueError(f"Sinkhorn's algorithm takes one iteration or more; got {iterations}")
    source_mask = _mask(source_mask, logits.shape[:-1])
    target_mask = _mask(target_mask, (*logits.shape[:-2], logits.shape[-1]))
    row_mass, rows = _masses(source_mask, target_mask, logits.dtype)
    column_mass, columns = _masses(target_mask, source_mask, logits.dtype)
    real = _real(logits, source_mask, target_mask)
    batch, constant = [(0, 0)] * (logits.ndim - 2), dustbin.astype(logits.dtype)
    wide = jnp.pad(jnp.where(real, logits, LOG_ZERO), [*batch, (0, 1), (0, 1)])
    last = jnp.pad(jnp.zeros(logits.shape, bool), [*batch, (0, 1), (0, 1)], constant_values=True)
    both = rows[..., :, None] & columns[..., None, :]
    wide = jnp.where(both, jnp.where(last, constant, wide), LOG_ZERO)

    def step(potentials, _):
        _, v = potentials
        u = jnp.where(rows, row_mass - _log_sum_exp(wide + v[..., None, :], -1)[..., 0], 0)
        v = column_mass - _log_sum_exp(wide + u[..., :, None], -2)[..., 0, :]
        return (u, jnp.where(columns, v, 0)), None

    start = jnp.zeros_like(row_mass), jnp.zeros_like(column_mass)
    (u, v), _ = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), start, length=iterations)
    return jnp.where(both, wide + u[..., :, None] + v[..., None, :], LOG_ZERO)


def mutual_top_k(
    scores: Float[Array, "*n source target"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    k: int,
    threshold: float = 0.0,
) -> Bool[Array, "*n source target"]:
    """Pairs that are among the k best of their source and of their target.

    Scores equal to the k-th best count too, so that the order of the points does not matter.

    Args:
        scores: for instance probabilities, without the dustbin.
        source_mask: which sources are real.
        target_mask: which targets are real.
        k: how many each point may keep.
        threshold: a score is larger than this.

    Raises:
        ValueError: k is not positive.
    """
    if k < 1:
        raise ValueError(f"a point may keep one match or more; got k={k}")
    real = _real(scores, source_mask, target_mask)
    scores = jnp.where(real, scores, -jnp.inf)
    best_of = lambda x: jax.lax.top_k(x, min(k, x.shape[-1]))[0][..., -1:]
    kept = (scores >= best_of(scores)) & (scores >= best_of(scores.mT).mT)
    return kept & real & (scores > threshold)


def best_matches(
    scores: Float[Array, "*n source target"],
    mask: Bool[Array, "*n source target"] | None = None,
    *,
    count: int,
) -> Matches:
    """The pairs with the largest scores, best first; of equal ones the first in row order.

    Args:
        scores: of all pairs, for instance of `dual_softmax` between superpoints.
        mask: which pairs may be taken, for instance of `mutual_top_k`.
        count: how many, a static number; fewer in the mask where there are fewer.

    Raises:
        ValueError: count is not positive.
    """
    if count < 1:
        raise ValueError(f"there is one match or more to take; got count={count}")
    mask = _mask(mask, scores.shape)
    flat = jnp.where(mask, scores, -jnp.inf).reshape(*scores.shape[:-2], -1)
    more = max(count - flat.shape[-1], 0)
    flat = jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, more)], constant_values=-jnp.inf)
    best, index = jax.lax.top_k(flat, count)
    taken = best > -jnp.inf
    index = jnp.where(taken, index, 0)
    source, target = index // scores.shape[-1], index % scores.shape[-1]
    return Matches(source, target, jnp.where(taken, best, 0), taken)


def mutual_nearest(
    source: Float[Array, "*n source channel"],
    target: Float[Array, "*n target channel"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
) -> Matches:
    """For each source the target with the nearest feature, a match if that is so both ways.

    Returns:
        One pair per source; the score is minus the distance of the features.
    """
    rows_of = jnp.vectorize(_partners, signature="(s,d),(t,d),(s),(t)->(s),(s),(t)")
    masks = _mask(source_mask, source.shape[:-1]), _mask(target_mask, target.shape[:-1])
    partner, found, back = rows_of(*jax.lax.stop_gradient((source, target)), *masks)
    rows = jnp.broadcast_to(jnp.arange(source.shape[-2]), partner.shape)
    mutual = found & (jnp.take_along_axis(back, partner, -1) == rows)
    there = jnp.take_along_axis(target, partner[..., None], -2)
    gap = jnp.where(found[..., None], there - source, 0)
    return Matches(rows.astype(partner.dtype), partner, -safe_norm(gap), mutual)


def _partners(
    source: Array, target: Array, source_mask: Array, target_mask: Array
) -> tuple[Array, Array, Array]:
    """Each source's nearest target, whether it has one, and each target's nearest source.

    Every distance is formed once; of points equally far the first one counts.
    """
    n, size = source.shape[0], target.shape[0]
    chunk = min(CHUNK, n) if isinstance(n, int) else 1
    number = -(-n // chunk)
    split = lambda x: jnp.pad(x, [(0, number * chunk - n)] + [(0, 0)] * (x.ndim - 1)).reshape(
        number, chunk, *x.shape[1:]
    )

    def step(best: tuple[Array, Array], parts: tuple) -> tuple[tuple[Array, Array], tuple]:
        x, real, first = parts
        square = square_distances(x, target)
        square = jnp.where(real[:, None] & target_mask[None], square, jnp.inf)
        least, row = _first_least(square, 0)
        nearer = least < best[0]
        best = jnp.where(nearer, least, best[0]), jnp.where(nearer, row + first, best[1])
        nearest, column = _first_least(square, 1)
        return best, (column, nearest < jnp.inf)

    start = jnp.full(size, jnp.inf, source.dtype), jnp.full(size, -1)
    chunks = split(source), split(source_mask), jnp.arange(number) * chunk
    (_, back), (partner, found) = jax.lax.scan(step, start, chunks)
    return partner.reshape(-1)[:n], found.reshape(-1)[:n], back


def _first_least(x: Array, axis: int) -> tuple[Array, Array]:
    """The least along an axis and where it is first; faster than argmin on a CPU."""
    least = jnp.min(x, axis, keepdims=True)
    places = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    place = jnp.min(jnp.where(x == least, places, jnp.iinfo(jnp.int32).max), axis)
    return jnp.squeeze(least, axis), place


def _mask(mask: Array | None, shape: tuple) -> Array:
    return jnp.ones(shape, bool) if mask is None else mask


def _real(scores: Array, source_mask: Array | None, target_mask: Array | None) -> Array:
    """Pairs of two real points."""
    rows = _mask(source_mask, scores.shape[:-1])
    columns = _mask(target_mask, (*scores.shape[:-2], scores.shape[-1]))
    return rows[..., :, None] & columns[..., None, :]


def _masses(mask: Array, other: Array, dtype) -> tuple[Array, Array]:
    """Logarithms of the masses of one set and its dustbin, and which of them are real."""
    last = [(0, 0)] * (mask.ndim - 1) + [(0, 1)]
    number = jnp.sum(other, -1, keepdims=True, dtype=dtype)
    alone = jnp.where(number > 0, jnp.log(jnp.maximum(number, 1)), LOG_ZERO)
    mass = jnp.concatenate([jnp.where(mask, 0, LOG_ZERO).astype(dtype), alone.astype(dtype)], -1)
    return mass, jnp.pad(mask, last, constant_values=True)


def _log_sum_exp(x: Array, axis: int) -> Array:
    """The axis is kept; where everything is `LOG_ZERO`, so is the result, about."""
    largest = jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    return largest + jnp.log(jnp.sum(jnp.exp(x - largest), axis, keepdims=True))
