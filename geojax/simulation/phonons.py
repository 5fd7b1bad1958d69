"""Phonons of a crystal by finite displacements, in phonopy: dispersion, density of states, heat.

Forces in a supercell with one atom displaced at a time, as few as symmetry allows, are the rows of
its force constants. Their sums are made to vanish (acoustic sum rule) and they are symmetric.

References:
    Togo, Chaput, Tadano, Tanaka, J. Phys. Condens. Matter 2023, 35, 353001 (phonopy).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.units import ENERGY

__all__ = ["Phonons", "phonons"]

TEMPERATURES = np.arange(0, 1001, 50.0)  # [K]
BAND_POINTS = 150
SETTLED = 1e-2  # [eV/Å]: a crystal with larger forces is not at rest


class Phonons(NamedTuple):
    """What was found; frequencies of unstable modes are imaginary and written as negative numbers.

    Attributes:
        path: labels of the special points, joined; a comma where the path breaks off.
        distances: `[point]` [1/Å] along the path.
        ticks: `[(distance, label), ...]` of the special points.
        bands: `[point, branch]` [THz].
        energies: `[bin]` [THz], of the density of states.
        density: `[bin]` [1/THz], of all branches: its integral is three times the atoms of the
            primitive cell.
        thermal: temperature [K], free energy [eV], entropy [eV/K] and heat capacity [eV/K] of the
            primitive cell, in rows, without the unstable modes.
        acoustic: [THz], the largest of the three frequencies at the zone centre before sums of
            force constants were made to vanish.
        force: [eV/Å], the largest on an atom of the crystal itself.
        displacements: how many supercells were needed.
        engine: the `phonopy.Phonopy` with all of it.
    """

    path: str
    distances: Float[np.ndarray, "point"]
    ticks: tuple[tuple[float, str], ...]
    bands: Float[np.ndarray, "point branch"]
    energies: Float[np.ndarray, "bin"]
    density: Float[np.ndarray, "bin"]
    thermal: Float[np.ndarray, "temperature 4"]
    acoustic: float
    force: float
    displacements: int
    engine: Any

    @property
    def lowest(self) -> float:
        """[THz], of all bands; negative of a crystal that is not stable."""
        return float(self.bands.min())

    def figures(self) -> dict[str, float]:
        """The single numbers."""
        room = self.thermal[np.argmin(np.abs(self.thermal[:, 0] - 300))]
        return {
            "supercells": float(self.displacements),
            "lowest frequency [THz]": self.lowest,
            "highest frequency [THz]": float(self.bands.max()),
            "acoustic error [THz]": self.acoustic,
            "zero-point energy [eV/cell]": float(self.thermal[0, 1]),
            "heat capacity at 300 K [eV/K/cell]": float(room[3]),
            "largest force [eV/Å]": self.force,
        }

    def record(self) -> dict[str, Any]:
        """Plain numbers, for a file."""
        plain = {"path": self.path, "ticks": [list(tick) for tick in self.ticks]}
        arrays = {
            "distances [1/Å]": self.distances,
            "bands [THz]": self.bands,
            "energies [THz]": self.energies,
            "density [1/THz]": self.density,
            "T [K], F [eV], S [eV/K], C [eV/K]": self.thermal,
        }
        return plain | self.figures() | {name: x.tolist() for name, x in arrays.items()}


def phonons(
    atoms: Any,
    *,
    supercell: Sequence[int] = (2, 2, 2),
    displacement: float = 0.01,
    mesh: Sequence[int] = (20, 20, 20),
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Phonons:
    """Phonons of a crystal at rest (see `relax`).

    Args:
        atoms: ASE's, with a calculator; not changed.
        supercell: repeats along the three lattice vectors.
        displacement: [Å].
        mesh: points of the density of states along the three reciprocal vectors.
        folder: where phonopy's own files (`phonopy.yaml` with forces) and a plot go.
        progress: called with the number of supercells done and of all.

    Raises:
        ImportError: phonopy is not installed.
        ValueError: no crystal, forces that are not small, or a supercell, mesh or displacement that
            is not positive.
    """
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
        from phonopy.structure.cells import guess_primitive_matrix
    except ImportError as error:
        raise ImportError("phonons are phonopy's; pip install 'geojax[phonons]'") from error
    _check(atoms, supercell, displacement, mesh)
    force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    if force > SETTLED:
        raise ValueError(
            f"phonons are those of a crystal at rest, with forces up to {SETTLED} eV/Å; got "
            f"{force:.3g} eV/Å; relax it first (geojax relax --cell)"
        )
    unit = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=np.array(atoms.cell),
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
    engine = Phonopy(
        unit, supercell_matrix=np.diag(supercell), primitive_matrix=guess_primitive_matrix(unit)
    )
    engine.generate_displacements(distance=displacement)
    cells: Any = engine.supercells_with_displacements
    found = []
    for number, cell in enumerate(cells):
        found.append(_forces(atoms, cell))
        if progress is not None:
            progress(number + 1, len(cells))
    engine.forces = np.array(found)
    engine.produce_force_constants()
    centre = np.asarray(engine.run_qpoints([[0, 0, 0]]).frequencies[0])
    acoustic = float(np.sort(np.abs(centre))[:3].max())
    engine.symmetrize_force_constants()
    return _analysed(engine, acoustic, force, mesh, folder)


def _check(atoms: Any, supercell: Sequence[int], displacement: float, mesh: Sequence[int]) -> None:
    if not all(atoms.pbc) or atoms.cell.rank < 3:
        raise ValueError(
            f"phonons are those of a crystal, periodic in three directions; got pbc "
            f"{list(map(bool, atoms.pbc))}; of a molecule there are vibrations"
        )
    if len(supercell) != 3 or len(mesh) != 3 or min(*supercell, *mesh) < 1 or displacement <= 0:
        raise ValueError(
            "a supercell and a mesh are three whole numbers from one, a displacement is positive; "
            f"got supercell={tuple(supercell)}, mesh={tuple(mesh)}, displacement={displacement}"
        )


def _forces(atoms: Any, cell: Any) -> np.ndarray:
    """Forces [eV/Å] in a supercell, by the calculator of the atoms."""
    from ase import Atoms

    there = Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    there.info = dict(atoms.info)
    return atoms.calc.get_property("forces", there)


def _analysed(
    engine: Any, acoustic: float, force: float, mesh: Sequence[int], folder: str | Path | None
) -> Phonons:
    """Bands along the special points of the primitive cell, density of states, heat."""
    from ase.cell import Cell

    primitive = Cell(engine.primitive.cell)
    band = primitive.bandpath(npoints=BAND_POINTS)
    distances, places, labels = band.get_linear_kpoint_axis()
    engine.run_band_structure([band.kpts])
    engine.run_mesh(list(mesh), is_gamma_center=True)
    engine.run_total_dos()
    engine.run_thermal_properties(temperatures=TEMPERATURES, exclude_gamma_acoustic=True)
    density, heat, mole = engine.total_dos, engine.thermal_properties, ENERGY["kJ/mol"]
    columns = [heat.free_energy, heat.entropy / 1e3, heat.heat_capacity / 1e3]
    thermal = np.stack([heat.temperatures, *(mole * c for c in columns)], 1)
    ticks: dict[float, str] = {}
    for x, label in zip(places.tolist(), labels, strict=True):
        ticks[x] = f"{ticks[x]}|{label}" if x in ticks else label  # where the path breaks off
    found = Phonons(
        band.path,
        np.asarray(distances),
        tuple(ticks.items()),
        np.asarray(engine.band_structure.frequencies[0]),
        np.asarray(density.frequency_points),
        np.asarray(density.dos),
        thermal,
        acoustic,
        force,
        len(engine.supercells_with_displacements),
        engine,
    )
    if folder is not None:
        _kept(found, Path(folder))
    return found


def _kept(found: Phonons, folder: Path) -> None:
    """phonopy's file, and bands beside the density of states as a picture."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    found.engine.save(folder / "phonopy.yaml", settings={"force_sets": True})
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left.plot(found.distances, found.bands, color="C0", lw=1)
    left.set_xticks([x for x, _ in found.ticks], [label for _, label in found.ticks])
    left.set_xlim(found.distances[0], found.distances[-1])
    left.set_ylabel("frequency [THz]")
    left.grid(axis="x")
    right.plot(found.density, found.energies, color="C0", lw=1)
    right.set_xlabel("states [1/THz]")
    figure.savefig(folder / "phonons.png", dpi=150)
