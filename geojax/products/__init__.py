"""Products of spherical features, by name: one contract, one file per kernel."""

from geojax.products import (  # noqa: F401  (they enter themselves into PRODUCTS)
    cartesian,
    cg,
    escn,
    gaunt_direct,
    gaunt_fft,
    gaunt_grid,
    native,
    pallas,
    vector_signal,
)
from geojax.products.couple import convolution, tensor_product
from geojax.products.explain import Cost, Explanation, explain
from geojax.products.product import (
    PRODUCTS,
    Direction,
    Family,
    Kernel,
    Layout,
    Product,
    Spec,
    kept_layout,
    split_kept,
)
from geojax.products.symmetric import Contraction, symmetric_blocks, symmetric_contraction
from geojax.products.symmetric_basis import symmetric_basis

__all__ = [
    "PRODUCTS",
    "Contraction",
    "Cost",
    "Direction",
    "Explanation",
    "Family",
    "Kernel",
    "Layout",
    "Product",
    "Spec",
    "convolution",
    "explain",
    "kept_layout",
    "split_kept",
    "symmetric_basis",
    "symmetric_blocks",
    "symmetric_contraction",
    "tensor_product",
]
