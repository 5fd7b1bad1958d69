"""Layers that may break symmetries, at a price for each, and how the prices are learnt (PER).

A linear map W between features of irreps is free. For every symmetry g, a group of rotations and
reflections, P_g projects onto the maps that are equivariant under it, and the loss of a network is

    loss + sum_g λ_g R_g,    R_g = sum_layers |W - P_g W|² / 2 + |b - P_g b|² / 2

W is equivariant exactly if R_g = 0. P_g is orthogonal, P_g² = P_g = P_gᵀ, and acts on the
components of each pair of irreps alone: its matrix of (2l+1)(2l'+1) rows is the projector onto the
null space of the constraints of the group's generators.

AutoEquiv: once in a training, symmetries that the data break become cheap, by how far their
penalties are above the smallest:

    λ_g <- λ_g / (R_g / min_g' R_g')^p

What stands between the layers has to be equivariant under all of the symmetries: gates and norms,
and no pointwise functions of vectors.

References:
    Kim, Lee, Yang, Lee, "Regularizing towards soft equivariance under mixed symmetries", ICML 2023,
    https://arxiv.org/abs/2306.00356, and the authors' code.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import sqrt
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep, Irreps
from jaxtyping import Array, Float
from scipy.linalg import expm

from geojax.registry import Registry
from geojax.so3.sphere import generators

__all__ = [
    "SYMMETRIES",
    "SoftLinear",
    "Strengths",
    "Symmetry",
    "equivariant_part",
    "equivariant_projector",
    "penalties",
    "penalty",
    "update_strengths",
    "track_penalties",
]

Axis = tuple[float, float, float]

SCALAR = Irrep(0, 1)
PENALTIES = "penalties"  # the collection that layers write into


class Symmetry(NamedTuple):
    """A group of rotations and reflections, by its generators.

    Attributes:
        axes: all rotations about them.
        elements: single ones: axis times angle, and whether an inversion follows.
    """

    axes: tuple[Axis, ...] = ()
    elements: tuple[tuple[Axis, bool], ...] = ()


SYMMETRIES: Registry[Symmetry] = Registry("symmetry")

_XYZ: dict[str, Axis] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_INVERSION = ((0.0, 0.0, 0.0), True)

SYMMETRIES.register("SO(3)")(Symmetry(tuple(_XYZ.values())))
SYMMETRIES.register("O(3)")(Symmetry(tuple(_XYZ.values()), (_INVERSION,)))
SYMMETRIES.register("inversion")(Symmetry((), (_INVERSION,)))
for _name, _next in (("x", "y"), ("y", "z"), ("z", "x")):
    SYMMETRIES.register(f"SO(2) about {_name}")(Symmetry((_XYZ[_name],)))
    # The mirror of a plane through the axis: half a turn about the plane's normal, inverted
    _half = (np.pi * _XYZ[_next][0], np.pi * _XYZ[_next][1], np.pi * _XYZ[_next][2])
    SYMMETRIES.register(f"O(2) about {_name}")(Symmetry((_XYZ[_name],), ((_half, True),)))


@cache
def equivariant_projector(
    symmetry: Symmetry, one: Irrep, two: Irrep
) -> Float[np.ndarray, "m1 m2 m1 m2"]:
    """P of maps from features of one irrep to those of another, x W with W `[m1, m2]`.

    W is left alone by D(g) W D'(g)ᵀ for all g; generators of rotations act by J W + W J'ᵀ.
    """
    d1, d2 = one.dim, two.dim
    wide = lambda a, b: np.kron(a, b)  # of rows of W one after another
    rows = [
        wide(_generator(one, axis), np.eye(d2)) + wide(np.eye(d1), _generator(two, axis))
        for axis in symmetry.axes
    ]
    rows += [
        wide(_element(one, *element), _element(two, *element)) - np.eye(d1 * d2)
        for element in symmetry.elements
    ]
    square = sum((row.T @ row for row in rows), np.zeros((d1 * d2, d1 * d2)))
    values, vectors = np.linalg.eigh(square)
    null = vectors[:, values < 1e-9]
    return (null @ null.T).reshape(d1, d2, d1, d2)


def _generator(irrep: Irrep, axis: Axis) -> np.ndarray:
    return np.einsum("i,iab->ab", np.array(axis), generators(irrep.l))


def _element(irrep: Irrep, turn: Axis, inverted: bool) -> np.ndarray:
    sign = irrep.p if inverted else 1
    return sign * np.asarray(expm(_generator(irrep, turn)))


def equivariant_part(
    kernel: Float[Array, "d_in d_out"], irreps_in: str, irreps_out: str, symmetry: str
) -> Float[Array, "d_in d_out"]:
    """P W, the nearest map that is equivariant under a symmetry.

    Args:
        kernel: W, of x W, with features in the order of their irreps, such as "2x0e+1o".
        symmetry: a name in SYMMETRIES.

    Raises:
        KeyError: no such symmetry.
        ValueError: a map of other dimensions.
    """
    group, one, two = SYMMETRIES[symmetry], Irreps(irreps_in), Irreps(irreps_out)
    if kernel.shape != (one.dim, two.dim):
        raise ValueError(
            f"a map from {irreps_in} to {irreps_out} has shape {(one.dim, two.dim)}; got "
            f"{kernel.shape}"
        )
    rows = []
    for a, own in zip(one, one.slices(), strict=True):
        blocks = []
        for b, other in zip(two, two.slices(), strict=True):
            block = kernel[own, other].reshape(a.mul, a.ir.dim, b.mul, b.ir.dim)
            matrix = jnp.asarray(equivariant_projector(group, a.ir, b.ir), kernel.dtype)
            block = jnp.einsum("aibj,klij->akbl", block, matrix, precision="highest")
            blocks.append(block.reshape(a.dim, b.dim))
        rows.append(jnp.concatenate(blocks, 1))
    return jnp.concatenate(rows, 0)


def penalty(
    kernel: Float[Array, "d_in d_out"], irreps_in: str, irreps_out: str, symmetry: str
) -> Float[Array, ""]:
    """|W - P W|² / 2; zero exactly if the map is equivariant. A bias is a map from "0e"."""
    off = kernel - equivariant_part(kernel, irreps_in, irreps_out, symmetry)
    return jnp.sum(off * off) / 2


class SoftLinear(nn.Module):
    """x W + b without any constraint, and its penalties.

    W starts as N(0, 1/fan-in) and b as zero. In `apply(..., mutable=["penalties"])` the layer
    writes what it breaks of each symmetry, for `penalties`.

    Raises:
        KeyError: no such symmetry.
        ValueError: features of another width than the irreps have.
    """

    irreps_in: str
    irreps_out: str
    symmetries: Sequence[str] = ("O(3)",)  # names in SYMMETRIES
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*n _"]) -> Float[Array, "*n d_out"]:
        """Of features in the order of their irreps."""
        one, two = Irreps(self.irreps_in).dim, Irreps(self.irreps_out).dim
        if x.shape[-1] != one:
            raise ValueError(f"features {self.irreps_in} have {one} columns; got {x.shape[-1]}")
        kernel = self.param("kernel", nn.initializers.normal(1 / sqrt(one)), (one, two))
        maps = [(kernel, self.irreps_in)]
        out = x @ kernel.astype(x.dtype)
        if self.bias:
            shift = self.param("bias", nn.initializers.zeros, (two,))
            maps.append((shift[None], str(SCALAR)))
            out = out + shift.astype(x.dtype).reshape(*[1] * (x.ndim - 1), -1)
        if not self.is_initializing() and self.is_mutable_collection(PENALTIES):
            for name in self.symmetries:
                terms = [penalty(w, irreps, self.irreps_out, name) for w, irreps in maps]
                self.variable(PENALTIES, name, lambda terms=terms: sum(terms[1:], terms[0]))
        return out


def penalties(
    collections: Mapping[str, Any], symmetries: Sequence[str]
) -> Float[Array, "symmetry"]:
    """R of each symmetry, the sum over layers.

    Args:
        collections: the second value of `module.apply(params, x, mutable=["penalties"])`.
        symmetries: in the order wanted.

    Raises:
        KeyError: no layer has a penalty for a symmetry.
    """
    found: dict[str, list[Array]] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(dict(collections).get(PENALTIES, {})):
        found.setdefault(path[-1].key, []).append(value)
    missing = [name for name in symmetries if name not in found]
    if missing:
        raise KeyError(
            f"a symmetry is one of a layer's; none has {missing}, they have {sorted(found)}; "
            "name it in SoftLinear, and apply with mutable=['penalties']"
        )
    return jnp.stack([sum(found[name][1:], found[name][0]) for name in symmetries])


class Strengths(NamedTuple):
    """The prices of symmetries, and what was seen of their penalties.

    Attributes:
        values: `[symmetry]`, λ.
        smallest: `[symmetry]`, the smallest R so far; infinite at the start.
        seen: how many updates there were.
    """

    values: Array
    smallest: Array
    seen: Array

    @staticmethod
    def start(values: Float[Array, "symmetry"]) -> "Strengths":
        """Nothing seen yet."""
        return Strengths(values, jnp.full_like(values, jnp.inf), jnp.zeros((), jnp.int32))


def track_penalties(
    strengths: Strengths, found: Float[Array, "symmetry"], *, wait: int = 50
) -> Strengths:
    """After one step: the smallest penalties, those of the first `wait` steps left out."""
    seen = strengths.seen + 1
    lower = jnp.minimum(strengths.smallest, found)
    return strengths._replace(smallest=jnp.where(seen > wait, lower, strengths.smallest), seen=seen)


def update_strengths(strengths: Strengths, *, power: float = 2.0) -> Strengths:
    """λ_g / (R_g / min R)^p, once: the best kept symmetry stays as it is, others become cheap.

    Symmetries of λ = 0 have no part in the minimum. Nothing changes before any penalty was seen.
    """
    used = (strengths.values != 0) & jnp.isfinite(strengths.smallest)
    tiny = jnp.finfo(strengths.values.dtype).tiny
    kept = jnp.maximum(jnp.where(used, strengths.smallest, 1), tiny)
    least = jnp.min(jnp.where(used, kept, jnp.finfo(kept.dtype).max), keepdims=True)
    factor = jnp.where(used, least / kept, 1) ** power
    return strengths._replace(values=strengths.values * factor)
