"""Geometric algebras Cl(p, q, r): blades, products, grades, invariants and versors."""

from geojax.clifford.algebra import Algebra, Term, cayley, cl, part_of_grade, parts
from geojax.clifford.grade import (
    conjugate,
    embed,
    expand,
    involute,
    of_grade,
    project,
    reverse,
    sums,
)
from geojax.clifford.invariant import quadratic_form, quadratic_forms, smooth_norm
from geojax.clifford.product import (
    Path,
    fully_connected_product,
    geometric_product,
    inner,
    product_paths,
    wedge,
)
from geojax.clifford.versor import exp, inverse, random_versor, sandwich, vector_matrix

__all__ = [
    "Algebra",
    "Path",
    "Term",
    "cayley",
    "cl",
    "conjugate",
    "embed",
    "exp",
    "expand",
    "fully_connected_product",
    "geometric_product",
    "inner",
    "inverse",
    "involute",
    "of_grade",
    "part_of_grade",
    "parts",
    "product_paths",
    "project",
    "quadratic_form",
    "quadratic_forms",
    "random_versor",
    "reverse",
    "sandwich",
    "smooth_norm",
    "sums",
    "vector_matrix",
    "wedge",
]
