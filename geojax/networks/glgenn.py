"""GLGENN: CGENN's layers with one weight for all grades that are equal modulo 4.

These four parts of an algebra, its quaternion types, are kept by the generalised Lipschitz groups,
which contain the Clifford group: an equivariance under more, with fewer parameters. In three
dimensions there are four grades, so that types are grades and what differs from CGENN is that
products have no term of first order, nothing has a bias, and the norm is that of each channel.

References:
    Filimoshina, Shirokov, "GLGENN: A novel parameter-light equivariant neural networks architecture
    based on Clifford geometric algebras", ICML 2025, with the networks of the authors' code.
"""

from typing import ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from geojax.clifford import Algebra, embed, quadratic_form, smooth_norm
from geojax.networks.cgenn import CGENN
from geojax.networks.network import NETWORKS
from geojax.nn import ACTIVATIONS, Affine, GeometricProduct, MultivectorLinear

__all__ = ["GLGENN", "InvariantRegression"]


@NETWORKS.register("glgenn")
class GLGENN(CGENN):
    """E(3)-equivariant network on multivectors with the fields, inputs and outputs of `CGENN`."""

    modulo: ClassVar[int | None] = 4
    affine: ClassVar[bool] = False


class InvariantRegression(nn.Module):
    """Invariants of a list of vectors of any dimension and metric, by geometric products.

    Each vector is a channel, so their order matters. The defaults are GLGENN for the volume of the
    hull of 16 points in five dimensions; `modulo=None, affine=True` is CGENN. For a function of two
    vectors the papers use `channels=8, products=1, invariants="scalar", activation="relu"` and
    `hidden` (380, 380) or (580, 580).
    """

    algebra: Algebra
    channels: int = 32
    products: int = 4
    invariants: Literal["norm", "scalar"] = "norm"  # of multivectors, which the MLP reads
    hidden: tuple[int, ...] = (32,)
    activation: str = "silu"
    outputs: int = 1
    modulo: int | None = 4
    affine: bool = False

    @nn.compact
    def __call__(self, vectors: Float[Array, "*n d vector"]) -> Float[Array, "*n output"]:
        """Of each list; its values are the same for all turned or reflected lists."""
        x = embed(vectors, self.algebra, 1)
        linear = MultivectorLinear(
            self.algebra, self.channels, self.affine, self.modulo, self.affine, name="embedding"
        )
        x = linear(x)
        for i in range(self.products):
            x = GeometricProduct(self.algebra, self.modulo, self.affine, name=f"product_{i}")(x)
        if self.invariants == "norm":
            out = smooth_norm(quadratic_form(x, self.algebra))
        else:
            out = x[..., 0, :]
        for i, width in enumerate(self.hidden):
            out = ACTIVATIONS[self.activation].call(Affine(width, name=f"dense_{i}")(out))
        return Affine(self.outputs, name="output")(out)
