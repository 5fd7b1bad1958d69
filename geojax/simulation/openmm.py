"""A potential as a force of OpenMM: kJ/mol, nm and ps there, eV, Å and amu here.

OpenMM's periodic boxes are of one form: a along x, b in the xy plane, each as upright as can be.
`openmm_system` turns a crystal into it.

References:
    Eastman et al., J. Phys. Chem. B 2024, 128, 109 (OpenMM 8).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float

from geojax.datasets import from_ase
from geojax.graphs import Structure
from geojax.model import check_elements
from geojax.units import ENERGY, LENGTH

__all__ = ["OpenMMSystem", "openmm_force", "openmm_system"]

KILOJOULE, NANOMETRE = ENERGY["kJ/mol"], LENGTH["nm"]  # [eV], [Å]
# OpenMM's picosecond is (amu nm² / (kJ/mol))^½, in Å (amu/eV)^½
PICOSECOND = NANOMETRE / KILOJOULE**0.5


class Computation:
    """What OpenMM calls: from its state to an energy [kJ/mol] and forces [kJ/mol/nm].

    The neighbour list is kept between calls as the ASE calculator keeps it.
    """

    def __init__(self, model: Any, numbers: Sequence[int], periodic: bool, skin: float):
        from geojax.inference import calculator  # here, because it needs ASE

        self.calculator = calculator(model, skin=skin)
        self.numbers, self.periodic = np.asarray(numbers, np.int32), periodic

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        nm = _openmm().unit.nanometer
        positions = state.getPositions(asNumpy=True).value_in_unit(nm)
        cell = None
        if self.periodic:
            box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(nm)
            cell = np.array(box) * NANOMETRE
        repeats = (self.periodic, self.periodic, self.periodic)
        structure = Structure(np.array(positions) * NANOMETRE, self.numbers, cell, repeats)
        edges = self.calculator.edges(structure)
        found = self.calculator.predictor.with_edges(structure, edges, ("energy", "forces"))
        return (
            float(found.energy) / KILOJOULE,
            np.ascontiguousarray(np.asarray(found.forces) * (NANOMETRE / KILOJOULE)),
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a model is no part of an OpenMM system's XML, which would hold it as a pickle; keep "
            "the model's own file, and make the system again with openmm_system or openmm_force"
        )


class OpenMMSystem(NamedTuple):
    """Atoms as OpenMM takes them.

    Attributes:
        system: `openmm.System`: masses, box and the force.
        topology: `openmm.app.Topology`: elements and box, for a `Simulation` and its reporters.
        positions: `[node, 3]` [nm], turned into OpenMM's frame.
        velocities: `[node, 3]` [nm/ps], likewise.
        rotation: `[3, 3]`; `10 * positions @ rotation` are those of the atoms [Å].
    """

    system: Any
    topology: Any
    positions: Float[np.ndarray, "node 3"]
    velocities: Float[np.ndarray, "node 3"]
    rotation: Float[np.ndarray, "3 3"]


def openmm_force(
    model: Any,
    numbers: Sequence[int],
    *,
    periodic: bool = False,
    particles: Sequence[int] | None = None,
    skin: float = 0.5,
) -> Any:
    """An `openmm.PythonForce` with the energies and forces of a model.

    What is not finite, and every other error, ends the step with an `OpenMMException` that says
    so. The force cannot be written to XML: it would be written as a pickle.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        numbers: atomic numbers of the particles.
        periodic: whether the box repeats, in all three directions.
        particles: indices of the particles that the model is of; all of them by default.
        skin: [Å], of the neighbour list, see `inference.Calculator`.

    Raises:
        ImportError: OpenMM is not installed, or too old for forces in Python.
        ValueError: an element that the model does not know, no energy, or as many numbers as there
            are no particles.
    """
    openmm = _openmm()
    if particles is not None and len(particles) != len(numbers):
        raise ValueError(
            f"each particle of the model has its atomic number; got {len(particles)} particles and "
            f"{len(numbers)} numbers"
        )
    compute = Computation(model, numbers, periodic, skin)
    known = Structure(np.arange(3.0 * len(compute.numbers)).reshape(-1, 3), compute.numbers)
    check_elements(compute.calculator.predictor.card, [known])
    force = openmm.PythonForce(compute)
    force.setUsesPeriodicBoundaryConditions(periodic)
    if particles is not None:
        force.setParticles([int(i) for i in particles])
    return force


def openmm_system(atoms: Any, model: Any, *, skin: float = 0.5) -> OpenMMSystem:
    """The system of all atoms with a model as its only force.

    Args:
        atoms: ASE's: elements, masses, positions, velocities, and a cell that repeats in three
            directions or in none; any cell, which OpenMM gets turned and reduced.
        model: see `openmm_force`.
        skin: likewise.

    Raises:
        ImportError: OpenMM is not installed, or too old for forces in Python.
        ValueError: as `openmm_force`; atoms that repeat in one or two directions; constraints.
    """
    openmm = _openmm()
    structure = from_ase(atoms, labels=False)
    if any(structure.pbc) and not all(structure.pbc):
        raise ValueError(
            f"OpenMM's boxes repeat in three directions; got pbc {structure.pbc}; simulate such "
            "atoms through ASE"
        )
    if atoms.constraints:
        raise ValueError(
            "constraints of ASE are not OpenMM's; remove them, and give particles of the system "
            "mass zero to fix them"
        )
    box, rotation = None, np.eye(3)
    if all(structure.pbc):
        assert structure.cell is not None
        box, rotation = reduced(structure.cell.astype(np.float64))
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(float(mass))
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in box / NANOMETRE))
    system.addForce(
        openmm_force(model, structure.species.tolist(), periodic=box is not None, skin=skin)
    )
    turned = lambda rows: np.asarray(rows, np.float64) @ rotation.T
    return OpenMMSystem(
        system,
        _topology(openmm, structure.species, box),
        turned(atoms.positions) / NANOMETRE,
        turned(atoms.get_velocities()) * (PICOSECOND / NANOMETRE),
        rotation,
    )


def reduced(
    cell: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """OpenMM's form of a lattice, and the rotation: `x_there = x @ rotation.T`.

    The box spans the same lattice: lower triangular, with a positive diagonal, and what is left of
    it at most half of the diagonal above.
    """
    cell = cell * np.sign(np.linalg.det(cell))  # all three turned around are the same lattice
    upper, lower = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(lower))
    rotation, box = (upper * signs).T, (lower.T * signs)
    box = np.tril(box)
    box[2] -= box[1] * np.round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * np.round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * np.round(box[1, 0] / box[0, 0])
    return box, rotation


def _topology(openmm: Any, numbers: np.ndarray, box: np.ndarray | None) -> Any:
    topology = openmm.app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for i, number in enumerate(numbers.tolist()):
        element = openmm.app.Element.getByAtomicNumber(number) if number else None
        topology.addAtom(f"{element.symbol if element else 'X'}{i}", element, residue)
    if box is not None:
        vectors = [openmm.Vec3(*row) for row in box / NANOMETRE]
        topology.setPeriodicBoxVectors(vectors * openmm.unit.nanometer)
    return topology


def _openmm() -> Any:
    try:
        import openmm
        import openmm.app
        import openmm.unit
    except ImportError as error:
        raise ImportError("OpenMM is not installed; pip install 'geojax[openmm]'") from error
    if not hasattr(openmm, "PythonForce"):
        raise ImportError(
            "forces in Python came with a later OpenMM than this "
            f"{openmm.__version__}; pip install 'geojax[openmm]'"
        )
    return openmm
