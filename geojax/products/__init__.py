"""Products of spherical features, by name: one contract, one file per kernel."""

from geojax.products import cg as _cg  # noqa: F401  (enters itself into PRODUCTS)
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
    tensor_product,
)

__all__ = [
    "PRODUCTS",
    "Direction",
    "Family",
    "Kernel",
    "Layout",
    "Product",
    "Spec",
    "kept_layout",
    "split_kept",
    "tensor_product",
]
