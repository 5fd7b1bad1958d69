"""Quadrature on the unit sphere, and what is integrated there: couplings of two signals.

A signal is the function n -> sum_lm x_lm Y_lm(n) of features x, with harmonics of mean square one
(component normalisation), so that x_lm is the mean of the signal times Y_lm over the sphere.

Two bilinear maps of signals respect rotations: their product, which couples l1 + l2 + l3 even, and
their bracket n . (grad x cross grad y), which couples l1 + l2 + l3 odd. Both fix the relative
weights of the paths.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.so3.coupling import Path, clebsch_gordan, three_j
from geojax.so3.features import slices
from geojax.so3.harmonics import harmonics_table

__all__ = [
    "Quadrature",
    "bracket_weight",
    "gaunt_weight",
    "generators",
    "hemisphere",
    "rotation_derivatives",
    "sphere",
]


class Quadrature(NamedTuple):
    """Points on the sphere, with weights that add up to one: a mean over the sphere."""

    points: Float[np.ndarray, "point xyz"]
    weights: Float[np.ndarray, "point"]


@cache
def sphere(degree: int) -> Quadrature:
    """The mean of polynomials up to `degree` exactly: Gauss nodes in y, equal steps around it."""
    heights, weights = _gauss(degree // 2 + 1)
    return _rings(heights, weights, [degree + 1] * len(heights), 2 * math.pi)


@cache
def hemisphere(degree: int) -> Quadrature:
    """The mean of even polynomials (f(-n) = f(n)) up to `degree`, by half as many points."""
    heights, weights = _gauss(degree // 2 + 1)
    upper = heights > 1e-12
    rings = _rings(heights[upper], 2 * weights[upper], [degree + 1] * upper.sum(), 2 * math.pi)
    if len(heights) % 2 == 0:
        return rings
    equator = np.abs(heights) <= 1e-12  # where an even function has period pi
    half = _rings(heights[equator] * 0, weights[equator], [degree // 2 + 1], math.pi)
    return Quadrature(*(np.concatenate(pair) for pair in zip(rings, half, strict=True)))


def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    heights, weights = np.polynomial.legendre.leggauss(n)
    return heights, weights / 2


def _rings(heights: np.ndarray, weights: np.ndarray, counts: list[int], turn: float) -> Quadrature:
    """`counts[i]` points at equal steps over a part of the ring at each height."""
    points, shares = [np.zeros((0, 3))], [np.zeros(0)]
    for height, weight, count in zip(heights, weights, counts, strict=True):
        azimuth = turn * np.arange(count) / count
        radius = math.sqrt(1 - height**2)
        points.append(
            np.stack(
                [radius * np.sin(azimuth), np.full(count, height), radius * np.cos(azimuth)], -1
            )
        )
        shares.append(np.full(count, weight / count))
    return Quadrature(np.concatenate(points), np.concatenate(shares))


@cache
def generators(l: int) -> Float[np.ndarray, "xyz m1 m"]:
    """The real antisymmetric matrices J with exp(angle * axis . J) = D^l of that rotation.

    For l = 1 they are the cross product, J_i v = e_i x v.
    """
    if l == 0:
        return np.zeros((3, 1, 1))
    scale = math.sqrt(l * (l + 1) * (2 * l + 1))
    # The tensor's sign is e3nn's; it makes (l, 1, l) the generator for every l.
    return -scale * clebsch_gordan(l, 1, l).transpose(1, 2, 0)


def rotation_derivatives(
    points: Float[np.ndarray, "point xyz"], lmax: int
) -> Float[np.ndarray, "component point m"]:
    """Two components of n x grad Y_lm at each point, along two tangents t1, t2 with t1 x t2 = n.

    The bracket of two signals is the difference of the two mixed products of these components.
    """
    table = harmonics_table(points, lmax)
    turned = np.zeros((3, *table.shape))
    for l, rows in enumerate(slices(lmax)):
        # (axis . J x)_m Y_m is the change of the signal as it is turned: minus n x grad of it.
        turned[:, :, rows] = -np.einsum("pa,iab->ipb", table[:, rows], generators(l))
    helper = np.where(np.abs(points[:, 1:2]) < 0.5, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    first = np.cross(helper, points)
    first /= np.linalg.norm(first, axis=-1, keepdims=True)
    tangents = np.stack([first, np.cross(points, first)])
    return np.einsum("cpi,ipm->cpm", tangents, turned)


def gaunt_weight(path: Path) -> float:
    """The weight of a path in the product of two signals; zero where l1 + l2 + l3 is odd.

    It is sqrt((2l1+1)(2l2+1)) |3j(l1 l2 l3; 0 0 0)|.

    References:
        Gaunt, "The triplets of helium", 1929, https://doi.org/10.1098/rsta.1929.0004 (the
        integral of three harmonics).
    """
    l1, l2, l3 = path
    return math.sqrt((2 * l1 + 1) * (2 * l2 + 1)) * abs(_unit_three_j(path)[l1, l2, l3])


def bracket_weight(path: Path) -> float:
    """The weight of a path in the bracket of two signals; zero where l1 + l2 + l3 is even."""
    l1, l2, l3 = path
    if min(path) == 0 or sum(path) % 2 == 0:
        return 0.0
    size = abs(_unit_three_j(path)[l1 + 1, l2 - 1, l3])
    return math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * l1 * (l1 + 1) * l2 * (l2 + 1)) * size


@cache
def _unit_three_j(path: Path) -> np.ndarray:
    symbols = three_j(*path)
    return symbols / np.linalg.norm(symbols)
