"""Checks of what may not matter: orientation, handedness, place and the order of atoms.

Each is a function `(context) -> Measurement | None` in `CHECKS`; limits are those of the acceptance
list (figures A1, A2, A4, A5), in float64 and float32.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from e3nn_jax import Irreps

from geojax.checks.context import CHECKS, Context, Measurement, difference
from geojax.checks.examples import turned
from geojax.checks.programs import Values
from geojax.graphs import Sample, is_per_node
from geojax.so3 import wigner_d

__all__ = ["rotations", "turn_values", "when_moved"]

ROTATIONS = 10  # proper ones, and as many improper ones
FAR = 1e4  # [Å]

_wigner_d = jax.jit(wigner_d, static_argnames=("lmax", "pseudo"))


def rotations(context: Context, *, improper: bool) -> np.ndarray:
    """`[rotation, 3, 3]`, float64, the same ones for every check of a context."""
    matrices = np.linalg.qr(context.rng().standard_normal((ROTATIONS, 3, 3)))[0]
    signs = np.linalg.det(matrices) * (-1 if improper else 1)
    return matrices * np.sign(signs)[:, None, None]


def turn_values(values: Values, irreps: dict[str, Irreps], matrix: np.ndarray) -> Values:
    """What is predicted for a structure, after a rotation of the world by `matrix` `[3, 3]`."""
    found = {}
    for name, value in values.items():
        if name == "stress":
            found[name] = matrix @ value @ matrix.T
        elif name == "hessian":
            found[name] = np.einsum("ab,ibjc,dc->iajd", matrix, value, matrix)
        else:
            found[name] = _turn(value, irreps[name], matrix)
    return found


def _turn(value: np.ndarray, irreps: Irreps, matrix: np.ndarray) -> np.ndarray:
    if _invariant(irreps):
        return value
    if value.shape[-2:] == (3, 3):  # a rotation matrix, whose columns turn
        return matrix @ value
    rows = value.reshape(-1, irreps.dim)
    parts = []
    for part, own in zip(irreps, irreps.slices(), strict=True):
        pseudo = part.ir.p != (-1) ** part.ir.l
        with jax.enable_x64(True):
            block = np.asarray(_wigner_d(matrix, part.ir.l, pseudo=pseudo)[-1])
        blocks = rows[:, own].reshape(-1, part.mul, part.ir.dim) @ block.T
        parts.append(blocks.reshape(len(rows), -1))
    return np.concatenate(parts, -1).reshape(value.shape)


def _invariant(irreps: Irreps) -> bool:
    return all(part.ir.l == 0 and part.ir.p == 1 for part in irreps)


def _invariants(context: Context) -> list[str]:
    return [name for name, irreps in context.irreps.items() if _invariant(irreps)]


def _covariants(context: Context) -> list[str]:
    names = [name for name, irreps in context.irreps.items() if not _invariant(irreps)]
    tensors = {"stress": context.has_energy, "hessian": context.has_hessian}
    return [*names, *(name for name, there in tensors.items() if there)]


def when_moved(
    context: Context, limits: tuple[float, float]
) -> tuple[list[str], tuple[float, float]]:
    """What to compare between positions that differ in rounding, and up to which limits.

    In float32 the limits are those of invariants, where there are any: vectors and tensors have
    the limit of equivariance.
    """
    invariant, rest = _invariants(context), _covariants(context)
    if context.double:
        return invariant + rest, limits
    return (invariant, limits) if invariant else (rest, (limits[0], 5e-5))


@lru_cache(maxsize=2)
def _turned_both_ways(context: Context, improper: bool) -> tuple[list[Values], list[Values]]:
    """Predictions for turned structures, and predictions that were turned afterwards."""
    matrices = rotations(context, improper=improper)
    structures = list(context.examples.values())
    before = [turned(s, matrix, context.vector_inputs) for matrix in matrices for s in structures]
    after = [
        turn_values(values, context.irreps, matrix)
        for matrix in matrices
        for values in context.reference.values()
    ]
    return context.predict(before), after


def _turning_error(context: Context, names: Sequence[str], *, improper: bool) -> tuple[float, str]:
    """The largest difference between turning the structure and turning the prediction."""
    return difference(*_turned_both_ways(context, improper), names)


@CHECKS.register("rotation")
def rotation(context: Context) -> Measurement | None:
    """Energies and other invariants under random rotations."""
    names = _invariants(context)
    if not names:
        return None
    value, where = _turning_error(context, names, improper=False)
    return context.judge(
        "rotation",
        "A1",
        value,
        (1e-12, 1e-5),
        detail=f"{ROTATIONS} random rotations of {len(context.examples)} structures; {where}",
        meaning="a scalar depends on the orientation of the structure: some layer reads components "
        "of vectors or tensors as if they were scalars",
    )


@CHECKS.register("inversion")
def inversion(context: Context) -> Measurement | None:
    """Energies and other invariants under random improper rotations."""
    names = _invariants(context)
    if not names or context.chiral:
        return None
    value, where = _turning_error(context, names, improper=True)
    return context.judge(
        "inversion",
        "A1",
        value,
        (1e-12, 1e-5),
        detail=f"{ROTATIONS} random improper rotations; {where}",
        meaning="a scalar tells a structure from its mirror image: a pseudo-scalar, such as a "
        "triple product or an odd path, reaches a '0e' output",
    )


@CHECKS.register("equivariance")
def equivariance(context: Context) -> Measurement | None:
    """Forces, stress, vectors and tensors under proper and improper rotations."""
    names = _covariants(context)
    if not names:
        return None
    kinds = (False,) if context.chiral else (False, True)
    value, where = max(_turning_error(context, names, improper=kind) for kind in kinds)
    return context.judge(
        "equivariance",
        "A2",
        value,
        (1e-11, 5e-5),
        detail=f"{ROTATIONS} rotations{'' if context.chiral else ', as many improper'}; {where}",
        meaning="vectors or tensors do not turn with the structure: look for a nonlinearity on "
        "components, a bias on l > 0, or an irrep of the wrong parity",
    )


@CHECKS.register("translation")
def translation(context: Context) -> Measurement:
    """All outputs when the positions that the network reads are moved."""
    shift = context.rng().uniform(2, 4, 3)

    def moved(one: Sample) -> Sample:
        nodes: Any = one.graph.nodes
        there = {**nodes, "positions": nodes["positions"] + shift}
        return one._replace(graph=one.graph._replace(nodes=there))

    names, limits = when_moved(context, (1e-9, 1e-5))
    found = context.programs.evaluate([moved(context.sample(s)) for s in context.examples.values()])
    value, where = difference(found, list(context.reference.values()), names)
    return context.judge(
        "translation",
        "A5",
        value,
        limits,
        detail=f"moved by {np.linalg.norm(shift):.2g} Å; {where}",
        meaning="an output depends on where the structure is: the network reads positions instead "
        "of differences of positions",
    )


@CHECKS.register("offset")
def offset(context: Context) -> Measurement:
    """All outputs for structures far from the origin."""
    away = FAR * np.array([1.0, -0.7, 0.4])
    moved = [s.replace(positions=s.positions + away) for s in context.examples.values()]
    names, limits = when_moved(context, (1e-9, 1e-5))
    value, where = difference(context.predict(moved), list(context.reference.values()), names)
    return context.judge(
        "offset",
        "A5",
        value,
        limits,
        detail=f"structures 1e4 Å from the origin; {where}",
        meaning="digits are lost far from the origin: positions become float32 before they are "
        "centred (graphs.sample centres them in float64)",
    )


@CHECKS.register("permutation")
def permutation(context: Context) -> Measurement:
    """All outputs when the atoms are listed in another order."""
    rng = context.rng()
    orders = [rng.permutation(len(s)) for s in context.examples.values()]
    mixed = [s.take(o) for s, o in zip(context.examples.values(), orders, strict=True)]
    want = [
        {name: _in_order(name, v, order) for name, v in values.items()}
        for values, order in zip(context.reference.values(), orders, strict=True)
    ]
    value, where = difference(context.predict(mixed), want)
    return context.judge(
        "permutation",
        "A4",
        value,
        (1e-12, 1e-5),
        detail=f"atoms in another order; {where}",
        meaning="an output depends on the order of the atoms: the index of a node enters somewhere",
    )


def _in_order(name: str, value: np.ndarray, order: np.ndarray) -> np.ndarray:
    if name == "hessian":
        return value[order][:, :, order]
    return value[order] if is_per_node(name) else value
