"""The product with the harmonics of a direction, in the frame that has the direction as its pole.

There only m = 0 of the harmonics is left, so that a path couples row m of x with row m of the
result (l1 + l2 + l3 even) or -m (odd): of order lmax^3 instead of lmax^5 terms. What is left is
to turn features into the frame and back. Any frame will do, and its roll about the direction has no
effect, not even on derivatives.

References:
    Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2) for efficient equivariant GNNs", 2023,
    https://arxiv.org/abs/2302.03655.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import unit
from geojax.products.cg import Coefficients
from geojax.products.form import Bound, assemble
from geojax.products.product import Direction, Spec, product
from geojax.so3 import wigner_d
from geojax.so3.rotation import turn_degree

__all__ = ["escn", "frame"]


@product("escn", direction=True)
def escn(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """Turn to the edge, couple row by row, turn back."""
    assert isinstance(y, Direction), "registered with direction=True"
    blocks = wigner_d(frame(y.unit), max(spec.lmax_x, spec.lmax))
    turn = jnp.concatenate([d.reshape(*d.shape[:-2], -1, 1) for d in blocks], -2)
    paths = spec.paths()
    if weights is None:
        weights = jnp.ones((*y.unit.shape[:-1], len(paths), channels), y.unit.dtype)
    # A padding edge has no direction: its harmonics of degree 0 are one, the others zero.
    here = jnp.any(y.unit != 0, -1)[..., None, None]
    zonal = np.array([path.l2 == 0 for path in paths])[:, None]
    weights = jnp.where(jnp.broadcast_to(zonal, weights.shape) | here, weights, 0)
    return Bound(InFrame(spec), {"w": weights, "turn": turn, "back": turn})


@dataclass(frozen=True)
class InFrame:
    """F = G(w, back out, turn x), with G the form that couples in the frame.

    Both matrices are the frame's Wigner matrices, one after the other, `[..., _, 1]`. As two
    arguments they make F linear in each, so that its derivatives are maps of the same kind.
    """

    spec: Spec

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("w", "out", "x", "turn", "back")

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        inner = Coefficients(self.spec, True, pole=True)
        here = {"w": given["w"]} if "w" in given else {}
        for name, matrices in (("out", "back"), ("x", "turn")):
            if name in given and matrices in given:
                here[name] = self._turn(name, given[matrices], given[name])
        if target == "w":
            return inner.evaluate("w", here)
        name = {"turn": "x", "back": "out"}.get(target, target)
        found = inner.evaluate(name, here)
        if target == name:
            matrices = given["back" if name == "out" else "turn"]
            return self._turn(name, matrices, found, back=True)
        return self._pairs(name, found, given[name])

    def _degrees(self, name: str) -> list[int]:
        """The degree of each block of rows of an argument."""
        if name == "out" and self.spec.layout == "keep":
            return [path.l3 for path in self.spec.paths()]
        return list(range((self.spec.lmax if name == "out" else self.spec.lmax_x) + 1))

    def _turn(self, name: str, matrices: Array, a: Array, back: bool = False) -> Array:
        degrees = self._degrees(name)
        ends = np.cumsum([2 * l + 1 for l in degrees])[:-1]
        parts = zip(degrees, jnp.split(a, ends, -2), strict=True)
        turned = [turn_degree(_block(matrices, l), part, back=back) for l, part in parts]
        return jnp.concatenate(turned, -2)

    def _pairs(self, name: str, first: Array, second: Array) -> Array:
        """The cotangent of the matrices that turn `second`, from that of the turned array."""
        degrees, parts = self._degrees(name), {}
        ends = np.cumsum([2 * l + 1 for l in degrees])[:-1]
        blocks = zip(degrees, *(jnp.split(a, ends, -2) for a in (first, second)), strict=True)
        for l, one, two in blocks:
            pair = jnp.einsum("...ic,...jc->...ij", one, two, precision="highest")
            pair = pair.reshape(*pair.shape[:-2], -1, 1)
            parts.setdefault(_start(l), []).append(pair)
        return assemble(parts, _start(max(self.spec.lmax_x, self.spec.lmax) + 1))


def _start(l: int) -> int:
    """Where the matrix of degree l begins: the sum of (2k+1)**2 over k < l."""
    return l * (2 * l - 1) * (2 * l + 1) // 3


def _block(matrices: Array, l: int) -> Array:
    flat = matrices[..., _start(l) : _start(l + 1), 0]
    return flat.reshape(*flat.shape[:-1], 2 * l + 1, 2 * l + 1)


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
