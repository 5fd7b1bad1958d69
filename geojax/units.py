"""The units of geojax: eV, Å, e, amu, fs and what follows from them (eV/Å, eV/Å³).

Other units exist only at the edges, where files are read and calculators are called. A factor is
looked up by the name that the file or the user states; no unit is ever guessed from the numbers.
Values: CODATA 2018, the same as `ase.units.create_units("2018")`.
"""

import math
from typing import TypeVar

from geojax.registry import did_you_mean

__all__ = [
    "BOHR",
    "BOLTZMANN",
    "ENERGY",
    "FEMTOSECOND",
    "HARTREE",
    "LENGTH",
    "PRESSURE",
    "QUANTUM",
    "WAVENUMBER",
    "convert",
    "factor",
]

T = TypeVar("T")

HARTREE = 27.211386245988  # [eV]
BOHR = 0.529177210903  # [Å]
ELEMENTARY_CHARGE = 1.602176634e-19  # [C], exact
AVOGADRO = 6.02214076e23  # [1/mol], exact
KCAL_PER_MOL = 4184 / ELEMENTARY_CHARGE / AVOGADRO  # [eV]
PLANCK = 6.62607015e-34  # [J s], exact
LIGHT = 299792458.0  # [m/s], exact
ATOMIC_MASS = 1.66053906660e-27  # [kg]

# The frequency of a mode is the square root of its eigenvalue [eV/Å²/amu] times
_ANGULAR = (ELEMENTARY_CHARGE / ATOMIC_MASS) ** 0.5 * 1e10  # [rad/s]
WAVENUMBER = _ANGULAR / (2 * math.pi * LIGHT * 100)  # [cm⁻¹], 521.47
QUANTUM = PLANCK * _ANGULAR / (2 * math.pi) / ELEMENTARY_CHARGE  # [eV], of one quantum: 0.064654

# What integrators in eV, Å and amu need: their unit of time is Å (amu/eV)^½, about 10.18 fs
FEMTOSECOND = _ANGULAR * 1e-15  # in that unit: 0.098227
BOLTZMANN = 1.380649e-23 / ELEMENTARY_CHARGE  # [eV/K]

ENERGY = {  # in eV
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": HARTREE,
    "Ry": HARTREE / 2,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KCAL_PER_MOL / 4.184,
    "J": 1 / ELEMENTARY_CHARGE,
}
LENGTH = {  # in Å
    "Å": 1.0,
    "nm": 10.0,
    "pm": 0.01,
    "Bohr": BOHR,
    "m": 1e10,
}
PRESSURE = {  # in eV/Å³, beside energy/length³
    "GPa": 1e-21 / ELEMENTARY_CHARGE,
    "kbar": 1e-22 / ELEMENTARY_CHARGE,
    "bar": 1e-25 / ELEMENTARY_CHARGE,
    "Pa": 1e-30 / ELEMENTARY_CHARGE,
}
# Other spellings, each of one name above. The last is the Ångström sign, a letter of its own.
SPELLINGS = {
    "Hartree": "Ha",
    "hartree": "Ha",
    "Rydberg": "Ry",
    "bohr": "Bohr",
    "Angstrom": "Å",
    "angstrom": "Å",
    "Ang": "Å",
    "A": "Å",
    "\N{ANGSTROM SIGN}": "Å",
}


def factor(unit: str) -> float:
    """How many of geojax's own unit one `unit` is: `factor("kcal/mol")` is 0.0434 (eV).

    Known are energies, lengths, pressures, and an energy by a length or a power of it: "Ha/Bohr",
    "kcal/mol/Å", "eV/Å³" (or "eV/A^3").

    Raises:
        KeyError: the unit is not known.
    """
    return _measure(unit)[1]


def convert(value: T, source: str, target: str) -> T:
    """`value` given in `source`, expressed in `target`; both of one dimension.

    Raises:
        KeyError: a unit is not known.
        ValueError: the units measure different things.
    """
    (dimension, one), (wanted, other) = _measure(source), _measure(target)
    if dimension != wanted:
        raise ValueError(
            f"only units of one dimension convert; got {source!r} ({dimension}) "
            f"and {target!r} ({wanted}); name a unit of {wanted}"
        )
    return value * (one / other)  # pyright: ignore[reportOperatorIssue]


def _measure(unit: str) -> tuple[str, float]:
    """What the unit measures, and how many of geojax's own it is."""
    name = SPELLINGS.get(unit, unit)
    for dimension, table in (("energy", ENERGY), ("length", LENGTH), ("pressure", PRESSURE)):
        if name in table:
            return dimension, table[name]
    energy, _, length = unit.rpartition("/")
    energy, (length, power) = SPELLINGS.get(energy, energy), _power(length)
    if energy in ENERGY and length in LENGTH:
        dimension = {1: "force", 2: "energy/length²", 3: "pressure"}[power]
        return dimension, ENERGY[energy] / LENGTH[length] ** power
    raise KeyError(
        f"units are stated by a known name; got {unit!r}; "
        f"{did_you_mean(unit, [*ENERGY, *LENGTH, *PRESSURE])}; and an energy by a length, "
        "its square or its cube, as in eV/Å³"
    )


def _power(length: str) -> tuple[str, int]:
    """A length without its exponent, and the exponent: "Å³" and "A^3" are ("Å", 3)."""
    for power, marks in ((2, ("²", "^2", "**2")), (3, ("³", "^3", "**3"))):
        for mark in marks:
            if length.endswith(mark):
                base = length.removesuffix(mark)
                return SPELLINGS.get(base, base), power
    return SPELLINGS.get(length, length), 1
