"""The product with the harmonics of a direction, in the frame that has the direction as its pole.

There only m = 0 of the harmonics is left, so that a path couples row m of x with row m of the
result (l1 + l2 + l3 even) or -m (odd): of order lmax^3 instead of lmax^5 terms. What is left is
to turn features into the frame and back. Any frame will do, and its roll about the direction has no
effect, not even on derivatives.

References:
    Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2) for efficient equivariant GNNs", 2023,
    https://arxiv.org/abs/2302.03655.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import unit
from geojax.products.cg import Coefficients
from geojax.products.form import derivative
from geojax.products.product import Direction, Spec, product
from geojax.so3 import wigner_d
from geojax.so3.rotation import turn

__all__ = ["escn", "frame"]


@product("escn", direction=True)
def escn(x: Array, y: Array | Direction, weights: Array | None, spec: Spec) -> Array:
    """Turn to the edge, couple row by row, turn back."""
    assert isinstance(y, Direction), "registered with direction=True"
    blocks = wigner_d(frame(y.unit), max(spec.lmax_x, spec.lmax))
    paths = spec.paths()
    if weights is None:
        weights = jnp.ones((*x.shape[:-2], len(paths), x.shape[-1]), x.dtype)
    # A padding edge has no direction: its harmonics of degree 0 are one, the others zero.
    here = jnp.any(y.unit != 0, -1)[..., None, None]
    zonal = np.array([path.l2 == 0 for path in paths])[:, None]
    zonal = jnp.broadcast_to(zonal, weights.shape)
    weights = jnp.where(zonal | here, weights, 0)
    turned = turn(blocks, x)
    product = derivative(Coefficients(spec, True, pole=True), "out")(weights, turned)
    if spec.layout == "sum":
        return turn(blocks, product, back=True)
    degrees = [path.l3 for path in paths]
    ends = np.cumsum([2 * l + 1 for l in degrees])[:-1]
    parts = zip(degrees, jnp.split(product, ends, -2), strict=True)
    back = lambda l, part: jnp.einsum("...ji,...jc->...ic", blocks[l], part, precision="highest")
    return jnp.concatenate([back(l, part) for l, part in parts], -2)


def frame(vectors: Float[Array, "*n xyz"]) -> Float[Array, "*n 3 3"]:
    """Rotations that take each vector to the polar axis y; the identity for the zero vector.

    The shortest rotation is singular for -y only. So vectors with y < 0 are first turned by half a
    turn about x; what is divided by is never below one, and derivatives are finite everywhere.
    """
    n = unit(vectors)
    sign = jnp.where(n[..., 1] < 0, -1, 1).astype(n.dtype)
    x, y, z = n[..., 0], sign * n[..., 1], sign * n[..., 2]
    scale = 1 / (1 + y)
    # The zero vector: x = z = 0, and the middle row is made (0, 1, 0).
    y = jnp.where(jnp.any(n != 0, -1), y, 1)
    rows = [
        [1 - x * x * scale, -x, -x * z * scale],
        [x, y, z],
        [-x * z * scale, -z, 1 - z * z * scale],
    ]
    flipped = [[a, b * sign, c * sign] for a, b, c in rows]
    return jnp.stack([jnp.stack(row, -1) for row in flipped], -2)
