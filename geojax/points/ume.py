"""Registration by moments: balls of two clouds with the same moments of features, a pose from each.

Around points of each cloud, farthest points of it, lie balls. The moments F of the invariant
features in a ball (see `moments`) span a space that does not depend on the pose, so that

    1. balls are matched by the distance of these spaces,
    2. each match gives a pose in closed form,
    3. the pose is taken that brings points with similar features together,
       sum_pq exp(-|R x_p + t - y_q|^2 / 2 w^2) cos(f_p, g_q),
    4. and is refined by iterated closest points.

The paper learns features by a network that is not invariant, and draws matches at random by
exp((1 - d) / 0.1). Here features are those of any invariant network, or of no network (`fpfh`); the
nearest balls are taken, and features are about their mean in the correlation, because features that
are not negative are all similar.

References:
    Haitman, Efraim, Francos, "UMERegRobust: universal manifold embedding compatible features for
    robust point cloud registration", ECCV 2024, https://arxiv.org/abs/2408.12380.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, unit
from geojax.points.closest_points import icp
from geojax.points.moments import has_full_rank, ume_distances, ume_pose
from geojax.points.procrustes import Pose, move, pose_through
from geojax.points.registration import Registration
from geojax.points.sampling import farthest_points
from geojax.points.search import gather, in_chunks

__all__ = ["ball_moments", "feature_correlation", "register_by_moments", "split_signs"]


def split_signs(features: Float[Array, "*n channel"]) -> Float[Array, "*n channel2"]:
    """max(f, 0) and max(-f, 0) side by side: features that are not negative, and lose nothing.

    Features that are nearly the same everywhere, such as histograms, tell more about a place if
    their mean over both clouds is taken away before.
    """
    return jnp.concatenate([jnp.maximum(features, 0), jnp.maximum(-features, 0)], -1)


def ball_moments(
    features: Float[Array, "*n point channel"],
    positions: Float[Array, "*n point 3"],
    centres: Float[Array, "*n ball 3"],
    mask: Bool[Array, "*n point"] | None = None,
    ball_mask: Bool[Array, "*n ball"] | None = None,
    *,
    radius: float,
    chunk: int = 64,
) -> Float[Array, "*n ball channel 4"]:
    """The moments F of the points in each ball, about its centre; zero for an empty ball.

    Which points are in a ball is a constant for autodiff.

    Args:
        features: invariant and not negative.
        positions: of the points.
        centres: of the balls.
        mask: which points are real.
        ball_mask: which balls are real; the others are empty.
        radius: of the balls, in the unit of the positions.
        chunk: balls at once; chunk x point x 4 numbers are held.

    Raises:
        ValueError: the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"a ball has a positive radius; got {radius}")
    mask = jnp.ones(positions.shape[:-1], bool) if mask is None else mask
    ball_mask = jnp.ones(centres.shape[:-1], bool) if ball_mask is None else ball_mask
    features, positions = (jnp.where(mask[..., None], a, 0) for a in (features, positions))

    def one_cloud(f: Array, x: Array, real: Array, centres: Array, taken: Array) -> Array:
        def moments(centres: Array, taken: Array) -> Array:
            y = x[None] - centres[:, None]
            near = jax.lax.stop_gradient(jnp.sum(y * y, -1)) <= radius**2
            inside = (near & real[None] & taken[:, None])[..., None]
            weights = jnp.where(inside, jnp.concatenate([jnp.ones_like(y[..., :1]), y], -1), 0)
            return jnp.einsum("bpi,pc->bci", weights, f, precision="highest")

        return in_chunks(moments, centres, taken, chunk=chunk)

    run = jnp.vectorize(one_cloud, signature="(p,c),(p,d),(p),(b,d),(b)->(b,c,k)")
    moments = run(features, positions, mask, centres, ball_mask)
    total = jnp.sum(moments[..., 0], -1)[..., None, None]
    return safe_divide(moments, jnp.broadcast_to(total, moments.shape))


def feature_correlation(
    poses: Pose,
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    source_features: Float[Array, "*n source channel"],
    target_features: Float[Array, "*n target channel"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    width: float,
    chunk: int = 16,
) -> Float[Array, "*n hypothesis"]:
    """How well each pose brings points with similar features together; see the module, step 3.

    Args:
        poses: hypotheses `[*n hypothesis]`.
        source: points that are moved.
        target: points that stay.
        source_features: of these points; all features are taken about their mean over both sets.
        target_features: of these points.
        source_mask: which source points are real.
        target_mask: which target points are real.
        width: w, in the unit of the positions.
        chunk: hypotheses at once; chunk x source x target x 3 numbers are held.

    Raises:
        ValueError: the width is not positive.
    """
    if not width > 0:
        raise ValueError(f"a Gaussian has a positive width; got {width}")
    source_mask = jnp.ones(source.shape[:-1], bool) if source_mask is None else source_mask
    target_mask = jnp.ones(target.shape[:-1], bool) if target_mask is None else target_mask
    masks = source_mask[..., None], target_mask[..., None]
    f, g = (
        jnp.where(m, a, 0) for m, a in zip(masks, (source_features, target_features), strict=True)
    )
    number = jnp.sum(source_mask, -1) + jnp.sum(target_mask, -1)
    number = jnp.maximum(number, 1).astype(f.dtype)[..., None]
    mean = ((jnp.sum(f, -2) + jnp.sum(g, -2)) / number)[..., None, :]
    f, g = (jnp.where(m, unit(a - mean), 0) for m, a in zip(masks, (f, g), strict=True))
    similar = jnp.einsum("...pc,...qc->...pq", f, g, precision="highest")
    source, target = (jnp.where(m, a, 0) for m, a in zip(masks, (source, target), strict=True))

    def one_pair(rotation: Array, translation: Array, x: Array, y: Array, similar: Array) -> Array:
        def correlation(rotation: Array, translation: Array) -> Array:
            points = jnp.broadcast_to(x, (rotation.shape[0], *x.shape))
            gap = move(Pose(rotation, translation), points)[:, :, None] - y[None, None]
            close = jnp.exp(-jnp.sum(gap * gap, -1) / (2 * width**2))
            return jnp.sum(close * similar[None], (1, 2))

        return in_chunks(correlation, rotation, translation, chunk=chunk)

    run = jnp.vectorize(one_pair, signature="(h,d,d),(h,d),(p,d),(q,d),(p,q)->(h)")
    return run(*poses, source, target, similar)


@partial(
    jax.jit,
    static_argnames=(
        "ball", "radius", "width", "balls", "points", "tries", "tolerance", "iterations"
    ),
)  # fmt: skip
def register_by_moments(
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    source_features: Float[Array, "*n source channel"],
    target_features: Float[Array, "*n target channel"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    ball: float,
    radius: float,
    width: float | None = None,
    balls: int = 64,
    points: int = 256,
    tries: int = 3,
    tolerance: float = 1e-5,
    iterations: int = 30,
) -> Registration:
    """The pose from the moments of features in balls; see the module.

    A ball whose moments have not rank four (too few points, a plane, features that are all the
    same) has no part. Where no match is left, the motion is none and there are no inliers.

    The pose is exact on copies; else it is as good as balls of the target lie where those of the
    source do, so that `points` should be many. It jumps where farthest points, matches or the
    choice change.

    Args:
        source: the cloud that moves.
        target: the cloud that stays.
        source_features: invariant and not negative, four or more: see `split_signs`.
        target_features: of the same kind.
        source_mask: which source points are real.
        target_mask: which target points are real.
        ball: the radius of balls, in the unit of the positions.
        radius: of the last step: pairs farther apart have no part in it.
        width: of the correlation; 0.3 of `ball` if not given, as published.
        balls: of the source, at most.
        points: of each cloud, at most, in the correlation; each of the target has a ball.
        tries: for each ball of the source, so many nearest of the target give poses.
        tolerance: of the rank, see `has_full_rank`, in units of `ball`.
        iterations: of the last step.

    Returns:
        The pose, and which source points it brings within the radius of a target point.

    Raises:
        ValueError: no ball, more balls than points, no try; as the functions it is made of.
    """
    if not 1 <= balls <= points or not 1 <= tries <= points:
        raise ValueError(
            "there are balls and tries, and as many points or more; got "
            f"{balls=}, {tries=}, {points=}"
        )
    few, many = (
        farthest_points(x, mask, count=points)
        for x, mask in ((source, source_mask), (target, target_mask))
    )
    x, f = (_rows(a, few.index) for a in (source, source_features))
    y, g = (_rows(a, many.index) for a in (target, target_features))
    one = ball_moments(
        source_features, source, x[..., :balls, :], source_mask, few.mask[..., :balls], radius=ball
    )
    two = ball_moments(target_features, target, y, target_mask, many.mask, radius=ball)
    full = [has_full_rank(m, tolerance=tolerance * ball) for m in (one, two)]
    matched = full[0][..., :, None] & full[1][..., None, :]
    nearness = jnp.where(matched, -ume_distances(one, two), -jnp.inf)
    best, partner = jax.lax.top_k(nearness, tries)
    poses = _poses(one, two, x[..., :balls, :], y, partner)
    taken = (best > -jnp.inf).reshape(*best.shape[:-2], -1)
    value = feature_correlation(
        poses, x, y, f, g, few.mask, many.mask, width=0.3 * ball if width is None else width
    )
    row = jnp.argmax(jnp.where(taken, value, -jnp.inf), -1)
    found = jnp.any(taken, -1)
    rotation = jnp.take_along_axis(poses.rotation, row[..., None, None, None], -3)[..., 0, :, :]
    translation = jnp.take_along_axis(poses.translation, row[..., None, None], -2)[..., 0, :]
    start = _or_none(Pose(rotation, translation), found)
    last = icp(
        start, source, target, source_mask, target_mask, radius=radius, iterations=iterations
    )
    return Registration(_or_none(last.pose, found), last.inliers & found[..., None])


def _rows(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index[..., None], -2)


def _poses(one: Array, two: Array, x: Array, y: Array, partner: Array) -> Pose:
    """The pose from each match, `[*n hypothesis]`; moments are about the centres x and y."""
    flat = gather(two.reshape(*two.shape[:-2], -1), partner)
    moments = flat.reshape(*flat.shape[:-1], *two.shape[-2:])
    here = jnp.broadcast_to(one[..., :, None, :, :], moments.shape)
    relative = ume_pose(here, moments)
    there = gather(y, partner) + relative.translation
    pose = pose_through(relative.rotation, jnp.broadcast_to(x[..., None, :], there.shape), there)
    batch = partner.shape[:-2]
    return Pose(pose.rotation.reshape(*batch, -1, 3, 3), pose.translation.reshape(*batch, -1, 3))


def _or_none(pose: Pose, found: Array) -> Pose:
    """The pose, or no motion."""
    still = jnp.broadcast_to(jnp.eye(3, dtype=pose.rotation.dtype), pose.rotation.shape)
    rotation = jnp.where(found[..., None, None], pose.rotation, still)
    return Pose(rotation, jnp.where(found[..., None], pose.translation, 0))
