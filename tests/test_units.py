"""Conversion factors against ase.units and scipy.constants, spellings, and what is refused."""

import ase.units
import numpy as np
import pytest
import scipy.constants
from scipy.constants import physical_constants

from geojax.units import (
    BOHR,
    BOLTZMANN,
    ENERGY,
    FEMTOSECOND,
    HARTREE,
    LENGTH,
    PRESSURE,
    QUANTUM,
    SPELLINGS,
    WAVENUMBER,
    convert,
    factor,
)

CODATA = ase.units.create_units("2018")
OF_ASE = {
    "eV": 1.0,
    "Ha": CODATA["Hartree"],
    "Ry": CODATA["Rydberg"],
    "kcal/mol": CODATA["kcal"] / CODATA["mol"],
    "kJ/mol": CODATA["kJ"] / CODATA["mol"],
    "J": CODATA["J"],
    "Å": CODATA["Angstrom"],
    "nm": CODATA["nm"],
    "Bohr": CODATA["Bohr"],
    "m": CODATA["m"],
    "GPa": CODATA["GPa"],
    "bar": CODATA["bar"],
    "Pa": CODATA["Pascal"],
    "Ha/Bohr": CODATA["Hartree"] / CODATA["Bohr"],
    "kcal/mol/Å": CODATA["kcal"] / CODATA["mol"],
    "Ha/Bohr²": CODATA["Hartree"] / CODATA["Bohr"] ** 2,
    "Ry/Bohr^3": CODATA["Rydberg"] / CODATA["Bohr"] ** 3,
    "eV/nm**3": 1e-3,
}


def test_vibrations_are_counted_as_ase_counts_them():
    """A force constant of 1 eV/Å² and a mass of 1 amu."""
    quantum = CODATA["_hbar"] * CODATA["J"] * 1e10 / np.sqrt(CODATA["_amu"] * CODATA["J"])
    assert pytest.approx(quantum, rel=1e-9) == QUANTUM
    assert pytest.approx(quantum / CODATA["invcm"], rel=1e-9) == WAVENUMBER


@pytest.mark.parametrize("unit", OF_ASE)
def test_factors_are_those_of_ase(unit):
    assert factor(unit) == pytest.approx(OF_ASE[unit], rel=1e-9)


def test_constants_are_those_of_scipy():
    """Whose tables are of 2018 or 2022, which differ in the tenth digit."""
    hartree = physical_constants["Hartree energy in eV"][0]
    bohr = physical_constants["Bohr radius"][0] * 1e10
    assert HARTREE == pytest.approx(hartree, rel=1e-9)
    assert BOHR == pytest.approx(bohr, rel=1e-9)
    assert factor("J") == pytest.approx(1 / scipy.constants.e, rel=1e-15)
    calorie = scipy.constants.calorie * 1000 / scipy.constants.N_A / scipy.constants.e
    assert factor("kcal/mol") == pytest.approx(calorie, rel=1e-15)


def test_prefixes_are_powers_of_ten():
    assert factor("meV") == 1e-3 * factor("eV")
    assert factor("m") == pytest.approx(1e12 * factor("pm")) == pytest.approx(1e9 * factor("nm"))
    assert factor("GPa") == pytest.approx(1e9 * factor("Pa")) == pytest.approx(10 * factor("kbar"))
    assert factor("kbar") == pytest.approx(1000 * factor("bar"))
    assert factor("kcal/mol") == pytest.approx(4.184 * factor("kJ/mol"))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_means_one_unit(spelling):
    assert factor(spelling) == factor(SPELLINGS[spelling])
    if SPELLINGS[spelling] in LENGTH:
        wanted = factor("eV") / factor(SPELLINGS[spelling]) ** 2
        for power in ("²", "^2", "**2"):
            assert factor(f"eV/{spelling}{power}") == pytest.approx(wanted, rel=1e-15)
    else:
        assert factor(f"{spelling}/Å") == factor(f"{SPELLINGS[spelling]}/Å")


@pytest.mark.parametrize("table", [ENERGY, LENGTH, PRESSURE], ids=["energy", "length", "pressure"])
def test_there_and_back_again(table):
    for source in table:
        for target in table:
            assert convert(convert(1.75, source, target), target, source) == pytest.approx(1.75)
        assert convert(1.75, source, source) == 1.75


def test_pressures_convert_between_both_forms():
    assert convert(1.0, "eV/Å³", "GPa") == pytest.approx(1 / CODATA["GPa"])
    joule, metre = (physical_constants[n][0] for n in ("Hartree energy", "Bohr radius"))
    assert convert(1.0, "Ha/Bohr³", "Pa") == pytest.approx(joule / metre**3, rel=1e-8)


def test_arrays_keep_their_dtype():
    single = np.ones((2, 3), np.float32)
    found = convert(single, "Ha/Bohr", "eV/Å")
    assert found.dtype == np.float32 and found.shape == (2, 3)
    np.testing.assert_allclose(found, 51.422067, rtol=1e-7)


@pytest.mark.parametrize(
    ("source", "target"),
    [("eV", "Å"), ("Ha", "Ha/Bohr"), ("eV/Å", "eV/Å²"), ("GPa", "eV/Å"), ("Bohr", "eV/Å³")],
)
def test_only_one_dimension_converts(source, target):
    with pytest.raises(ValueError, match="units of one dimension convert; got") as error:
        convert(1.0, source, target)
    assert repr(source) in str(error.value) and repr(target) in str(error.value)


@pytest.mark.parametrize("unit", ["", "ev", "eV/", "/Å", "eV/Å⁴", "Å/eV", "eV/eV", "eV/atom", "K"])
def test_units_that_are_not_known_are_refused(unit):
    with pytest.raises(KeyError, match="units are stated by a known name; got"):
        factor(unit)


def test_a_misspelt_unit_gets_a_suggestion():
    with pytest.raises(KeyError, match="did you mean 'kcal/mol'"):
        factor("kcal/mole")


def test_time_and_temperature_of_integrators():
    """The unit of time that makes kinetic energies eV, and k_B, against ASE and scipy."""
    assert FEMTOSECOND == pytest.approx(CODATA["fs"], rel=1e-12)
    assert BOLTZMANN == pytest.approx(CODATA["kB"], rel=1e-12)
    kinetic = scipy.constants.atomic_mass * (1e-10 / (1e-15 / FEMTOSECOND)) ** 2
    assert kinetic / scipy.constants.e == pytest.approx(1, rel=1e-8)
