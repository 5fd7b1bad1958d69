"""Spherical neurons: spheres as weights, and banks of four turned copies that are steered.

A point and a sphere with centre c and radius r, times any number g, are vectors of five numbers

    X = (x, -1, -|x|²/2)        S = g (c, (|c|² - r²)/2, 1)

with X·S = -g/2 (|x - c|² - r²): the sign says whether the point is inside. A rotation turns the
first three numbers of S and leaves the others. Let O be a rotation that takes c to the direction
(1, 1, 1), and p_k = (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1) the corners of a tetrahedron,
T_k the rotations among them that take p_0 to p_k. The bank of a sphere has the rows

    B_k = (Oᵀ T_k O) S,  with the orthogonal matrix  M = 1/2 [(p_k, 1)]_k  (k numbers its columns)

and for every rotation R, also an improper one in the second identity,

    (R S)·X = v(R)·(B X)        v(R) = Mᵀ (O R Oᵀ (1, 1, 1)/2, 1/2)
    B (R x) = V(R) (B x)        V(R) = Mᵀ (O R Oᵀ ⊕ 1) M

So neurons that were trained on shapes in one pose know them in another, if R is known: v(R) B is
the sphere turned. And the basis M takes four numbers apart into a vector and a scalar,

    M B X = (2 |g c| / sqrt(3) O x, 2 b)        b = g (r² - |c|² - |x|²)/2

Read in the frame of the points, with Oᵀ, the vector does not depend on O and is 1o, and the scalar
is 0e. A bank is what it says: x times a number, and a number linear in |x|².

References:
    Melnyk, Felsberg, Wadenbäck, "Embed me if you can: a geometric perceptron", ICCV 2021,
    https://arxiv.org/abs/2006.06507 (spheres as weights).
    Melnyk, Felsberg, Wadenbäck, "Steerable 3D spherical neurons", ICML 2022,
    https://arxiv.org/abs/2106.13863 (banks).
"""

from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import safe_norm, unit
from geojax.nn.dense import uniform

__all__ = [
    "SphericalNeurons",
    "bank_features",
    "bank_vectors",
    "conformal",
    "representation",
    "sphere_bank",
    "spheres",
    "steering",
    "to_diagonal",
    "turn_sphere",
]

CORNERS = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
BASIS = np.concatenate([CORNERS, np.ones((4, 1))], 1).T / 2  # M


def conformal(x: Float[Array, "*n d"]) -> Float[Array, "*n e"]:
    """X of points in any dimension, two numbers more."""
    square = jnp.sum(x * x, -1, keepdims=True)
    return jnp.concatenate([x, jnp.full_like(square, -1), -square / 2], -1)


def spheres(
    centre: Float[Array, "*n d"], radius: Float[Array, "*n"], gain: Float[Array, "*n"]
) -> Float[Array, "*n e"]:
    """S of spheres in any dimension.

    Args:
        centre: c.
        radius: r.
        gain: g; of one sign the inside is positive, of the other negative.
    """
    last = (jnp.sum(centre * centre, -1) - radius * radius) / 2
    whole = jnp.concatenate([centre, last[..., None], jnp.ones_like(last)[..., None]], -1)
    return gain[..., None] * whole


def turn_sphere(
    rotation: Float[Array, "3 3"], sphere: Float[Array, "*n 5"]
) -> Float[Array, "*n 5"]:
    """R S, the sphere with its centre turned about the origin."""
    centre = jnp.einsum("ab,...b->...a", rotation, sphere[..., :3], precision="highest")
    return jnp.concatenate([centre, sphere[..., 3:]], -1)


def to_diagonal(centre: Float[Array, "*n 3"]) -> Float[Array, "*n 3 3"]:
    """O, a rotation that takes a centre to the direction (1, 1, 1).

    The half-turn about the axis halfway between the two, and for centres of the other side, before
    it, one about an axis across. It jumps between the sides, as every such map jumps somewhere. A
    centre at the origin has the direction (1, 1, 1).
    """
    shape = [1] * (centre.ndim - 1)
    diagonal = jnp.full((*shape, 3), 1 / sqrt(3), centre.dtype)
    across = unit(jnp.asarray([1, -1, 0], centre.dtype).reshape(*shape, 3))
    eye = jnp.eye(3, dtype=centre.dtype).reshape(*shape, 3, 3)
    half_turn = lambda axis: 2 * axis[..., :, None] * axis[..., None, :] - eye
    other = (jnp.sum(centre * diagonal, -1) < 0)[..., None, None]
    first = jnp.where(other, half_turn(across), eye)
    turned = jnp.einsum("...ab,...b->...a", first, unit(centre), precision="highest")
    return jnp.matmul(half_turn(unit(turned + diagonal)), first, precision="highest")


def tetrahedron_turns() -> Float[np.ndarray, "4 3 3"]:
    """T_k, the identity and the half-turns about the axes x, y, z."""
    return np.array([np.eye(3), *(2 * np.outer(a, a) - np.eye(3) for a in np.eye(3))])


def sphere_bank(sphere: Float[Array, "*n 5"]) -> Float[Array, "*n 4 5"]:
    """B, the sphere and three turned copies of it."""
    turn = to_diagonal(sphere[..., :3])
    turns = jnp.asarray(tetrahedron_turns(), sphere.dtype)
    centres = jnp.einsum(
        "...ba,kbc,...cd,...d->...ka", turn, turns, turn, sphere[..., :3], precision="highest"
    )
    rest = jnp.broadcast_to(sphere[..., None, 3:], (*centres.shape[:-1], 2))
    return jnp.concatenate([centres, rest], -1)


def steering(rotation: Float[Array, "3 3"], sphere: Float[Array, "*n 5"]) -> Float[Array, "*n 4"]:
    """v(R): the sum of the bank's rows with these weights is the sphere, turned."""
    turn = to_diagonal(sphere[..., :3])
    half = jnp.full(3, 0.5, sphere.dtype)
    y = jnp.einsum("...ab,bc,...dc,d->...a", turn, rotation, turn, half, precision="highest")
    whole = jnp.concatenate([y, jnp.full_like(y[..., :1], 0.5)], -1)
    return jnp.einsum("ak,...a->...k", jnp.asarray(BASIS, y.dtype), whole, precision="highest")


def representation(
    rotation: Float[Array, "3 3"], sphere: Float[Array, "*n 5"]
) -> Float[Array, "*n 4 4"]:
    """V(R), by which the four numbers of a bank turn when the points do; orthogonal."""
    turn = to_diagonal(sphere[..., :3])
    y = jnp.einsum("...ab,bc,...dc->...ad", turn, rotation, turn, precision="highest")
    whole = jnp.zeros((*y.shape[:-2], 4, 4), y.dtype).at[..., :3, :3].set(y)
    whole = whole.at[..., 3, 3].set(1)
    basis = jnp.asarray(BASIS, y.dtype)
    return jnp.einsum("ak,...ab,bl->...kl", basis, whole, basis, precision="highest")


def bank_vectors(
    numbers: Float[Array, "*n 4"], sphere: Float[Array, "*n 5"]
) -> Float[Array, "*n 4"]:
    """The four numbers of a bank as a vector 1o, in the frame of the points, and a scalar 0e."""
    turn = to_diagonal(sphere[..., :3])
    whole = jnp.einsum("ak,...k->...a", jnp.asarray(BASIS, turn.dtype), numbers)
    vector = jnp.einsum("...ba,...b->...a", turn, whole[..., :3], precision="highest")
    return jnp.concatenate([vector, whole[..., 3:]], -1)


def bank_features(
    x: Float[Array, "*n 3"], sphere: Float[Array, "channel 5"]
) -> Float[Array, "*n 4 channel"]:
    """`bank_vectors` of every point and every sphere, without making banks; see the module.

    Rows x, y, z are a vector 1o, and the last a scalar 0e. Nothing jumps, as `to_diagonal` does.
    """
    flat = [1] * (x.ndim - 1)
    length = safe_norm(sphere[:, :3]) * (2 / sqrt(3))
    vectors = x[..., None] * length.reshape(*flat, 1, -1)
    square = jnp.sum(x * x, -1)[..., None]
    scalars = -2 * sphere[:, 3].reshape(*flat, -1) - square * sphere[:, 4].reshape(*flat, -1)
    return jnp.concatenate([vectors, scalars[..., None, :]], -2)


class SphericalNeurons(nn.Module):
    """X·S of points in any dimension, for learned spheres: a layer without bias or nonlinearity.

    The square of |x| is the nonlinearity. Layers of these on the coordinates of a shape in one pose
    are the published ancestor, whose first spheres are then put in banks.
    """

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n width"]:
        """Of the last axis."""
        points = conformal(x)
        bound = 1 / sqrt(points.shape[-1])
        sphere = self.param("spheres", uniform(bound), (self.width, points.shape[-1]))
        return points @ sphere.astype(x.dtype).T
