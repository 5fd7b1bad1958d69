"""Clean structures, and what is done to them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from geojax.datasets import Dataset, load
from geojax.graphs import Properties, Structure


@functools.cache
def ethanol() -> Dataset:
    """A part of the bundled set: 120, 40 and 40 frames."""
    data = load("ethanol", n_train=120)
    return Dataset("ethanol", data.train, data.valid[:40], data.test[:40], data.card)


@functools.cache
def crystals(count: int = 50) -> tuple[Structure, ...]:
    """Rattled and strained cells of Cu₃Au with EMT energies, forces and stresses."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.numbers[[0, 4]] = 79
        atoms.set_cell(atoms.cell[:] * 1.03, scale_atoms=True)
        strain = rng.normal(0, 0.012, (3, 3))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
        atoms.calc = EMT()
        labels = Properties(
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(voigt=False),
        )
        cell = np.asarray(atoms.cell[:])
        found.append(
            Structure(atoms.positions, atoms.numbers, cell, (True, True, True), {}, labels)
        )
    return tuple(found)


def labelled(structure: Structure, **changes: Any) -> Structure:
    """The same with other labels; a function changes the label that is there."""
    p = structure.properties
    new = {k: v(getattr(p, k)) if callable(v) else v for k, v in changes.items()}
    return structure.replace(properties=p._replace(**new))


def every(change: Callable[[Structure], Structure]) -> Callable:
    """The change of all structures."""
    return lambda structures: tuple(change(s) for s in structures)


def some(change: Callable[[Structure], Structure], step: int = 20) -> Callable:
    """The change of each twentieth."""
    return lambda all_: tuple(change(s) if i % step == 7 % step else s for i, s in enumerate(all_))
