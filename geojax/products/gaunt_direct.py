"""The product of two signals by its coefficients: the CG product with fixed weights of paths.

References:
    Luo, Chen, Krishnapriyan, "Enabling efficient equivariant operations in the Fourier basis via
    Gaunt tensor products", 2024, https://arxiv.org/abs/2401.10216.
"""

from jaxtyping import Array

from geojax.products.cg import Coefficients
from geojax.products.form import Bound
from geojax.products.product import Direction, Spec, product
from geojax.so3 import gaunt_weight

__all__ = ["gaunt_direct"]


@product("gaunt-direct", family="gaunt", parities=("even",))
def gaunt_direct(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The product of two signals by the non-zero integrals of three harmonics."""
    assert not isinstance(y, Direction) and weights is None
    return Bound(Coefficients(spec, False, y.shape[-1] != channels, gaunt_weight), {"y": y})
