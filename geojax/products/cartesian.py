"""The product of degrees up to 2 in Cartesian form: scalars, vectors, symmetric traceless matrices.

Every path is one textbook operation: dot, cross and outer product, a matrix times a vector, the
symmetric or antisymmetric part of a product of matrices. When two degrees change places, a coupling
tensor keeps its values (l1 + l2 + l3 even) or changes sign (odd), so cotangents are made of the
same operations.

References:
    Simeon, De Fabritiis, "TensorNet: Cartesian tensor representations for efficient learning of
    molecular potentials", 2023, https://arxiv.org/abs/2306.06482 (features in this form).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from math import sqrt
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from geojax.products.form import Bound, assemble, bind
from geojax.products.product import Direction, Spec, product
from geojax.so3 import Path, clebsch_gordan

__all__ = ["cartesian"]

# Arrays `[..., channel]` (or numbers): one, a list of 3, a list of 3 lists of 3.
Tensor = Any


@product("cartesian", lmax=2)
def cartesian(y: Array | Direction, weights: Array | None, spec: Spec, channels: int) -> Bound:
    """The coupled product, for degrees up to 2."""
    assert not isinstance(y, Direction), "registered without direction=True"
    return bind(Operations, y, weights, spec, channels)


@dataclass(frozen=True)
class Operations:
    """F = sum over paths of w_path out . operation(x, y), all of it static."""

    spec: Spec
    weighted: bool
    thin: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("w", "out", "x", "y") if self.weighted else ("out", "x", "y")

    def evaluate(self, target: str, given: Mapping[str, Array]) -> Array:
        parts: dict[int, list[Array]] = {}
        names = [name for name in ("out", "x", "y") if name != target][:2]
        if target == "w":
            names = ["x", "y"]
        for number, (path, starts) in enumerate(_places(self.spec)):
            degrees = {"out": path.l3, "x": path.l1, "y": path.l2}
            block = partial(_block, given, starts, degrees)
            end = "out" if target == "w" else target
            order = Path(degrees[names[0]], degrees[names[1]], degrees[end])
            sign = -1 if target == "x" and sum(path) % 2 else 1
            first, second = (_tensor(block(name), degrees[name]) for name in names)
            found = sign * sqrt(2 * path.l3 + 1) * _couple(first, second, order)
            if target == "w":
                found = (found * block("out")).sum(-2, keepdims=True)
            elif self.weighted:
                found = found * given["w"][..., number : number + 1, :]
            if self.thin and target == "y":
                found = found.sum(-1, keepdims=True)
            parts.setdefault(starts[target], []).append(found)
        return assemble(parts, self.spec.rows(target))


@cache
def _places(spec: Spec) -> list[tuple[Path, dict[str, int]]]:
    """The paths, and the row where each begins in every argument."""
    places, kept = [], 0
    for number, path in enumerate(spec.paths()):
        out = kept if spec.layout == "keep" else path.l3**2
        places.append((path, {"w": number, "out": out, "x": path.l1**2, "y": path.l2**2}))
        kept += 2 * path.l3 + 1
    return places


def _block(
    given: Mapping[str, Array], starts: Mapping[str, int], degrees: Mapping[str, int], name: str
) -> Array:
    """The rows of one path in one argument."""
    return given[name][..., starts[name] : starts[name] + 2 * degrees[name] + 1, :]


def _couple(a: Tensor, b: Tensor, path: Path) -> Array:
    """Rows of the coupling of unit Frobenius norm."""
    return _scale(path) * _rows(OPERATIONS[path](a, b), path.l3)


@cache
def _scale(path: Path) -> float:
    """What an operation is to be multiplied with, from one entry of the coupling tensor."""
    exact = clebsch_gordan(*path)
    i, j, k = np.unravel_index(np.argmax(np.abs(exact)), exact.shape)
    unit = lambda l, m: np.eye(2 * l + 1)[:, m : m + 1]
    tensors = (_tensor(unit(l, m), l) for l, m in ((path.l1, i), (path.l2, j)))
    return float(exact[i, j, k] / _rows(OPERATIONS[path](*tensors), path.l3, np)[k, 0])


@cache
def _basis() -> np.ndarray:
    """Symmetric traceless matrices of unit norm, `[m, a, b]`, one for each row of degree 2."""
    return sqrt(5) * clebsch_gordan(1, 1, 2).transpose(2, 0, 1)


def _tensor(block: Any, l: int) -> Tensor:
    """The tensor of rows of degree l."""
    if l == 0:
        return block[..., 0, :]
    if l == 1:
        return [block[..., i, :] for i in range(3)]
    entry = lambda a, b: _total(
        float(s) * block[..., m, :] for m, s in enumerate(_basis()[:, a, b]) if s
    )
    upper = {(a, b): entry(a, b) for a in range(3) for b in range(a, 3)}
    return [[upper[min(a, b), max(a, b)] for b in range(3)] for a in range(3)]


def _rows(tensor: Tensor, l: int, xp: Any = jnp) -> Any:
    """The rows of degree l of a tensor; of a matrix its symmetric traceless part."""
    if l == 0:
        return tensor[..., None, :]
    if l == 1:
        return xp.stack(tensor, -2)
    return xp.stack(
        [_total(float(s[a, b]) * tensor[a][b] for a, b in np.argwhere(s)) for s in _basis()], -2
    )


def _total(terms: Any) -> Any:
    first, *rest = terms
    return sum(rest, first)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return _total(p * q for p, q in zip(a, b, strict=True))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _axial(a: Tensor, b: Tensor) -> Tensor:
    """The vector of the antisymmetric part of the matrix a b; both are symmetric."""
    ab = lambda i, j: _dot(a[i], b[j])
    return [ab(1, 2) - ab(2, 1), ab(2, 0) - ab(0, 2), ab(0, 1) - ab(1, 0)]


OPERATIONS: dict[tuple[int, int, int], Callable[[Tensor, Tensor], Tensor]] = {
    (0, 0, 0): lambda a, b: a * b,
    (0, 1, 1): lambda a, b: [a * q for q in b],
    (1, 0, 1): lambda a, b: [p * b for p in a],
    (0, 2, 2): lambda a, b: [[a * q for q in row] for row in b],
    (2, 0, 2): lambda a, b: [[p * b for p in row] for row in a],
    (1, 1, 0): _dot,
    (1, 1, 1): _cross,
    (1, 1, 2): lambda a, b: [[p * q for q in b] for p in a],
    (1, 2, 1): lambda a, b: [_dot(a, row) for row in b],
    (2, 1, 1): lambda a, b: [_dot(row, b) for row in a],
    (1, 2, 2): lambda a, b: [_cross(a, row) for row in b],
    (2, 1, 2): lambda a, b: [_cross(row, b) for row in a],
    (2, 2, 0): lambda a, b: _total(_dot(p, q) for p, q in zip(a, b, strict=True)),
    (2, 2, 1): _axial,
    (2, 2, 2): lambda a, b: [[_dot(p, q) for q in b] for p in a],
}
