"""Fast point feature histograms: how normals turn around a point, in 33 numbers.

SPFH(p) holds three histograms over the neighbours q of p, of the Darboux features theta, alpha and
phi of the pairs (p, q), each with the sum 100. FPFH adds those of the neighbours:

    FPFH(p) = SPFH(p) + sum_q w_q SPFH(q) / sum_q w_q,   w_q = 1 / |x_q - x_p|^2

so that each histogram has the sum 200. This is Open3D's convention, and its order (theta, alpha,
phi, 11 bins each); the paper's weights are 1 / distance and its sum is divided by the number of
neighbours.

Counts have no derivative. Soft bins share each pair between the two bins whose centres are nearest,
linearly: continuous in the features, and the same up to the width of a bin.

References:
    Rusu, Blodow, Beetz, "Fast point feature histograms (FPFH) for 3D registration", ICRA 2009,
    https://doi.org/10.1109/ROBOT.2009.5152473.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide
from geojax.points.pairs import darboux_features
from geojax.points.search import Neighbors, gather, in_chunks

__all__ = ["fpfh", "histograms"]

BINS = 11


@partial(jax.jit, static_argnames=("soft", "bins", "chunk"))
def fpfh(
    positions: Float[Array, "*n point 3"],
    normals: Float[Array, "*n point 3"],
    neighbors: Neighbors,
    *,
    soft: bool = False,
    bins: int = BINS,
    chunk: int = 1024,
) -> Float[Array, "*n point feature"]:
    """The FPFH of each point: three histograms one after the other, each with the sum 200.

    A point without neighbours has zeros, and one whose neighbours coincide with it has its SPFH
    alone, as in Open3D.

    Args:
        positions: of the cloud.
        normals: unit vectors on a stated side (see `normals`): the features change with their sign.
        neighbors: of the points among themselves and without themselves, `exclude_self=True`.
            Open3D counts the point itself in `max_nn`: its 100 are 99 here.
        soft: whether pairs are shared between bins, for derivatives.
        bins: of each histogram.
        chunk: points at a time.
    """
    _check_bins(bins)

    def one_cloud(positions: Array, normals: Array, index: Array, distance: Array, mask: Array):
        def simple(position: Array, normal: Array, index: Array, mask: Array) -> Array:
            vectors = gather(positions, index) - position[:, None]
            vectors = jnp.where(mask[..., None], vectors, 0)
            features = darboux_features(vectors, normal[:, None], gather(normals, index))
            return histograms(features[..., :3], mask, soft=soft, bins=bins)

        spfh = in_chunks(simple, positions, normals, index, mask, chunk=chunk)

        def around(index: Array, weights: Array) -> Array:
            return jnp.sum(weights[..., None] * gather(spfh, index), -2)

        filled = jnp.any(mask, -1)  # a neighbour that found none itself has no histogram to add
        weights = _weights(distance, mask & gather(filled[:, None], index)[..., 0])
        return spfh + in_chunks(around, index, weights, chunk=chunk)

    run = jnp.vectorize(one_cloud, signature="(p,d),(p,d),(p,k),(p,k),(p,k)->(p,f)")
    return run(positions, normals, neighbors.index, neighbors.distance, neighbors.mask)


def _weights(distance: Array, mask: Array) -> Array:
    """1 / d^2 over its sum; zero where d = 0, which has no weight of its own."""
    apart = mask & (distance > 0)
    nearest = jnp.min(jnp.where(apart, distance, jnp.inf), -1, keepdims=True)
    nearest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(nearest), nearest, 1))
    relative = nearest / jnp.where(apart, distance, 1)  # at most 1: no square overflows
    weights = jnp.where(apart, relative * relative, 0)
    return safe_divide(weights, jnp.broadcast_to(jnp.sum(weights, -1)[..., None], weights.shape))


@partial(jax.jit, static_argnames=("soft", "bins"))
def histograms(
    features: Float[Array, "*n neighbor 3"],
    mask: Bool[Array, "*n neighbor"],
    *,
    soft: bool = False,
    bins: int = BINS,
) -> Float[Array, "*n feature"]:
    """Histograms of (theta, alpha, phi), one after the other, each with the sum 100 (SPFH).

    Bins are equally wide, theta's over [-pi, pi], the others' over [-1, 1]. Soft bins of theta
    close to a circle; those of alpha and phi end with all of a pair in the outermost bin.

    Args:
        features: of pairs, as from `darboux_features`.
        mask: which pairs count.
        soft: whether pairs are shared between bins.
        bins: of each histogram.

    Raises:
        ValueError: fewer than two bins.
    """
    _check_bins(bins)
    parts = []
    for axis, half in enumerate((np.pi, 1.0, 1.0)):
        place = (features[..., axis] / half + 1) * (bins / 2)
        share = _soft(place, bins, circle=axis == 0) if soft else _hard(place, bins)
        parts.append(jnp.sum(jnp.where(mask[..., None], share, 0), -2))
    number = jnp.maximum(jnp.sum(mask, -1), 1).astype(features.dtype)
    return jnp.concatenate(parts, -1) * (100 / number)[..., None]


def _check_bins(bins: int) -> None:
    if bins < 2:
        raise ValueError(f"a histogram has at least two bins; got bins={bins}")


def _hard(place: Array, bins: int) -> Array:
    """One for the bin that a place, in units of bins, is in."""
    number = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)).astype(jnp.int32), 0, bins - 1)
    return jax.nn.one_hot(number, bins, dtype=place.dtype)


def _soft(place: Array, bins: int, *, circle: bool) -> Array:
    """1 - |distance to the centre of each bin|, where that is positive."""
    if not circle:
        place = jnp.clip(place, 0.5, bins - 0.5)
    centers = jnp.asarray(np.arange(bins) + 0.5, place.dtype)
    away = place[..., None] - jnp.broadcast_to(centers, (*place.shape, bins))
    if circle:
        away = away - bins * jnp.round(jax.lax.stop_gradient(away) / bins)
    return jnp.maximum(1 - jnp.abs(away), 0)
