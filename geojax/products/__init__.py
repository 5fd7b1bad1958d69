"""Products of spherical features, by name: one contract, one file per kernel."""

from geojax.products import (  # noqa: F401  (they enter themselves into PRODUCTS)
    cartesian,
    cg,
    escn,
    gaunt_direct,
    gaunt_fft,
    gaunt_grid,
    vector_signal,
)
from geojax.products.explain import Cost, Explanation, explain
from geojax.products.product import (
    PRODUCTS,
    Direction,
    Family,
    Kernel,
    Layout,
    Product,
    Spec,
    convolution,
    kept_layout,
    split_kept,
    tensor_product,
)

__all__ = [
    "PRODUCTS",
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
    "tensor_product",
]
