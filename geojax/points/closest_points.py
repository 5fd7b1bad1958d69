"""Iterated closest points: two clouds near each other are moved together, without correspondences.

Which points are partners is a constant for autodiff; poses are differentiable in the points.

References:
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
from jaxtyping import Array, Bool, Float, Int

from geojax.arrays import safe_divide, safe_norm
from geojax.points.procrustes import Pose, compose, fit_pose, move
from geojax.points.registration import Registration, better, positive
from geojax.points.search import gather, nearest, within
from geojax.so3.rotation_heads import from_axis_angle

__all__ = ["icp", "icp_to_plane"]

SLACK, SLOTS = 0.5, 32  # of candidates: relative to the radius, and how many of them


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
        return better(pose, fit_pose(source, gather(target, row)[..., 0, :], None, close), close, 3)

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
        return better(pose, compose(_slide(moved, partner, normal, close), pose), close, 6)

    return _iterate(step, start, source, target, source_mask, target_mask, radius, iterations)


class Candidates(NamedTuple):
    """Targets that may be the nearest ones as long as no source point has moved by the slack."""

    origin: Float[Array, "*n source 3"]  # where the source points were
    index: Int[Array, "*n source slot"]
    mask: Bool[Array, "*n source slot"]
    complete: Bool[Array, ""]  # no slot was missing


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
    """The pose after some steps `(pose, moved source, row of the partner, near enough) -> pose`.

    Partners are the nearest targets. They are searched among candidates, which are found anew once
    a point has moved by the slack; where there are too many of them, among all.
    """
    positive(radius)
    if source_mask is not None:
        source = jnp.where(source_mask[..., None], source, 0)
    reach = SLACK * radius
    constant = jax.lax.stop_gradient(target)

    def listed(moved: Array) -> Candidates:
        near = within(
            moved, constant, target_mask, radius=radius + reach, k=SLOTS, query_mask=source_mask
        )
        return Candidates(moved, near.index, near.mask, jnp.all(near.count <= SLOTS))

    def among(moved: Array, old: Candidates) -> tuple[Array, Array]:
        square = jnp.sum(jnp.square(gather(constant, old.index) - moved[..., None, :]), -1)
        square = jnp.where(old.mask, square, jnp.inf)
        least = jnp.min(square, -1, keepdims=True)
        first = jnp.where(square == least, old.index, target.shape[-2])
        row = jnp.min(first, -1, keepdims=True)
        return row.astype(old.index.dtype), least[..., 0] <= radius**2

    def of_all(moved: Array, old: Candidates) -> tuple[Array, Array]:
        del old
        found = nearest(moved, constant, target_mask, k=1, query_mask=source_mask)
        return found.index, found.mask[..., 0] & (found.distance[..., 0] <= radius)

    def pairs(pose: Pose, old: Candidates) -> tuple[Array, Array, Array, Candidates]:
        moved = move(pose, source)
        here = jax.lax.stop_gradient(moved)
        away = jnp.sum(jnp.square(here - old.origin), -1)
        away = away if source_mask is None else jnp.where(source_mask, away, 0)
        new = jax.lax.cond(
            jnp.any(away >= reach**2), lambda x, _: listed(x), lambda _, kept: kept, here, old
        )
        row, close = jax.lax.cond(new.complete, among, of_all, here, new)
        return moved, jnp.where(close[..., None], row, 0), close, new

    def advance(carry: tuple[Pose, Candidates], _: None) -> tuple[tuple[Pose, Candidates], None]:
        pose, old = carry
        moved, row, close, new = pairs(pose, old)
        return (step(pose, moved, row, close), new), None

    first = start, listed(jax.lax.stop_gradient(move(start, source)))
    (pose, last), _ = jax.lax.scan(advance, first, length=iterations)
    return Registration(pose, pairs(pose, last)[2])


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
