"""From coarse to fine: superpoints are matched first, then the points of their patches.

    1. superpoints: dual softmax of 2 f.g - 2 of unit features, the best pairs of all
    2. patches: each point belongs to the nearest superpoint, the nearest of them are its patch
    3. points: in each pair of patches the best assignment with a dustbin, exp of `log_sinkhorn`;
       pairs among the k best of both points whose probability is above a confidence
    4. pose: that of each pair of patches by weighted Procrustes, of these the one with the most
       inliers among all correspondences, refined ("local to global")

References:
    Yu et al., "Rotation-invariant transformer for point cloud matching" (RoITr), CVPR 2023,
    https://arxiv.org/abs/2303.08231 (1 to 3).
    Qin et al., "Geometric transformer for fast and robust point cloud registration", CVPR 2022,
    https://arxiv.org/abs/2202.06688 (the dual softmax, and 4; RoITr takes random samples instead).
"""

from functools import partial
from math import sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from geojax.arrays import safe_divide, unit
from geojax.points.matching import (
    Matches,
    best_matches,
    dual_softmax,
    log_sinkhorn,
    mutual_top_k,
)
from geojax.points.procrustes import fit_pose
from geojax.points.registration import Registration, refine, select_pose
from geojax.points.sampling import farthest_points
from geojax.points.search import gather, nearest

__all__ = [
    "Patches",
    "feature_scores",
    "local_to_global",
    "match_patches",
    "match_superpoints",
    "patch_mean",
    "patches",
    "register_by_patches",
]

CONFIDENCE = 0.05
LEAST = 3  # correspondences that a pose is made of


class Patches(NamedTuple):
    """Points of each superpoint, nearest first.

    Attributes:
        index: rows of the cloud; some row where the slot is empty.
        mask: whether the slot is taken.
    """

    index: Int[Array, "*n patch slot"]
    mask: Bool[Array, "*n patch slot"]


def feature_scores(
    source: Float[Array, "*n source channel"], target: Float[Array, "*n target channel"]
) -> Float[Array, "*n source target"]:
    """f.g / sqrt(d): the scores that the loss "sinkhorn" trains, with a dustbin beside them.

    Unit descriptors of other losses tell points apart by f.g / 0.1, say: give them as
    unit(f) * sqrt(sqrt(d) / 0.1), and a dustbin of 0.8 / 0.1 where points of a smaller similarity
    than 0.8 are rather alone.
    """
    scores = jnp.einsum("...ic,...jc->...ij", source, target, precision="highest")
    return scores / sqrt(source.shape[-1])


def patches(
    positions: Float[Array, "*n point 3"],
    centres: Float[Array, "*n patch 3"],
    mask: Bool[Array, "*n point"] | None = None,
    centre_mask: Bool[Array, "*n patch"] | None = None,
    *,
    size: int = 64,
) -> Patches:
    """Each point in the patch of its nearest centre; the nearest points of each where it is full.

    Args:
        positions: of the points.
        centres: superpoints.
        mask: which points are real.
        centre_mask: which superpoints are real.
        size: slots of a patch, a static number.

    Raises:
        ValueError: the size is not positive.
    """
    if size < 1:
        raise ValueError(f"a patch has room for one point or more; got size={size}")
    count = centres.shape[-2]
    found = nearest(positions, centres, centre_mask, k=1, query_mask=mask)
    owner = jnp.where(found.mask, found.index, count)[..., 0]

    def one_cloud(owner: Array, distance: Array) -> tuple[Array, Array]:
        rows = jnp.arange(owner.shape[0], dtype=jnp.int32)
        _, _, order = jax.lax.sort((owner, distance, rows), num_keys=2)
        number = jnp.zeros(count + 1, jnp.int32).at[owner].add(1)[:count]
        place = (jnp.cumsum(number) - number)[:, None] + jnp.arange(size)[None]
        taken = jnp.arange(size)[None] < number[:, None]
        return jnp.where(taken, order[jnp.where(taken, place, 0)], 0), taken

    run = jnp.vectorize(one_cloud, signature="(p),(p)->(c,k),(c,k)")
    return Patches(*run(owner, jax.lax.stop_gradient(found.distance[..., 0])))


def patch_mean(
    features: Float[Array, "*n point channel"], of: Patches
) -> Float[Array, "*n patch channel"]:
    """The mean over the points of each patch; zero for an empty one."""
    rows = jnp.where(of.mask[..., None], gather(features, of.index), 0)
    number = jnp.sum(of.mask, -1).astype(features.dtype)[..., None]
    total = jnp.sum(rows, -2)
    return safe_divide(total, jnp.broadcast_to(number, total.shape))


def match_superpoints(
    source: Float[Array, "*n source channel"],
    target: Float[Array, "*n target channel"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    count: int = 256,
) -> Matches:
    """The pairs of superpoints with the largest dual softmax of their unit features, best first.

    Args:
        source: coarse features.
        target: coarse features.
        source_mask: which are real.
        target_mask: which are real.
        count: of pairs, a static number; fewer in the mask where there are fewer.
    """
    f, g = unit(source), unit(target)
    logits = 2 * jnp.einsum("...ic,...jc->...ij", f, g, precision="highest") - 2
    rows, columns = (
        jnp.ones(x.shape[:-1], bool) if mask is None else mask
        for x, mask in ((source, source_mask), (target, target_mask))
    )
    scores = dual_softmax(logits, rows, columns)
    return best_matches(scores, rows[..., :, None] & columns[..., None, :], count=count)


def match_patches(
    source_features: Float[Array, "*n source channel"],
    target_features: Float[Array, "*n target channel"],
    source_patches: Patches,
    target_patches: Patches,
    pairs: Matches,
    dustbin: Float[Array, ""],
    *,
    k: int = 3,
    threshold: float = CONFIDENCE,
    iterations: int = 100,
) -> Matches:
    """Correspondences in each pair of patches, `[*n pair match]`, of rows of the clouds.

    Args:
        source_features: of all points; scores are `feature_scores`.
        target_features: of all points.
        source_patches: of the superpoints of the source.
        target_patches: of the superpoints of the target.
        pairs: which superpoints belong together.
        dustbin: the score of a point that stays alone.
        k: a pair is among the so many best of both of its points.
        threshold: its probability is larger than this.
        iterations: of Sinkhorn's algorithm, a static number.

    Returns:
        The score is the probability. There are k places for each slot of the smaller patch.
    """
    rows, columns = (
        Patches(_taken(of.index, at), _taken(of.mask, at) & pairs.mask[..., None])
        for of, at in ((source_patches, pairs.source), (target_patches, pairs.target))
    )
    f = jnp.where(rows.mask[..., None], gather(source_features, rows.index), 0)
    g = jnp.where(columns.mask[..., None], gather(target_features, columns.index), 0)
    scores = feature_scores(f, g)
    log = log_sinkhorn(scores, dustbin, rows.mask, columns.mask, iterations=iterations)
    chance = jnp.exp(log[..., :-1, :-1])
    kept = mutual_top_k(chance, rows.mask, columns.mask, k=k, threshold=threshold)
    best = best_matches(chance, kept, count=k * min(chance.shape[-2:]))
    source = jnp.take_along_axis(rows.index, best.source, -1)
    target = jnp.take_along_axis(columns.index, best.target, -1)
    return best._replace(source=source, target=target)


def local_to_global(
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    matches: Matches,
    *,
    radius: float,
    iterations: int = 5,
) -> Registration:
    """The pose of one pair of patches that has the most inliers in all pairs, refined.

    Args:
        source: the cloud that moves.
        target: the cloud that stays.
        matches: `[*n pair match]`, with scores as weights. A pair with fewer than three makes no
            pose.
        radius: of inliers, in the unit of the positions.
        iterations: of the refinement.

    Returns:
        The pose and which matches are inliers, `[*n pair*match]`; none where no pair makes a pose.
    """
    x, y = gather(source, matches.source), gather(target, matches.target)
    local = fit_pose(x, y, matches.score, matches.mask)
    real = jnp.sum(matches.mask, -1) >= LEAST
    flat = lambda a, axes: a.reshape(*a.shape[: a.ndim - axes], -1, *a.shape[a.ndim - axes + 2 :])
    x, y, weights, mask = flat(x, 3), flat(y, 3), flat(matches.score, 2), flat(matches.mask, 2)
    mask = mask & jnp.any(real, -1)[..., None]
    first = select_pose(local, x, y, mask, radius=radius, pose_mask=real)
    return refine(first.pose, x, y, weights, mask, radius=radius, iterations=iterations)


@partial(
    jax.jit,
    static_argnames=(
        "radius", "superpoints", "size", "pairs", "k", "threshold", "dustbin", "iterations"
    ),
)  # fmt: skip
def register_by_patches(
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    source_features: Float[Array, "*n source channel"],
    target_features: Float[Array, "*n target channel"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    radius: float,
    superpoints: int = 64,
    size: int = 64,
    pairs: int = 256,
    k: int = 3,
    threshold: float = CONFIDENCE,
    dustbin: float = 1.0,
    iterations: int = 100,
) -> Registration:
    """All four steps of the module, from one descriptor of each point.

    Superpoints are farthest points, and their feature is the mean of the unit descriptors of their
    patch. Where a network has features of superpoints, `match_superpoints` takes them instead.

    Args:
        source: the cloud that moves.
        target: the cloud that stays.
        source_features: descriptors.
        target_features: descriptors.
        source_mask: which source points are real.
        target_mask: which target points are real.
        radius: of inliers, in the unit of the positions.
        superpoints: of each cloud, at most.
        dustbin: the score of a point that stays alone, in the scale of `feature_scores`; as the
            descriptors were trained. If it is too low, points without a partner get a wrong one.
        size, pairs, k, threshold, iterations: as of `patches`, `match_superpoints` and
            `match_patches`.

    Returns:
        The pose and which correspondences are inliers.
    """
    clouds = []
    for x, f, mask in (
        (source, source_features, source_mask),
        (target, target_features, target_mask),
    ):
        chosen = farthest_points(x, mask, count=superpoints)
        centres = jnp.take_along_axis(x, chosen.index[..., None], -2)
        of = patches(x, centres, mask, chosen.mask, size=size)
        clouds.append((of, patch_mean(unit(f), of), chosen.mask))
    (rows, coarse, real), (columns, other, there) = clouds
    matched = match_superpoints(coarse, other, real, there, count=pairs)
    constant = jnp.asarray(dustbin, source_features.dtype)
    found = match_patches(
        source_features, target_features, rows, columns, matched, constant,
        k=k, threshold=threshold, iterations=iterations,
    )  # fmt: skip
    return local_to_global(source, target, found, radius=radius)


def _taken(values: Shaped[Array, "*n patch slot"], at: Int[Array, "*n pair"]) -> Array:
    return jnp.take_along_axis(values, at[..., None], -2)
