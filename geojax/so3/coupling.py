"""Coupling of degrees: real Clebsch-Gordan tensors, computed exactly, and the lists of paths.

A path (l1, l2, l3) couples a feature of degree l1 and one of degree l2 to one of degree l3. Paths
with even l1 + l2 + l3 keep the natural parity (-1)**l; odd ones (the cross product 1 x 1 -> 1) turn
tensors into pseudo-tensors and back.
"""

import math
from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

__all__ = ["Parity", "Path", "clebsch_gordan", "paths"]

Parity = Literal["even", "odd", "all"]


class Path(NamedTuple):
    """The degrees of a coupling x_l1, y_l2 -> out_l3."""

    l1: int
    l2: int
    l3: int


def paths(lmax_x: int, lmax_y: int, lmax: int, *, parity: Parity = "even") -> tuple[Path, ...]:
    """All paths between degrees up to lmax_x, lmax_y and lmax, sorted by l3, then l1, then l2.

    Args:
        lmax_x: largest degree of the first factor.
        lmax_y: largest degree of the second factor.
        lmax: largest degree of the result.
        parity: of l1 + l2 + l3. "even" couples natural parities to natural parity (and pseudo with
            natural to pseudo); "odd" changes between natural and pseudo-tensors; "all" is both, for
            features without a parity (SE(3) only).

    Raises:
        ValueError: parity is none of the three.
    """
    if parity not in get_args(Parity):
        raise ValueError(f"parity is one of {get_args(Parity)}; got {parity!r}")
    wanted = {"even": (0,), "odd": (1,), "all": (0, 1)}[parity]
    return tuple(
        Path(l1, l2, l3)
        for l3 in range(lmax + 1)
        for l1 in range(lmax_x + 1)
        for l2 in range(lmax_y + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 in wanted
    )


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """The invariant tensor of three degrees in the real basis, `[2l1+1, 2l2+1, 2l3+1]`, float64.

    Unit Frobenius norm; so times sqrt(2l3+1) it maps unit-variance features to unit variance. It
    has e3nn's sign: for even l1+l2+l3 it is a positive multiple of the integral of Y_l1 Y_l2 Y_l3;
    `clebsch_gordan(1, 1, 1)[0, 1, 2]` is positive. Correct to the last digits of float64: it is a
    sum of integers, divided once.

    Raises:
        ValueError: the degrees violate |l1-l2| <= l3 <= l1+l2, so there is no such tensor.

    References:
        Wei, "Unified approach for exact calculation of angular momentum coupling and recoupling
        coefficients", 1999, https://doi.org/10.1016/S0010-4655(99)00232-5 (the binomial sum).
    """
    if min(l1, l2, l3) < 0 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(
            f"degrees couple if |l1-l2| <= l3 <= l1+l2; got l1={l1}, l2={l2}, l3={l3}; "
            "`paths` lists those that do"
        )
    tensor = np.einsum(
        "ai,bj,ck,ijk->abc",
        *(_real_basis(l) for l in (l1, l2, l3)),
        three_j(l1, l2, l3),
        optimize=True,
    )
    tensor = (tensor * (-1j) ** (l1 + l2 + l3)).real
    tensor /= np.linalg.norm(tensor)
    tensor[np.abs(tensor) < 1e-14] = 0
    tensor.setflags(write=False)
    return tensor


def three_j(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """Wigner's 3j symbols of all m = -l ... l, up to a common positive factor."""
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3
    out = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            i, j, m3 = l1 - m1, l2 + m2, -m1 - m2
            total = sum(
                (-1) ** k * math.comb(a, k) * math.comb(b, i - k) * math.comb(c, j - k)
                for k in range(max(0, i - b, j - c), min(a, i, j) + 1)
            )
            norm = math.comb(2 * l1, i) * math.comb(2 * l2, j) * math.comb(2 * l3, l3 - m3)
            sign = (-1) ** (l1 - l2 - m3)
            out[l1 + m1, l2 + m2, l3 + m3] = sign * total / math.sqrt(norm)
    return out


@cache
def _real_basis(l: int) -> np.ndarray:
    """Rows: our real harmonics in terms of the complex ones (with the Condon-Shortley phase)."""
    out = np.zeros((2 * l + 1, 2 * l + 1), complex)
    out[l, l] = 1
    for m in range(1, l + 1):
        sign = (-1) ** m
        out[l + m, [l + m, l - m]] = np.array([sign, 1]) / math.sqrt(2)
        out[l - m, [l + m, l - m]] = np.array([-1j * sign, 1j]) / math.sqrt(2)
    return out
