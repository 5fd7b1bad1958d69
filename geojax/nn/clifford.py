"""Layers on multivectors `[..., blade, channel]`, equivariant under all versors of their algebra.

Sums, products and gates by invariants commute with versors, and so does a weight for each grade.
Layers with `modulo` have one weight for all grades that are equal modulo it: with 4 these are the
quaternion types (GLGENN).

Weights are used as they are stored, and start as in the authors' code.

References:
    Ruhe, Brandstetter, Forré, "Clifford group equivariant neural networks", NeurIPS 2023.
    Filimoshina, Shirokov, "GLGENN: A novel parameter-light equivariant neural networks architecture
    based on Clifford geometric algebras", ICML 2025.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax import clifford
from geojax.clifford import Algebra
from geojax.nn.dense import Part, sum_of_parts, total_width
from geojax.nn.message import irrep

__all__ = [
    "FullyConnectedProduct",
    "GeometricProduct",
    "MultivectorLayerNorm",
    "MultivectorLinear",
    "MultivectorMLP",
    "MultivectorNorm",
    "MultivectorSiLU",
    "multivector_blocks",
    "normalize_parts",
]

# Added to norms before anything is divided by them.
EPS = 1e-6


class MultivectorLinear(nn.Module):
    """Mixes channels, with own weights for every part."""

    algebra: Algebra
    channels: int
    bias: bool = True  # on grade 0
    modulo: int | None = None
    shared: bool = False  # one matrix for all grades

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n blade channels"]:
        """Of the parts side by side; see `nn.dense.sum_of_parts`."""
        fan_in = total_width(parts)
        count = 1 if self.shared else clifford.parts(self.algebra, self.modulo)
        kernel = self.param(
            "kernel", nn.initializers.normal(1 / sqrt(fan_in)), (count, fan_in, self.channels)
        )
        modulo = 1 if self.shared else self.modulo

        def times(x: Array, rows: slice) -> Array:
            own = kernel[:, rows].astype(x.dtype)
            width = own.shape[1] * self.channels
            of_blade = clifford.expand(own.reshape(count, width), self.algebra, modulo)
            of_blade = of_blade.reshape(2**self.algebra.n, *own.shape[1:])
            return jnp.einsum("...bi,bio->...bo", x, of_blade)

        out = sum_of_parts(parts, times)
        return out + _bias(self, out) if self.bias else out


class MultivectorSiLU(nn.Module):
    """x_k sigmoid(a_k f_k + b_k) for each grade k, with f_0 = x_0 and else f_k = q(x_k)."""

    algebra: Algebra

    @nn.compact
    def __call__(self, x: Float[Array, "*n blade channel"]) -> Float[Array, "*n blade channel"]:
        """Always by grades: none of them loses what it tells."""
        shape = (self.algebra.n + 1, x.shape[-1])
        a = _param(self, "a", nn.initializers.ones, shape, x)
        b = _param(self, "b", nn.initializers.zeros, shape, x)
        squares = clifford.quadratic_forms(x, self.algebra)
        invariants = jnp.concatenate([x[..., :1, :], squares[..., 1:, :]], -2)
        return x * clifford.expand(nn.sigmoid(a * invariants + b), self.algebra)


def normalize_parts(
    x: Float[Array, "*n blade channel"],
    share: Float[Array, "part channel"],
    algebra: Algebra,
    modulo: int | None = None,
) -> Float[Array, "*n blade channel"]:
    """Each part divided by share (|x| - 1) + 1: by its norm for share = 1, by 1 for share = 0."""
    norms = clifford.smooth_norm(clifford.quadratic_forms(x, algebra, modulo))
    share = share.reshape(*[1] * (x.ndim - 2), *share.shape)
    return x / clifford.expand(share * (norms - 1) + (1 + EPS), algebra, modulo)


class MultivectorNorm(nn.Module):
    """`normalize_parts` with the share sigmoid(a) of every part and channel; one half at first."""

    algebra: Algebra
    modulo: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*n blade channel"]) -> Float[Array, "*n blade channel"]:
        """Of each channel by itself."""
        shape = (clifford.parts(self.algebra, self.modulo), x.shape[-1])
        a = self.param("a", nn.initializers.zeros, shape).astype(x.dtype)
        return normalize_parts(x, nn.sigmoid(a), self.algebra, self.modulo)


class MultivectorLayerNorm(nn.Module):
    """a x / (mean of |x| over channels), of whole multivectors."""

    algebra: Algebra

    @nn.compact
    def __call__(self, x: Float[Array, "*n blade channel"]) -> Float[Array, "*n blade channel"]:
        """Grades keep their ratios."""
        a = _param(self, "a", nn.initializers.ones, (1, x.shape[-1]), x)
        norms = clifford.smooth_norm(clifford.quadratic_form(x, self.algebra))
        return a * x / (norms.mean(-1)[..., None, None] + EPS)


class GeometricProduct(nn.Module):
    """(L x + x N(R x)) / sqrt 2: a weight for every path and channel in the product.

    L and R are linear maps, N is `MultivectorNorm`. Without `first_order` it is x N(R x).
    """

    algebra: Algebra
    modulo: int | None = None
    first_order: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n blade channel"]) -> Float[Array, "*n blade channel"]:
        """Channel by channel, but for the linear maps."""
        channels, algebra = x.shape[-1], self.algebra
        shape = (len(clifford.product_paths(algebra, self.modulo)), channels)
        spread = 1 / sqrt(algebra.n + 1)
        weights = self.param("weights", nn.initializers.normal(spread), shape)
        right, left = _both_sides(self, x, channels)
        out = clifford.geometric_product(x, right, algebra, weights, modulo=self.modulo)
        return out if left is None else (left + out) / sqrt(2)


class FullyConnectedProduct(nn.Module):
    """`GeometricProduct` in which every product of channels has a weight to every channel."""

    algebra: Algebra
    channels: int
    modulo: int | None = None
    first_order: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n blade channel"]) -> Float[Array, "*n blade channels"]:
        """From any number of channels to `channels`."""
        fan_in, algebra = x.shape[-1], self.algebra
        shape = (len(clifford.product_paths(algebra, self.modulo)), fan_in, self.channels)
        spread = 1 / sqrt(fan_in * (algebra.n + 1))
        weights = self.param("weights", nn.initializers.normal(spread), shape)
        right, left = _both_sides(self, x, self.channels)
        out = clifford.fully_connected_product(x, right, algebra, weights, modulo=self.modulo)
        return out if left is None else (left + out) / sqrt(2)


class MultivectorMLP(nn.Module):
    """Blocks of a linear map, `MultivectorSiLU`, `GeometricProduct` and a normalisation.

    `affine` is CGENN's block. Without it, it is GLGENN's: no biases, no term of first order in the
    product, and `MultivectorNorm` in place of the norm over channels.
    """

    algebra: Algebra
    channels: int
    blocks: int = 2
    modulo: int | None = None
    affine: bool = True

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n blade channels"]:
        """Of the parts side by side, as `MultivectorLinear` takes them."""
        x = self._block(0, *parts)
        for i in range(1, self.blocks):
            x = self._block(i, x)
        return x

    def _block(self, i: int, *parts: Part) -> Array:
        algebra, modulo = self.algebra, self.modulo
        linear = MultivectorLinear(algebra, self.channels, self.affine, modulo, name=f"linear_{i}")
        x = MultivectorSiLU(algebra, name=f"silu_{i}")(linear(*parts))
        x = GeometricProduct(algebra, modulo, self.affine, name=f"product_{i}")(x)
        if self.affine:
            return MultivectorLayerNorm(algebra, name=f"norm_{i}")(x)
        return MultivectorNorm(algebra, modulo, name=f"norm_{i}")(x)


def multivector_blocks(x: Float[Array, "*n blade channel"]) -> dict[Irrep, Array]:
    """Multivectors of Cl(3) as irreps of O(3): 0e, 1o, the bivectors as 1e, the trivector as 0o.

    A bivector a ∧ b is the pseudovector a × b, so e23, e31 = -e13, e12 are its x, y, z.
    """
    plane = [x[..., 6:7, :], -x[..., 5:6, :], x[..., 4:5, :]]
    return {
        irrep(0): x[..., :1, :],
        irrep(1): x[..., 1:4, :],
        irrep(1, pseudo=True): jnp.concatenate(plane, -2),
        irrep(0, pseudo=True): x[..., 7:, :],
    }


def _both_sides(
    module: GeometricProduct | FullyConnectedProduct, x: Array, channels: int
) -> tuple[Array, Array | None]:
    """N(R x) and L x, None without a term of first order; one matrix R | L for both."""
    algebra, modulo, fan_in = module.algebra, module.modulo, x.shape[-1]
    width = fan_in + channels * module.first_order
    both = MultivectorLinear(algebra, width, False, modulo, name="linear")(x)
    right = MultivectorNorm(algebra, modulo, name="norm")(both[..., :fan_in])
    if not module.first_order:
        return right, None
    left = both[..., fan_in:]
    return right, left + _bias(module, left)


def _bias(module: Any, x: Array) -> Array:
    """A bias for every channel of x; on grade 0, since others have no invariant to add."""
    shift = _param(module, "bias", nn.initializers.zeros, (1, x.shape[-1]), x)
    return clifford.embed(shift, module.algebra, 0)


def _param(
    module: Any, name: str, start: Callable[..., Array], shape: tuple[int, ...], x: Array
) -> Array:
    """A parameter with axes of size one in front, for arithmetic with x."""
    value = module.param(name, start, shape).astype(x.dtype)
    return value.reshape(*[1] * (x.ndim - 2), *shape)
