"""The lowest way between two minima, by a nudged elastic band in ASE: saddle point and barrier.

References:
    Henkelman, Uberuaga, Jónsson, J. Chem. Phys. 2000, 113, 9901 (climbing image).
    Smidstrup, Pedersen, Stokbro, Jónsson, J. Chem. Phys. 2014, 140, 214106 (first images, IDPP).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.datasets import from_ase
from geojax.datasets.formats import append
from geojax.graphs import Properties

__all__ = ["Band", "elastic_band"]


class Band(NamedTuple):
    """Images from the first minimum to the second.

    Attributes:
        converged: whether the largest force across the band is below the limit.
        steps: how many were taken.
        images: ASE's atoms.
        energies: `[image]` [eV].
        force: [eV/Å], the largest across the band.
    """

    converged: bool
    steps: int
    images: tuple[Any, ...]
    energies: Float[np.ndarray, "image"]
    force: float

    @property
    def saddle(self) -> int:
        """The image of the highest energy."""
        return int(self.energies.argmax())

    def figures(self) -> dict[str, float]:
        """The single numbers."""
        top = self.energies.max()
        return {
            "barrier [eV]": float(top - self.energies[0]),
            "barrier back [eV]": float(top - self.energies[-1]),
            "reaction energy [eV]": float(self.energies[-1] - self.energies[0]),
            "saddle image": float(self.saddle),
            "largest force across [eV/Å]": self.force,
        }


def elastic_band(
    start: Any,
    end: Any,
    *,
    images: int = 7,
    force: float = 0.05,
    steps: int = 500,
    climb: bool = True,
    spring: float = 0.1,
    trajectory: str | Path | None = None,
) -> Band:
    """A band of images, relaxed across its own direction.

    Args:
        start: ASE's atoms at a minimum, with a calculator, which serves all images; not changed.
        end: the same atoms in the same order at another minimum.
        images: between the two.
        force: [eV/Å], the largest across the band that is left.
        steps: at most.
        climb: whether the highest image climbs onto the saddle point, in a second run.
        spring: [eV/Å²], between neighbours.
        trajectory: an extended-xyz file to which the images are added at the end.

    Raises:
        ImportError: ase is not installed.
        ValueError: other atoms, cells or boundaries at the end, the same places, or numbers that
            are not positive.
    """
    try:
        from ase import mep, optimize
    except ImportError as error:
        raise ImportError("bands run in ASE; pip install 'geojax[atoms]'") from error
    _check(start, end, images, force, steps)
    band = [start.copy(), *(start.copy() for _ in range(images)), end.copy()]
    for image in band:
        image.calc = start.calc
    options = {"k": spring, "method": "improvedtangent", "allow_shared_calculator": True}
    nudged = mep.NEB(band, **options)
    fire: Any = optimize.FIRE  # its stubs lack bands
    nudged.interpolate(method="idpp", mic=bool(any(start.pbc)))
    taken, converged = 0, False
    for climbs in (False, True) if climb else (False,):
        if taken == steps:
            converged = False
            break
        nudged.climb = climbs
        search = fire(nudged, logfile=None)
        limit = force if climbs or not climb else max(10 * force, 0.5)
        converged = bool(search.run(fmax=limit, steps=steps - taken))
        taken += search.get_number_of_steps()
    energies = np.array([start.calc.get_property("energy", image) for image in band])
    across = float(np.linalg.norm(nudged.get_forces(), axis=1).max())
    found = Band(converged, taken, tuple(band), energies, across)
    if trajectory is not None:
        for image, energy in zip(band, energies, strict=True):
            forces = np.array(start.calc.get_property("forces", image))
            found_there = Properties(energy=np.array(energy), forces=forces)
            append(trajectory, from_ase(image, labels=False), found_there)
    return found


def _check(start: Any, end: Any, images: int, force: float, steps: int) -> None:
    if images < 1 or force <= 0 or steps < 1:
        raise ValueError(
            f"images, force and steps are positive; got images={images}, force={force}, "
            f"steps={steps}"
        )
    same = (
        np.array_equal(start.numbers, end.numbers)
        and np.allclose(start.cell, end.cell)
        and np.array_equal(start.pbc, end.pbc)
    )
    if not same:
        raise ValueError(
            "a band joins two places of the same atoms, in one order and one cell; got "
            f"{start.get_chemical_formula('reduce')} in {start.cell.lengths().round(3).tolist()} "
            f"and {end.get_chemical_formula('reduce')} in {end.cell.lengths().round(3).tolist()}"
        )
    if np.allclose(start.positions, end.positions, atol=1e-6):
        raise ValueError("a band joins two minima; all atoms are at the same places in both")
