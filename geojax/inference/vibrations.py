"""Vibrations in the harmonic approximation: frequencies, normal modes, zero-point energy.

With the mass-weighted Hessian K = M^(-1/2) H M^(-1/2), translations and rotations are projected out
(Eckart), and the eigenvalues of what remains are the squares of the angular frequencies. Of a large
system the lowest modes come from products of the Hessian with vectors alone (Lanczos).

References:
    Wilson, Decius, Cross, "Molecular Vibrations", 1955.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.elements import MASSES
from geojax.graphs import Structure
from geojax.inference.predictor import Predictor
from geojax.units import QUANTUM, WAVENUMBER

__all__ = ["Vibrations", "lowest_vibrations", "rigid_motions", "vibrations"]

LINEAR = 1e-3  # a molecule whose atoms leave a line by less, relative to its length, is linear


class Vibrations(NamedTuple):
    """Normal modes, from the softest to the stiffest.

    Attributes:
        frequencies: `[mode]` [cm⁻¹]; that of a mode with negative curvature is imaginary and
            written as a negative number.
        modes: `[mode, node, 3]` [amu^(-1/2)], displacements with sum m_i u_i · v_i = 1 or 0.
        reduced_masses: `[mode]` [amu], of displacements of unit length.
        zero_point_energy: [eV], half a quantum for each real frequency (of those given).
        rigid: how many translations and rotations were projected out: 6, 5 of a linear molecule,
            3 of an atom or a periodic structure.
    """

    frequencies: Float[np.ndarray, "mode"]
    modes: Float[np.ndarray, "mode node 3"]
    reduced_masses: Float[np.ndarray, "mode"]
    zero_point_energy: float
    rigid: int


def vibrations(
    hessian: Float[np.ndarray, "node 3 node 3"],
    structure: Structure,
    *,
    masses: Float[np.ndarray, "node"] | None = None,
) -> Vibrations:
    """All vibrations; of a structure at a minimum (or saddle point) of its energy.

    Args:
        hessian: [eV/Å²], also as `[3 node, 3 node]`.
        structure: a periodic one vibrates with its lattice fixed, all cells alike.
        masses: [amu]; standard atomic weights by default.

    Raises:
        ValueError: the Hessian has not the size of the structure, a node is a bare point and there
            are no masses, or a mass is not positive.
    """
    size = 3 * len(structure)
    matrix = np.asarray(hessian, np.float64)
    if matrix.size != size**2:
        raise ValueError(
            f"a Hessian of {len(structure)} nodes has {size} x {size} entries; got shape "
            f"{matrix.shape}"
        )
    matrix = matrix.reshape(size, size)
    weights = _weights(structure, masses)
    rigid = rigid_motions(structure, masses=masses)
    rest = np.linalg.svd(rigid)[0][:, rigid.shape[1] :]
    weighted = (matrix + matrix.T) / 2 / np.outer(weights, weights)
    values, vectors = np.linalg.eigh(rest.T @ weighted @ rest)
    return _modes(values, rest @ vectors, weights, rigid.shape[1])


def lowest_vibrations(
    model: Any,
    structure: Structure,
    count: int = 10,
    *,
    masses: Float[np.ndarray, "node"] | None = None,
    tolerance: float = 1e-8,
) -> Vibrations:
    """The softest vibrations by Lanczos, from products of the energy's Hessian with vectors.

    A model of float32 resolves frequencies above some ten cm⁻¹.

    Args:
        model: a `Model` with an energy, or its `Predictor`.
        structure: at a minimum of the model's energy.
        count: how many; fewer than there are.
        masses: [amu]; standard atomic weights by default.
        tolerance: of the eigenvalues, relative to the largest one.

    Raises:
        ValueError: more are asked for than there are; and as `vibrations`.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # here: whoever predicts needs none of it

    predictor = model if isinstance(model, Predictor) else Predictor(model)
    weights = _weights(structure, masses)
    rigid = rigid_motions(structure, masses=masses)
    size, fixed = rigid.shape
    if not 0 < count < size - fixed:
        raise ValueError(
            f"Lanczos finds some of the {size - fixed} vibrations; {count} were asked for; take "
            "fewer, or vibrations of the dense Hessian for all"
        )
    times = predictor.curvature(structure)
    free = lambda v: v - rigid @ (rigid.T @ v)

    def projected(v: np.ndarray) -> np.ndarray:
        inside = free(v.ravel()) / weights
        return free(times(inside.reshape(-1, 3)).ravel() / weights)

    linear: Any = LinearOperator  # its stubs lack the form with functions
    start = np.random.default_rng(0).standard_normal(size)
    options: dict[str, Any] = {"tol": tolerance, "v0": free(start)}
    stiff = linear((size, size), matvec=projected, dtype=np.float64)
    top = 1.1 * abs(eigsh(stiff, 1, which="LM", return_eigenvectors=False, **options)[0])
    lifted = lambda v: projected(v) + top * (rigid @ (rigid.T @ v.ravel()))
    operator = linear((size, size), matvec=lifted, dtype=np.float64)
    kept = min(size, max(4 * count, 40))
    values, vectors = eigsh(operator, count, which="SA", ncv=kept, maxiter=100 * size, **options)
    order = np.argsort(values)
    return _modes(values[order], vectors[:, order], weights, fixed)


def rigid_motions(
    structure: Structure, *, masses: Float[np.ndarray, "node"] | None = None
) -> Float[np.ndarray, "coordinate rigid"]:
    """Translations and (without a lattice) rotations, mass-weighted and orthonormal columns."""
    root = _weights(structure, masses).reshape(-1, 3)
    mass = root[:, :1] ** 2
    shifts = [root * axis for axis in np.eye(3)]
    columns = np.stack([s.ravel() / np.linalg.norm(s) for s in shifts], 1)
    if any(structure.pbc):
        return columns
    arms = structure.positions - (mass * structure.positions).sum(0) / mass.sum()
    turns = np.stack([(root * np.cross(axis, arms)).ravel() for axis in np.eye(3)], 1)
    directions, sizes, _ = np.linalg.svd(turns, full_matrices=False)
    turned = directions[:, sizes > LINEAR * max(sizes[0], 1e-12)]
    return np.linalg.qr(np.concatenate([columns, turned], 1))[0]


def _weights(
    structure: Structure, masses: Float[np.ndarray, "node"] | None
) -> Float[np.ndarray, "coordinate"]:
    """The root of the mass of each coordinate."""
    found = np.array(MASSES)[structure.species] if masses is None else np.asarray(masses)
    if found.shape != structure.species.shape or not (found > 0).all():
        raise ValueError(
            f"every node has a positive mass; there are {len(structure)} nodes, and masses of "
            f"shape {found.shape} from {found.min(initial=0)} amu on; give masses (bare points "
            "have none)"
        )
    return np.repeat(np.sqrt(found.astype(np.float64)), 3)


def _modes(values: np.ndarray, vectors: np.ndarray, weights: np.ndarray, rigid: int) -> Vibrations:
    """From eigenvalues [eV/Å²/amu] and eigenvectors of the mass-weighted Hessian."""
    roots = np.sign(values) * np.sqrt(np.abs(values))
    shapes = (vectors / weights[:, None]).T
    return Vibrations(
        frequencies=WAVENUMBER * roots,
        modes=shapes.reshape(len(values), len(weights) // 3, 3),
        reduced_masses=1 / np.square(shapes).sum(1),
        zero_point_energy=float(QUANTUM / 2 * roots[roots > 0].sum()),
        rigid=rigid,
    )
