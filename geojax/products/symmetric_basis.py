"""The equivariant maps from powers of features to one degree: an orthonormal basis, computed here.

Features x of degrees 0 ... lmax are multiplied with themselves: x^n is a symmetric tensor with n
axes of (lmax+1)**2 components. Which maps take it to degree l and commute with rotations and
reflections? They fall apart by content, the degrees l1 <= ... <= ln of the factors. For a content
all couplings ((l1 l2) l12 l3) ... -> l are built, averaged over exchanges of equal degrees, and
made orthonormal in their order; what depends on those before it is dropped.

References:
    Dusson et al., "Atomic cluster expansion: completeness, efficiency and stability", 2022,
    https://doi.org/10.1016/j.jcp.2022.110946 (the symmetrised couplings and their rank).
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement, permutations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.so3 import clebsch_gordan

__all__ = ["Monomial", "contents", "monomials", "symmetric_basis"]

# A coupling is independent of those before it if this much of it is left, of length 1. Up to
# order 4 and degree 3 what is left is either more than 0.3 or less than 1e-15.
INDEPENDENT = 1e-6


class Monomial(NamedTuple):
    """A product of components with its coefficient in one row of one path."""

    path: int
    m: int
    components: tuple[int, ...]
    value: float


@cache
def symmetric_basis(lmax: int, l: int, order: int) -> Float[np.ndarray, "... path m"]:
    """The tensors U with sum over i, j, ... of U[i, j, ..., path, m] x_i x_j ... of degree l.

    The result has natural parity, as x has. Tensors are symmetric in i, j, ... and orthonormal:
    the sum over i, j, ... of U[..., p, m] U[..., q, n] is one for p = q, m = n, and zero elsewhere.
    Paths are sorted by content (l1 <= l2 <= ...), then by the degrees of the coupling (l12, ...).
    Signs and order depend on no rounding, so weights that belong to paths can be kept in files.

    Any other map T[i, j, ..., q, m] to degree l has the weights sum of T U / (2l+1) over all axes
    but the two of paths; T need not be symmetric.

    Args:
        lmax: largest degree of x.
        l: degree of the result.
        order: how often x is multiplied, 1 or more.

    Returns:
        `[(lmax+1)**2, ..., path, 2l+1]`, float64.
    """
    terms, count = monomials(lmax, l, order)
    out = np.zeros(((lmax + 1) ** 2,) * order + (count, 2 * l + 1))
    for path, m, components, value in terms:
        places = set(permutations(components))
        for place in places:
            out[(*place, path, m)] = value / len(places)
    out.setflags(write=False)
    return out


@cache
def monomials(lmax: int, l: int, order: int) -> tuple[tuple[Monomial, ...], int]:
    """The same maps as polynomials, components sorted, and the number of paths."""
    terms, path = [], 0
    for content in contents(lmax, l, order):
        for tensor in _independent(content, l):
            terms.extend(_sorted_terms(path, tensor, content))
            path += 1
    return tuple(terms), path


def contents(lmax: int, l: int, order: int) -> Iterator[tuple[int, ...]]:
    """All degrees l1 <= l2 <= ... whose product has the parity of l."""
    for content in combinations_with_replacement(range(lmax + 1), order):
        if (sum(content) + l) % 2 == 0:
            yield content


def arrangements(items: tuple[int, ...]) -> int:
    """In how many orders the items can be written."""
    return math.factorial(len(items)) // math.prod(
        math.factorial(items.count(item)) for item in set(items)
    )


def _sorted_terms(path: int, tensor: np.ndarray, content: tuple[int, ...]) -> Iterator[Monomial]:
    """The coefficients of one map; equal degrees have equal factors, so sorted ones are enough."""
    scale = 1 / math.sqrt(arrangements(content))
    for *places, m in np.argwhere(tensor).tolist():
        components = tuple(l * l + place for l, place in zip(content, places, strict=True))
        if components == tuple(sorted(components)):
            value = scale * arrangements(components) * float(tensor[(*places, m)])
            yield Monomial(path, m, components, value)


@cache
def _independent(content: tuple[int, ...], l: int) -> tuple[np.ndarray, ...]:
    """Orthonormal maps of one content, each `[2l1+1, 2l2+1, ..., 2l+1]`."""
    basis: list[np.ndarray] = []
    for tensor in _couplings(content, l):
        rest = _symmetrised(tensor, content)
        for _ in range(2):  # once more against rounding
            for known in basis:
                rest = rest - known * np.vdot(known, rest) / (2 * l + 1)
        length = float(np.linalg.norm(rest)) / math.sqrt(2 * l + 1)
        if length > INDEPENDENT:
            basis.append(np.where(np.abs(rest) < 1e-13 * length, 0, rest / length))
    return tuple(basis)


@cache
def _couplings(content: tuple[int, ...], l: int) -> tuple[np.ndarray, ...]:
    """All ways to couple the degrees from the left, each of length 1 for every m."""
    *left, last = content
    if not left:
        return (np.eye(2 * l + 1),) if last == l else ()
    return tuple(
        np.tensordot(tensor, clebsch_gordan(middle, last, l) * math.sqrt(2 * l + 1), (-1, 0))
        for middle in range(abs(l - last), l + last + 1)
        for tensor in _couplings(tuple(left), middle)
    )


def _symmetrised(tensor: np.ndarray, content: tuple[int, ...]) -> np.ndarray:
    """The mean over all exchanges of axes of equal degree."""
    axes = range(len(content))
    orders = [o for o in permutations(axes) if all(content[o[i]] == content[i] for i in axes)]
    return np.mean([np.transpose(tensor, (*order, len(content))) for order in orders], axis=0)
