"""Losses of the descriptors of two clouds: an assignment of points, and moments of balls.

Labels and parts are those of `training.descriptors`; the source is part 0, the target part 1, and
structures with more parts have NaN. Points without a label have no part in anything.

    sinkhorn    with the scores f_i . g_j / sqrt(d) and the dustbin's, the best assignment P of the
                points to each other or to the dustbin (`points.log_sinkhorn`): the mean of -log P
                over pairs at one place, and over points that have no point of the other cloud
                nearer than `far`, which belong to the dustbin
    ume         for key points k of the source, farthest points among those that both clouds have:
                the moments F_k and G_k of features in the balls around the place of k in the source
                and in the target (`points.ume_moments`), the distance d of the spaces they span,
                and -log of the share of exp((1 - d(F_k, G_k)) / 0.1) among all G_l, and among all
                F_l, of places l farther than `far` from k

Descriptors are taken as they are, not as unit vectors. The dustbin's score is a fixed number, where
RoITr learns one: descriptors learn the scale of the scores beside it. The features of
"ume", which may not be negative, are max(f, 0) and max(-f, 0). Balls whose moments have not rank
four have no part: no pose follows from them. Moments are taken in the common frame, which changes
no distance.

References:
    Sarlin, DeTone, Malisiewicz, Rabinovich, "SuperGlue", CVPR 2020,
    https://arxiv.org/abs/1911.11763.
    Yu et al., "Rotation-invariant transformer for point cloud matching" (RoITr), CVPR 2023,
    https://arxiv.org/abs/2303.08231.
    Haitman, Efraim, Francos, "UMERegRobust", ECCV 2024, https://arxiv.org/abs/2408.12380.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_norm
from geojax.graphs import Batch, by_graph
from geojax.graphs.parts import PART
from geojax.points import (
    LOG_ZERO,
    ball_moments,
    farthest_points,
    feature_scores,
    has_full_rank,
    log_sinkhorn,
    split_signs,
    ume_distances,
)
from geojax.training.descriptors import TEMPERATURE, pairs_of

__all__ = ["KEYS", "sinkhorn", "ume"]

KEYS = 32  # balls of each pair of clouds, at most


class Clouds(NamedTuple):
    """The members of each graph, and what is known of them.

    Attributes:
        f: descriptors.
        x: places.
        source: members of the source.
        target: members of the target.
        near: pairs of a source and a target point at one place.
        far: pairs of a source and a target point at two places.
        more: graphs with a third part.
    """

    f: Float[Array, "graph member d"]
    x: Float[Array, "graph member 3"]
    source: Bool[Array, "graph member"]
    target: Bool[Array, "graph member"]
    near: Bool[Array, "graph member member2"]
    far: Bool[Array, "graph member member2"]
    more: Bool[Array, "graph"]


def sinkhorn(
    descriptors: Float[Array, "node d"],
    places: Float[Array, "node 3"],
    mask: Bool[Array, "node"],
    batch: Batch,
    *,
    radius: float,
    far: float,
    dustbin: float,
    iterations: int = 100,
) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """The negative log likelihood of the assignment; see the module.

    A point with several partners is asked to share itself evenly among them. Points whose nearest
    partner is between `radius` and `far` away are assigned, and not asked for anything.

    Args:
        descriptors: of any length.
        places: labels.
        mask: which are known.
        batch: whose nodes have the input `part`.
        radius, far: in the unit of the positions.
        dustbin: the score of staying alone.
        iterations: of Sinkhorn's algorithm, a static number.

    Returns:
        The loss of each graph, and which have points of both clouds of which something is asked.

    Raises:
        KeyError: the structures have no parts.
    """
    clouds = _clouds(descriptors, places, mask, batch, radius, far)
    source, target = clouds.source, clouds.target
    scores = feature_scores(clouds.f, clouds.f)
    constant = jnp.asarray(dustbin, scores.dtype)
    log = log_sinkhorn(scores, constant, source, target, iterations=iterations)
    alone = source & jnp.all(clouds.far | ~target[:, None, :], 2)
    left = target & jnp.all(clouds.far | ~source[:, :, None], 1)
    asked = jnp.concatenate([clouds.near, alone[:, :, None]], 2)
    last = jnp.pad(left, [(0, 0), (0, 1)])
    asked = jnp.concatenate([asked, last[:, None]], 1)
    number = jnp.sum(asked, (1, 2)).astype(log.dtype)
    loss = safe_divide(-jnp.sum(jnp.where(asked, log, 0), (1, 2)), number)
    known = (number > 0) & source.any(-1) & target.any(-1)
    return jnp.where(clouds.more, jnp.nan, loss), known | clouds.more


def ume(
    descriptors: Float[Array, "node d"],
    places: Float[Array, "node 3"],
    mask: Bool[Array, "node"],
    batch: Batch,
    *,
    radius: float,
    far: float,
    ball: float,
    keys: int = KEYS,
) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """The contrastive loss of moments, the mean of both directions; see the module.

    Args:
        descriptors: two channels or more.
        places: labels.
        mask: which are known.
        batch: whose nodes have the input `part`.
        radius, far: in the unit of the positions.
        ball: the radius of the balls, in the unit of the positions.
        keys: balls of each pair of clouds, at most; a static number.

    Returns:
        The loss of each graph, and which have two balls far from each other.

    Raises:
        KeyError: the structures have no parts.
        ValueError: descriptors of one channel: moments of rank four need four features.
    """
    if descriptors.shape[-1] < 2:
        raise ValueError(
            "moments need four features, the two signs of two channels or more; got descriptors of "
            f"shape {descriptors.shape}"
        )
    clouds = _clouds(descriptors, places, mask, batch, radius, far)
    shared = clouds.source & clouds.near.any(-1)
    chosen = farthest_points(clouds.x, shared, count=keys)
    centres = jnp.take_along_axis(clouds.x, chosen.index[..., None], 1)
    features = split_signs(clouds.f)
    one, two = (
        ball_moments(features, clouds.x, centres, part, chosen.mask, radius=ball)
        for part in (clouds.source, clouds.target)
    )
    full = [has_full_rank(jax.lax.stop_gradient(m), tolerance=1e-5 * ball) for m in (one, two)]
    taken = chosen.mask & full[0] & full[1]
    logits = (1 - ume_distances(one, two)) / TEMPERATURE
    gap = safe_norm(centres[:, :, None] - centres[:, None])
    other = (gap > far) & taken[:, :, None] & taken[:, None]
    there = other | jnp.eye(keys, dtype=bool)[None]
    low = jnp.where(there, logits, LOG_ZERO)
    right = jnp.diagonal(logits, axis1=1, axis2=2)
    each = (jax.nn.logsumexp(low, 2) + jax.nn.logsumexp(low, 1)) / 2 - right
    counts = taken & other.any(-1)
    number = jnp.sum(counts, -1).astype(each.dtype)
    loss = safe_divide(jnp.sum(jnp.where(counts, each, 0), -1), number)
    return jnp.where(clouds.more, jnp.nan, loss), (number > 0) | clouds.more


def _clouds(
    descriptors: Array, places: Array, mask: Array, batch: Batch, radius: float, far: float
) -> Clouds:
    pairs = pairs_of(descriptors, places, mask, batch, radius=radius, far=far)
    rows = lambda x: by_graph(x, batch.graph)[0]
    part, known = rows(batch.graph.nodes[PART]), rows(mask)
    source, target = (known & (part == k) for k in (0, 1))
    f, x = (
        jnp.where((source | target)[..., None], rows(a), 0) for a in (descriptors, places)
    )  # a third cloud may have NaN
    between = source[:, :, None] & target[:, None, :]
    near, away = pairs.near & between, pairs.far & between
    return Clouds(f, x, source, target, near, away, jnp.any(known & (part > 1), -1))
