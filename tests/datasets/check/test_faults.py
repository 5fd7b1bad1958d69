"""Faults that are planted in clean data are found under their names, and clean data have none."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.datasets import check_data
from geojax.datasets.check import Findings
from geojax.graphs import Structure
from geojax.units import BOHR, HARTREE, factor
from tests.datasets.check.samples import crystals, ethanol, every, labelled, some

KCAL, GPA = factor("kcal/mol"), factor("GPa")
TURN = Rotation.from_rotvec([0.7, 0.2, -0.4]).as_matrix()


def scaled(**factors: float) -> Callable:
    """Labels times a number."""
    return every(lambda s: labelled(s, **{k: (lambda v, f=f: v * f) for k, f in factors.items()}))


def stretched(length: float) -> Callable:
    """Positions and cell in another unit of length."""
    cell = lambda s: None if s.cell is None else s.cell * length
    return every(lambda s: s.replace(positions=s.positions * length, cell=cell(s)))


def shuffled(name: str) -> Callable:
    """A label of other structures."""

    def change(structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
        order = np.random.default_rng(1).permutation(len(structures))
        given = [getattr(structures[i].properties, name) for i in order]
        pairs = zip(structures, given, strict=True)
        return tuple(labelled(s, **{name: value}) for s, value in pairs)

    return change


def pushed(s: Structure) -> Structure:
    """One hydrogen at its neighbour."""
    x = s.positions.copy()
    x[4] = x[1] + 0.2 * (x[4] - x[1])
    return s.replace(positions=x)


def lost(s: Structure) -> Structure:
    """One hydrogen far away."""
    x = s.positions.copy()
    x[4] = x[1] + 20 * (x[4] - x[1])
    return s.replace(positions=x)


def repeated(structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
    """Five frames again, turned and renumbered."""
    order = np.array([1, 0, 2, 8, 7, 6, 5, 4, 3])
    again = [
        s.replace(positions=(s.positions @ TURN + 3.0)[order], species=s.species[order])
        for s in structures[:5]
    ]
    copies = [
        labelled(new, forces=(s.properties.forces @ TURN)[order])
        for new, s in zip(again, structures, strict=False)
    ]
    return (*structures, *copies)


def box(s: Structure) -> Structure:
    return s.replace(pbc=(False, False, False), properties=s.properties._replace(stress=None))


def virial(sign: int) -> Callable:
    return every(lambda s: labelled(s, stress=sign * s.volume * s.properties.stress))


def float32(v):
    return np.float64(np.float32(v - 4e5))


# fmt: off
MOLECULES: dict[str, tuple[Callable, str, str]] = {  # what is done to train, kind, severity
    "forces in Ha/Bohr": (scaled(forces=BOHR / HARTREE), "force unit", "error"),
    "forces in kcal/mol/Å": (scaled(forces=1 / KCAL), "force unit", "error"),
    "forces in kJ/mol/nm": (scaled(forces=1 / factor("kJ/mol/nm")), "force unit", "error"),
    "forces in meV/Å": (scaled(forces=1e3), "force unit", "error"),
    "forces in eV/Bohr": (scaled(forces=BOHR), "force unit", "error"),
    "gradients": (scaled(forces=-1.0), "force sign", "error"),
    "gradients in Ha/Bohr": (scaled(forces=-BOHR / HARTREE), "force unit", "error"),
    "energies in Ha": (scaled(energy=1 / HARTREE), "energy unit", "error"),
    "energies in kcal/mol": (scaled(energy=1 / KCAL), "energy unit", "error"),
    "energies in Ha, forces in Ha/Bohr":
        (scaled(energy=1 / HARTREE, forces=BOHR / HARTREE), "energy and force unit", "error"),
    "both in kcal/mol":
        (scaled(energy=1 / KCAL, forces=1 / KCAL), "energy and force unit", "error"),
    "positions in Bohr": (stretched(1 / BOHR), "length unit", "error"),
    "positions converted twice": (stretched(BOHR), "length unit", "error"),
    "positions in nm": (stretched(0.1), "length unit", "error"),
    "energies of other frames": (shuffled("energy"), "energy and forces disagree", "error"),
    "forces of other orientation":
        (every(lambda s: labelled(s, forces=lambda f: f @ TURN)), "net torque", "error"),
    "forces of other order":
        (every(lambda s: labelled(s, forces=lambda f: f[::-1])), "net torque", "error"),
    "fixed atoms": (every(lambda s: labelled(s, forces=lambda f: f * (s.species > 1)[:, None])),
        "net force", "error"),
    "zero energies": (some(lambda s: labelled(s, energy=0.0)), "placeholder zeros", "error"),
    "zero forces": (some(lambda s: labelled(s, forces=lambda f: 0 * f)),
        "placeholder zeros", "error"),
    "no forces in some": (some(lambda s: labelled(s, forces=None)), "partial labels", "warning"),
    "one energy": (every(lambda s: labelled(s, energy=-4209.5)), "constant label", "error"),
    "energies in float32": (every(lambda s: labelled(s, energy=float32)),
        "float32 energies", "warning"),
    "few digits": (every(lambda s: labelled(s, energy=lambda e: np.round(e, 1))),
        "rounded energies", "warning"),
    "atoms at one place": (some(pushed), "close atoms", "error"),
    "an atom has left": (some(lost), "exploded structures", "error"),
    "forces that exploded": (some(lambda s: labelled(s, forces=lambda f: f * 500), 80),
        "outlier forces", "error"),
    "energies that did not converge": (some(lambda s: labelled(s, energy=lambda e: e + 9), 80),
        "outlier energies", "warning"),
    "two levels in neighbours": (some(lambda s: labelled(s, energy=lambda e: e - 13.2), 2),
        "two levels", "error"),
    "copies, turned and renumbered": (repeated, "duplicates", "warning"),
    "no labels": (every(lambda s: labelled(s, energy=None, forces=None)), "no labels", "error"),
}
CRYSTALS: dict[str, tuple[Callable, str, str]] = {
    "stress in GPa": (scaled(stress=1 / GPA), "stress unit", "error"),
    "stress in kbar": (scaled(stress=10 / GPA), "stress unit", "error"),
    "stress of other sign": (scaled(stress=-1.0), "stress sign", "error"),
    "pressure in kbar": (scaled(stress=-10 / GPA), "stress unit", "error"),
    "virial": (virial(-1), "stress is a virial", "error"),
    "virial of other sign": (virial(1), "stress is a virial", "error"),
    "stress with an offset": (every(lambda s: labelled(s, stress=lambda v: v + 0.02 * np.eye(3))),
        "stress offset", "error"),
    "forces in Ha/Bohr": (scaled(forces=BOHR / HARTREE), "force unit", "error"),
    "gradients": (scaled(forces=-1.0), "force sign", "error"),
    "zero stress": (some(lambda s: labelled(s, stress=np.zeros((3, 3)))),
        "placeholder zeros", "error"),
    "cell without pbc": (every(box), "pbc missing", "error"),
    "cell converted twice": (every(lambda s: s.replace(cell=np.asarray(s.cell) * BOHR)),
        "length unit", "error"),
    "left-handed": (every(lambda s: s.replace(cell=np.asarray(s.cell)[[1, 0, 2]])),
        "left-handed cell", "note"),
    "all in Bohr": (stretched(1 / BOHR), "length unit", "error"),
}
# fmt: on


def check_found(found: Findings, kind: str, severity: str) -> None:
    """Found under its name, and no error beside it but that isolated atoms do not fit."""
    assert kind in found.kinds(severity), found
    assert {*found.kinds("error")} - {kind, "isolated atoms"} == set(), found


@pytest.mark.parametrize("name", MOLECULES)
def test_a_fault_of_molecules_is_found(name):
    plant, kind, severity = MOLECULES[name]
    data = ethanol()
    found = check_data(plant(data.train), E0s=data.card["E0s"])
    check_found(found, kind, severity)


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_fault_of_crystals_is_found(name):
    plant, kind, severity = CRYSTALS[name]
    found = check_data(plant(crystals()))
    check_found(found, kind, severity)


def test_clean_molecules_have_no_error_and_no_warning():
    data = ethanol()
    found = check_data(data.train, data.valid, data.test, E0s=data.card["E0s"])
    assert found.kinds() == ("E0s not determined",) and found.passed
    assert found.found[0].severity == "note"  # one formula; the isolated atoms are there


def test_clean_crystals_have_no_error():
    found = check_data(crystals()[:40], crystals()[40:])
    assert found.passed and found.kinds("warning") == ("E0s not determined",)


def test_the_unit_and_what_to_write_are_named():
    data = ethanol()
    (one,) = check_data(scaled(forces=BOHR / HARTREE)(data.train), E0s=data.card["E0s"]).found[:1]
    assert "units={'forces': 'Ha/Bohr'}" in one.fix and "pairs of near structures" in one.text
    (one,) = check_data(scaled(stress=10 / GPA)(crystals())).found[:1]
    assert "units={'stress': 'kbar'}" in one.fix


def test_frames_in_two_splits_are_named():
    data = ethanol()
    found = check_data(data.train, (*data.valid, *repeated(data.train)[-5:]))
    (leak,) = [f for f in found.found if f.kind == "leak"]
    assert leak.severity == "error" and leak.structures == tuple(
        f"valid {i}" for i in range(40, 45)
    )


def test_neighbouring_frames_in_two_splits_are_named():
    data = ethanol()
    rng = np.random.default_rng(0)
    near = [s.replace(positions=s.positions + rng.normal(0, 2e-3, (9, 3))) for s in data.train[:4]]
    assert "near leak" in check_data(data.train, near).kinds("warning")


def test_copies_with_another_energy_contradict():
    data = ethanol()
    other = [labelled(s, energy=lambda e: e + 1.0) for s in data.train[:3]]
    assert "contradicting labels" in check_data((*data.train, *other)).kinds("error")


@pytest.mark.parametrize(
    "change",
    [lambda e: e / HARTREE, lambda e: 0 * e, lambda e: e / 10],
    ids=["Ha", "zero", "pseudopotential"],
)
def test_isolated_atoms_that_do_not_fit_are_found(change):
    data = ethanol()
    E0s = {z: change(e) for z, e in data.card["E0s"].items()}
    assert "isolated atoms" in check_data(data.train[:50], E0s=E0s).kinds("error")


def test_isolated_atoms_of_relative_energies_do_not_fit():
    """Energies against the atoms, and the atoms' total energies."""
    data = ethanol()
    free = sum(data.card["E0s"][int(z)] for z in data.train[0].species)
    bound = every(lambda s: labelled(s, energy=lambda e: e - free))(data.train)
    found = check_data(bound, E0s=data.card["E0s"])
    (one,) = [f for f in found.found if f.kind == "isolated atoms"]
    assert one.severity == "error" and "already against the atoms" in one.fix
