"""Dynamics through ASE, and what they say of a potential. geojax has no integrators of its own."""

from typing import Any

import numpy as np

__all__ = ["nve"]


def nve(
    atoms: Any,
    *,
    steps: int,
    timestep: float = 0.5,
    temperature: float = 300.0,
    seed: int = 0,
    every: int = 20,
) -> dict[str, Any]:
    """Constant-energy dynamics from velocities of a temperature (velocity Verlet).

    Args:
        atoms: ASE's, with a calculator; moved in place.
        steps: how many.
        timestep: [fs].
        temperature: [K], of the initial velocities (momentum and, without a lattice, rotation are
            taken out).
        seed: of the velocities.
        every: steps between kept frames.

    Returns:
        `time` [fs], `potential`, `kinetic`, `total` [eV] of every step; `positions` [Å] and
        `frames` [fs] of the kept ones; the mean `temperature` [K]; and `drift` [eV/atom/ps], the
        slope of a line through the total energy after the first tenth.

    Raises:
        ImportError: ase is not installed.
    """
    try:
        from ase import units
        from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
        from ase.md.verlet import VelocityVerlet
    except ImportError as error:
        raise ImportError("dynamics run in ASE; pip install 'geojax[atoms]'") from error
    rng = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature, rng=rng)
    Stationary(atoms)
    if not atoms.pbc.any() and atoms.get_moments_of_inertia().min() > 1e-3:  # not a line
        ZeroRotation(atoms)
    dynamics = VelocityVerlet(atoms, timestep=timestep * units.fs)
    energies, frames = [], []

    def record() -> None:
        energies.append((atoms.get_potential_energy(), atoms.get_kinetic_energy()))
        if len(energies) % every == 1 or every == 1:
            frames.append(atoms.get_positions())

    dynamics.attach(record, interval=1)
    dynamics.run(steps)
    potential, kinetic = np.array(energies).T
    time, total = timestep * np.arange(len(potential)), potential + kinetic
    settled = slice(len(time) // 10, None)
    slope = np.polyfit(time[settled], total[settled], 1)[0]
    return {
        "time": time,
        "potential": potential,
        "kinetic": kinetic,
        "total": total,
        "positions": np.array(frames),
        "frames": time[::every],
        "temperature": 2 * kinetic.mean() / (3 * len(atoms) * units.kB),
        "drift": 1000 * slope / len(atoms),
    }
