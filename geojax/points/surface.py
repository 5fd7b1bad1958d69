"""The 14 surface features of a neighbour: lengths and cosines of the patch that RISurConv reads.

Around a point p with the normal n, neighbours are ordered by their direction in the tangent plane.
x is a neighbour relative to p, x- and x+ the one before and the one after it, n_x, n_x-, n_x+ their
normals, ^ a unit vector:

     1  |x|             2  x^ . n               3  -x^ . n_x            4  x^ . x-^
     5  x-^ . n         6  -x-^ . n_x-          7  x-^ . (x- - x)^
     8  -(x - x-)^ . n_x                        9  (x - x-)^ . n_x-
    10  x+^ . x^       11  x+^ . (x+ - x)^     12  (x+ - x)^ . n_x+    13  x^ . n_x+
    14  (x+^ times x^) . (x-^ times x^)

They are invariant to rotations and translations. A reflection reverses the order, and so swaps
before and after.

**The order is a cycle**, so that where it begins has no part in the features. The released code
sorts by a key whose first entry belongs to the neighbour with the longest projection, but gives
that key to whichever neighbour is listed first: the true reference then lands in the middle, and
features depend on the order of the list. Here they do not.

References:
    Zhang, Yang, Xiang, "RISurConv: rotation invariant surface attention-augmented convolutions for
    3D point cloud classification and segmentation", ECCV 2024, https://arxiv.org/abs/2408.06110.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from geojax.arrays import safe_norm, unit

__all__ = ["cycle", "surface_features"]

EQUAL = 1e-3  # [rad]; directions nearer than this are ordered by distance as well


@partial(jax.jit, static_argnames="step")
def cycle(
    vectors: Float[Array, "*n neighbor 3"],
    normal: Float[Array, "*n 3"],
    mask: Bool[Array, "*n neighbor"] | None = None,
    *,
    step: int = 1,
) -> tuple[Int[Array, "*n neighbor"], Int[Array, "*n neighbor"]]:
    """The neighbours `step` places before and after each, clockwise seen from the tip of n.

    Directions are counted from the longest projection on the tangent plane. Neighbours in one
    direction (on a grid there are many) would be ordered by rounding: the farther and higher comes
    first there, by up to 1e-3 rad. Neighbours that coincide keep the order of the list.

    Neighbours on the line of the normal, to sqrt(eps) of the longest vector, have no direction. The
    centre is one, if it is listed. They are before and after themselves, and so are masked ones.

    Args:
        vectors: neighbours relative to the centre.
        normal: n, a unit vector.
        mask: which neighbours are real.
        step: places in the cycle.

    Returns:
        Slots of the neighbour before, and of the one after. They are constants to derivatives.

    Raises:
        ValueError: step is not positive.
    """
    if step < 1:
        raise ValueError(f"a step along the cycle is one place or more; got step={step}")
    real = jnp.ones(vectors.shape[:-1], bool) if mask is None else mask
    x = jnp.where(real[..., None], vectors, 0)
    key, in_cycle = _keys(jax.lax.stop_gradient(x), jax.lax.stop_gradient(normal), real)
    slots = key.shape[-1]
    order = jnp.argsort(key, -1)  # stable
    place = jnp.argsort(order, -1)
    number = jnp.maximum(jnp.sum(in_cycle, -1, keepdims=True), 1)
    itself = jnp.broadcast_to(jnp.arange(slots), key.shape)
    at = lambda moved: jnp.where(
        in_cycle, jnp.take_along_axis(order, jnp.mod(moved, number), -1), itself
    )
    return at(place - step), at(place + step)


def _keys(x: Array, normal: Array, real: Array) -> tuple[Array, Array]:
    """What neighbours are sorted by, and which of them are in the cycle; inf for the others."""
    n = jnp.broadcast_to(normal[..., None, :], x.shape)
    height = jnp.sum(x * n, -1)
    flat = x - height[..., None] * n
    length = safe_norm(flat)
    longest = jnp.max(safe_norm(x), -1, keepdims=True)
    in_cycle = real & (length > longest * float(np.sqrt(np.finfo(x.dtype).eps)))
    first = jnp.argmax(jnp.where(in_cycle, length, -1), -1)[..., None, None]
    reference = jnp.take_along_axis(flat, first, -2)
    reference = jnp.broadcast_to(reference, x.shape)
    sine, cosine = jnp.sum(jnp.cross(flat, reference) * n, -1), jnp.sum(flat * reference, -1)
    turn = jnp.arctan2(sine, jnp.where(in_cycle, cosine, 1))
    # From a little before the reference, so that what is in its direction is not split by rounding
    turn = jnp.mod(turn + EQUAL, 2 * np.pi) - EQUAL
    nearer = 2 - (length + height / 2) / jnp.where(longest > 0, longest, 1)
    return jnp.where(in_cycle, turn + EQUAL / 4 * nearer, jnp.inf), in_cycle


@partial(jax.jit, static_argnames="step")
def surface_features(
    vectors: Float[Array, "*n neighbor 3"],
    normals: Float[Array, "*n neighbor 3"],
    normal: Float[Array, "*n 3"],
    mask: Bool[Array, "*n neighbor"] | None = None,
    *,
    step: int = 1,
) -> Float[Array, "*n neighbor 14"]:
    """The 14 features of each neighbour, in the order in which the neighbours are given.

    Zero for masked neighbours. Unit vectors of length zero are zero, and so are their derivatives.

    Args:
        vectors: neighbours relative to the centre; in another cloud's mean if that is the centre,
            never absolute positions.
        normals: unit normals of the neighbours.
        normal: unit normal of the centre.
        mask: which neighbours are real.
        step: places between a neighbour and those before and after it; the authors take 2 for
            dense layers (1024 centres and more).

    Raises:
        ValueError: step is not positive.
    """
    real = jnp.ones(vectors.shape[:-1], bool) if mask is None else mask
    before, after = cycle(vectors, normal, real, step=step)
    x = jnp.where(real[..., None], vectors, 0)
    m = jnp.where(real[..., None], normals, 0)
    n = jnp.broadcast_to(normal[..., None, :], x.shape)
    take = lambda values, slots: jnp.take_along_axis(values, slots[..., None], -2)
    x0, m0, x1, m1 = take(x, before), take(m, before), take(x, after), take(m, after)
    u, u0, u1 = unit(x), unit(x0), unit(x1)
    from_before, to_after = unit(x - x0), unit(x1 - x)
    dot = lambda a, b: jnp.sum(a * b, -1)
    rows = (
        safe_norm(x),
        dot(u, n),
        -dot(u, m),
        dot(u, u0),
        dot(u0, n),
        -dot(u0, m0),
        -dot(u0, from_before),
        -dot(from_before, m),
        dot(from_before, m0),
        dot(u1, u),
        dot(u1, to_after),
        dot(to_after, m1),
        dot(u, m1),
        dot(jnp.cross(u1, u), jnp.cross(u0, u)),
    )
    return jnp.where(real[..., None], jnp.stack(rows, -1), 0)
