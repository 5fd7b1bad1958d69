"""The pose that takes one cloud onto another: hypotheses, selection, refinement, closest points.

Correspondences are rows: `source[..., i, :]` belongs to `target[..., i, :]` where the mask is true
(see `matching`). Which of them are inliers is a constant for autodiff; poses are differentiable in
the points and the weights.

References:
    Yao et al., "PARE-Net: position-aware rotation-equivariant networks for robust point cloud
    registration", ECCV 2024, https://arxiv.org/abs/2407.10142 (a pose from each correspondence).
    Fischler, Bolles, "Random sample consensus", 1981, https://doi.org/10.1145/358669.358692.
    Besl, McKay, "A method for registration of 3-D shapes", IEEE TPAMI 1992,
    https://doi.org/10.1109/34.121791 (closest points).
    Chen, Medioni, "Object modelling by registration of multiple range images", 1992,
    https://doi.org/10.1016/0262-8856(92)90066-C (point to plane).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from geojax.arrays import safe_divide, safe_norm
from geojax.points.procrustes import Pose, compose, fit_pose, fit_rotation, move, pose_through
from geojax.points.search import gather, in_chunks, nearest
from geojax.so3.rotation_heads import from_axis_angle

__all__ = [
    "Registration",
    "feature_residuals",
    "find_inliers",
    "icp",
    "icp_to_plane",
    "poses_from_features",
    "ransac",
    "refine",
    "register_by_features",
    "select_pose",
]


class Registration(NamedTuple):
    """A pose and what speaks for it.

    Attributes:
        pose: takes the source onto the target.
        inliers: which correspondences (for closest points: which source points) it brings within
            the radius of their target. Fewer than three determine no pose.
    """

    pose: Pose
    inliers: Bool[Array, "*n match"]


def poses_from_features(
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
) -> Pose:
    """A pose from each correspondence alone: Kabsch's rotation of its equivariant features.

    Where the features of two copies of a cloud are equivariant, one correct correspondence gives
    the pose exactly, if its vectors span a plane or more.

    Returns:
        Poses `[*n match]`; each takes its source point onto its target point.
    """
    return pose_through(fit_rotation(source_features, target_features), source, target)


def feature_residuals(
    rotation: Float[Array, "*n 3 3"],
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
) -> Float[Array, "*n match"]:
    """|R f_source - f_target| over all channels: what the contrastive rotation loss compares."""
    turned = jnp.einsum("...ij,...mcj->...mci", rotation, source_features, precision="highest")
    difference = turned - target_features
    return safe_norm(difference.reshape(*difference.shape[:-2], -1))


def find_inliers(
    pose: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
) -> Bool[Array, "*n match"]:
    """Which source points the pose brings within the radius of their target points."""
    if mask is not None:
        source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    square = jnp.sum(jnp.square(move(pose, source) - target), -1)
    close = jax.lax.stop_gradient(square) <= _positive(radius) ** 2
    return close if mask is None else close & mask


def select_pose(
    poses: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    pose_mask: Bool[Array, "*n hypothesis"] | None = None,
    chunk: int = 256,
) -> Registration:
    """The pose with the most inliers, the first of equally good ones.

    Args:
        poses: hypotheses `[*n hypothesis]`.
        source: points of the correspondences.
        target: points of the correspondences.
        mask: which correspondences are real.
        radius: of inliers, in the unit of the positions.
        pose_mask: which hypotheses are real; at least one.
        chunk: hypotheses tried at once; chunk x match distances are held.
    """
    mask = jnp.ones(source.shape[:-1], bool) if mask is None else mask
    if pose_mask is None:
        pose_mask = jnp.ones(poses.translation.shape[:-1], bool)

    def best(rotation: Array, translation: Array, real: Array, *points: Array) -> tuple:
        source, target, mask = points

        def count(rotation: Array, translation: Array) -> Array:
            repeat = lambda x: jnp.broadcast_to(x, (rotation.shape[0], *x.shape))
            one = Pose(rotation, translation)
            good = find_inliers(one, repeat(source), repeat(target), repeat(mask), radius=radius)
            return jnp.sum(good, -1, dtype=jnp.int32)

        constants = jax.lax.stop_gradient((rotation, translation))
        counts = in_chunks(count, *constants, chunk=chunk)
        row = jnp.argmax(jnp.where(real, counts, -1))
        return rotation[row], translation[row]

    best = jnp.vectorize(best, signature="(h,d,d),(h,d),(h),(m,d),(m,d),(m)->(d,d),(d)")
    pose = Pose(*best(*poses, pose_mask, source, target, mask))
    return Registration(pose, find_inliers(pose, source, target, mask, radius=radius))


def refine(
    start: Pose,
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    weights: Float[Array, "*n match"] | None = None,
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    iterations: int = 5,
) -> Registration:
    """The weighted Procrustes pose of the inliers of the last pose, some times over.

    A pose with fewer than three inliers stays.
    """
    weights = jnp.ones(source.shape[:-1], source.dtype) if weights is None else weights
    inliers = partial(find_inliers, source=source, target=target, mask=mask, radius=radius)

    def step(pose: Pose, _):
        good = inliers(pose)
        return _better(pose, fit_pose(source, target, weights, good), good, 3), None

    pose, _ = jax.lax.scan(step, start, length=iterations)
    return Registration(pose, inliers(pose))


def register_by_features(
    source_features: Float[Array, "*n match channel 3"],
    target_features: Float[Array, "*n match channel 3"],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    weights: Float[Array, "*n match"] | None = None,
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    iterations: int = 5,
) -> Registration:
    """One hypothesis from each correspondence, the one with the most inliers, refined.

    Args:
        source_features: equivariant features of the source points, as vectors.
        target_features: those of the target points.
        source: points of the correspondences.
        target: points of the correspondences.
        weights: of the correspondences in the refinement, for instance their scores.
        mask: which correspondences are real.
        radius: of inliers, in the unit of the positions.
        iterations: of the refinement.
    """
    if mask is not None:
        features = (source_features, target_features)
        source_features, target_features = (
            jnp.where(mask[..., None, None], f, 0) for f in features
        )
        source, target = (jnp.where(mask[..., None], x, 0) for x in (source, target))
    poses = poses_from_features(source_features, target_features, source, target)
    first = select_pose(poses, source, target, mask, radius=radius, pose_mask=mask)
    return refine(first.pose, source, target, weights, mask, radius=radius, iterations=iterations)


@partial(jax.jit, static_argnames=("radius", "hypotheses", "draws", "iterations", "chunk"))
def ransac(
    key: Key[Array, ""],
    source: Float[Array, "*n match 3"],
    target: Float[Array, "*n match 3"],
    mask: Bool[Array, "*n match"] | None = None,
    *,
    radius: float,
    hypotheses: int = 4096,
    draws: int | None = None,
    iterations: int = 5,
    chunk: int = 256,
) -> Registration:
    """The pose through three random correspondences that has the most inliers, refined.

    With a share p of correct correspondences a hypothesis is correct with a chance of p^3, so that
    3 / p^3 of them find one in 19 of 20 cases. A motion keeps lengths: of more `draws` those are
    tried whose triangles have the most similar sides, which costs little where p is small.

    Args:
        key: of the draws; the same key gives the same pose.
        source: points of the correspondences.
        target: points of the correspondences.
        mask: which correspondences are real; with fewer than three, no pose is determined.
        radius: of inliers, in the unit of the positions.
        hypotheses: how many are tried, a static number.
        draws: how many triples are drawn, a static number; as many as are tried if not given.
        iterations: of the refinement.
        chunk: as of `select_pose`.

    Raises:
        ValueError: no hypothesis, or fewer draws than hypotheses.
    """
    draws = hypotheses if draws is None else draws
    if not 1 <= hypotheses <= draws:
        raise ValueError(f"one hypothesis or more is tried of draws; got {hypotheses=}, {draws=}")
    real = jnp.ones(source.shape[:-1], bool) if mask is None else mask
    source, target = (jnp.where(real[..., None], x, 0) for x in (source, target))
    rows = _triples(key, real, draws)
    flat = rows.reshape(*rows.shape[:-2], -1)
    picked = lambda x: jnp.take_along_axis(x, flat[..., None], -2).reshape(*rows.shape, 3)
    triples = picked(source), picked(target)
    if draws > hypotheses:
        a, b = (jax.lax.stop_gradient(safe_norm(x - jnp.roll(x, 1, -2))) for x in triples)
        worst = jnp.max(safe_divide(jnp.abs(a - b), a + b), -1)
        kept = jax.lax.top_k(-worst, hypotheses)[1][..., None, None]
        triples = (jnp.take_along_axis(x, kept, -3) for x in triples)
    poses = fit_pose(*triples)
    first = select_pose(poses, source, target, mask, radius=radius, chunk=chunk)
    return refine(first.pose, source, target, None, mask, radius=radius, iterations=iterations)


def _triples(key: Array, mask: Array, count: int) -> Array:
    """Rows `[*n, count, 3]` of three different real entries each, if there are as many."""
    number = jnp.sum(mask, -1)[..., None]
    chance = jax.random.uniform(key, (3, *mask.shape[:-1], count))
    first, second, third = (
        jnp.floor(chance[i] * jnp.maximum(number - i, 1)).astype(jnp.int32) for i in range(3)
    )
    # Drawn of what remains, then moved past those that were taken, the smaller one first.
    second = second + (second >= first)
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    third = third + (third >= low)
    third = third + (third >= high)
    draws = jnp.minimum(jnp.stack([first, second, third], -1), mask.shape[-1] - 1)
    order = jnp.argsort(~mask, axis=-1)[..., None]  # stable: the real entries in their order
    flat = draws.reshape(*draws.shape[:-2], -1, 1)
    return jnp.take_along_axis(order, flat, -2).reshape(draws.shape)


@partial(jax.jit, static_argnames=("radius", "iterations"))
def icp(
    start: Pose,
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    radius: float,
    iterations: int = 30,
) -> Registration:
    """Iterated closest points: each step is the Procrustes pose onto the nearest target points.

    Args:
        start: a pose near the right one; the iteration finds the next minimum.
        source: the cloud that moves.
        target: the cloud that stays.
        source_mask: which source points are real.
        target_mask: which target points are real.
        radius: pairs farther apart have no part, in the unit of the positions.
        iterations: steps, a static number.
    """

    def step(pose: Pose, moved: Array, row: Array, close: Array) -> Pose:
        del moved
        return _better(
            pose, fit_pose(source, gather(target, row)[..., 0, :], None, close), close, 3
        )

    return _iterate(step, start, source, target, source_mask, target_mask, radius, iterations)


@partial(jax.jit, static_argnames=("radius", "iterations"))
def icp_to_plane(
    start: Pose,
    source: Float[Array, "*n source 3"],
    target: Float[Array, "*n target 3"],
    normals: Float[Array, "*n target 3"],
    source_mask: Bool[Array, "*n source"] | None = None,
    target_mask: Bool[Array, "*n target"] | None = None,
    *,
    radius: float,
    iterations: int = 30,
) -> Registration:
    """Iterated closest points with distances along the normals of the target, so that planes slide.

    Each step solves the problem linearised in a small turn, and turns by its exponential. What the
    normals leave open (sliding on a plane) stays as it is. The sign of a normal does not matter.

    Args:
        normals: unit vectors at the target points.
        start, source, target, source_mask, target_mask, radius, iterations: as of `icp`.
    """

    def step(pose: Pose, moved: Array, row: Array, close: Array) -> Pose:
        partner, normal = (gather(a, row)[..., 0, :] for a in (target, normals))
        return _better(pose, compose(_slide(moved, partner, normal, close), pose), close, 6)

    return _iterate(step, start, source, target, source_mask, target_mask, radius, iterations)


def _iterate(
    step: Callable[[Pose, Array, Array, Array], Pose],
    start: Pose,
    source: Array,
    target: Array,
    source_mask: Array | None,
    target_mask: Array | None,
    radius: float,
    iterations: int,
) -> Registration:
    """The pose after some steps `(pose, moved source, row of the partner, near enough) -> pose`."""
    if source_mask is not None:
        source = jnp.where(source_mask[..., None], source, 0)
    _positive(radius)

    def pairs(pose: Pose) -> tuple[Array, Array, Array]:
        moved = move(pose, source)
        found = nearest(moved, target, target_mask, k=1, query_mask=source_mask)
        close = jax.lax.stop_gradient(found.distance[..., 0]) <= radius
        return moved, found.index, close & found.mask[..., 0]

    pose, _ = jax.lax.scan(lambda p, _: (step(p, *pairs(p)), None), start, length=iterations)
    return Registration(pose, pairs(pose)[2])


def _slide(x: Array, y: Array, normal: Array, close: Array) -> Pose:
    """The small motion of x that brings it nearest to the planes through y, about its centre."""
    x, y, normal = (jnp.where(close[..., None], a, 0) for a in (x, y, normal))
    number = jnp.maximum(jnp.sum(close, -1), 1).astype(x.dtype)[..., None]
    centre = jnp.sum(x, -2) / number
    centred = jnp.where(close[..., None], x - centre[..., None, :], 0)
    extent = safe_norm(centred.reshape(*centred.shape[:-2], -1))[..., None] / jnp.sqrt(number)
    relative = lambda a: safe_divide(a, jnp.broadcast_to(extent[..., None], a.shape))
    gap = relative(jnp.sum(normal * (y - x), -1, keepdims=True))
    rows = jnp.concatenate([jnp.cross(relative(centred), normal), normal], -1)
    square = jnp.einsum("...pi,...pj->...ij", rows, rows, precision="highest")
    trace = jnp.trace(square, axis1=-2, axis2=-1)[..., None, None]
    # So little that only directions which rounding makes of nothing are held.
    hold = jnp.where(trace > 0, 64 * float(jnp.finfo(x.dtype).eps) * trace, 1)
    square = square + hold * jnp.broadcast_to(jnp.eye(6, dtype=x.dtype), square.shape)
    change = jnp.linalg.solve(
        square, jnp.einsum("...pi,...pj->...ij", rows, gap, precision="highest")
    )
    rotation = from_axis_angle(change[..., :3, 0])
    turned = jnp.einsum("...ij,...j->...i", rotation, centre, precision="highest")
    return Pose(rotation, centre - turned + extent * change[..., 3:, 0])


def _better(old: Pose, new: Pose, inliers: Array, least: int) -> Pose:
    """The new pose if it has so many inliers to be made of, else the old one."""
    enough = jnp.sum(inliers, -1) >= least
    choose = lambda a, b: jnp.where(
        enough.reshape(*enough.shape, *[1] * (a.ndim - enough.ndim)), a, b
    )
    return jax.tree.map(choose, new, old)


def _positive(radius: float) -> float:
    if not radius > 0:
        raise ValueError(f"a radius is a positive length; got {radius}")
    return radius
