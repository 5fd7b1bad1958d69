"""A frame for every node, and what a node sees of its neighbours in it.

In the plane, the velocity gives the frame. In space it leaves the turn about itself open: the
published frame ties that to the z axis of the world, and is equivariant under turns about z alone.
Here a second vector closes it, such as the acceleration or the mean vector to the neighbours, so
that frames turn with every rotation. A node at rest, or with both vectors parallel, has some frame
that does not turn.

References:
    Kofinas, Nagaraja, Gavves, "Roto-translated local coordinate frames for interacting dynamical
    systems", NeurIPS 2021, https://arxiv.org/abs/2110.14961 (LoCS).
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.so3.rotation_heads import from_6d, to_euler

__all__ = ["from_local", "local_pairs", "node_frames", "planar_frames", "to_local"]


def planar_frames(velocity: Float[Array, "*n 2"]) -> Float[Array, "*n 2 2"]:
    """Frames in the plane, x along the velocity; those of the plane itself for nodes at rest."""
    x = unit(velocity)
    still = jnp.all(x == 0, -1, keepdims=True)
    along = jnp.broadcast_to(jnp.asarray([1, 0], x.dtype), x.shape)
    x = jnp.where(still, along, x)
    return jnp.stack([x, jnp.stack([-x[..., 1], x[..., 0]], -1)], -1)


def node_frames(
    velocity: Float[Array, "*n 3"], second: Float[Array, "*n 3"]
) -> Float[Array, "*n 3 3"]:
    """Frames in space: x along the velocity, y in its plane with the second vector."""
    return from_6d(jnp.concatenate([velocity, second], -1))


def to_local(frames: Float[Array, "*n d d"], vectors: Float[Array, "*n d"]) -> Array:
    """Vectors in the coordinates of frames, Rᵀ v."""
    return jnp.einsum("...xy,...x->...y", frames, vectors, precision="highest")


def from_local(frames: Float[Array, "*n d d"], vectors: Float[Array, "*n d"]) -> Array:
    """Vectors from the coordinates of frames, R u."""
    return jnp.einsum("...xy,...y->...x", frames, vectors, precision="highest")


def local_pairs(
    frames: Float[Array, "*n d d"],
    other_frames: Float[Array, "*n d d"],
    offsets: Float[Array, "*n d"],
    other_velocities: Float[Array, "*n d"],
) -> Float[Array, "*n _"]:
    """What node i sees of node j: 12 numbers in space, 7 in the plane, all invariant.

    In order: R_iᵀ (x_j - x_i); the angles of R_iᵀ R_j over pi; the distance; the direction of
    R_iᵀ (x_j - x_i) as angles over pi (azimuth, and in space polar angle); R_iᵀ v_j. The three
    angles in space are those of `so3.rotation_heads.to_euler`, in another order than published.

    Args:
        frames: R_i, `[..., 2, 2]` or `[..., 3, 3]`.
        other_frames: R_j.
        offsets: x_j - x_i.
        other_velocities: v_j.

    Raises:
        ValueError: another dimension than two or three.
    """
    d = offsets.shape[-1]
    if d not in (2, 3) or frames.shape[-2:] != (d, d):
        raise ValueError(
            "local frames are 2x2 or 3x3 matrices, for vectors as long; got frames "
            f"{frames.shape} and offsets {offsets.shape}"
        )
    place = to_local(frames, offsets)
    relative = jnp.einsum("...ab,...ac->...bc", frames, other_frames, precision="highest")
    if d == 2:
        turn = _angle(relative[..., 1, 0], relative[..., 0, 0])[..., None]
        direction = [_angle(place[..., 1], place[..., 0])]
    else:
        turn = to_euler(relative)
        polar = _angle(safe_norm(place[..., :2]), place[..., 2])
        direction = [_angle(place[..., 1], place[..., 0]), polar]
    angles = jnp.stack(direction, -1) / math.pi
    velocity = to_local(frames, other_velocities)
    distance = safe_norm(offsets)[..., None]
    return jnp.concatenate([place, turn / math.pi, distance, angles, velocity], -1)


def _angle(sin: Array, cos: Array) -> Array:
    """atan2 of any two numbers; where both are zero it is zero and a constant."""
    both = unit(jnp.stack([sin, cos], -1))
    none = (both[..., 0] == 0) & (both[..., 1] == 0)
    return jnp.arctan2(both[..., 0], jnp.where(none, 1, both[..., 1]))
