"""The units of geojax: eV, Å, e, amu, fs and what follows from them (eV/Å, eV/Å³).

Other units exist only at the edges, where files are read and calculators are called. A factor is
looked up by the name that the file or the user states; no unit is ever guessed from the numbers.
Values: CODATA 2018, the same as `ase.units.create_units("2018")`.
"""

from geojax.registry import did_you_mean

__all__ = ["ENERGY", "LENGTH", "PRESSURE", "convert", "factor"]

HARTREE = 27.211386245988
BOHR = 0.529177210903
ELEMENTARY_CHARGE = 1.602176634e-19  # [C]
AVOGADRO = 6.02214076e23
KCAL_PER_MOL = 4184 / ELEMENTARY_CHARGE / AVOGADRO

ENERGY = {  # in eV
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": HARTREE,
    "Hartree": HARTREE,
    "Ry": HARTREE / 2,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KCAL_PER_MOL / 4.184,
    "J": 1 / ELEMENTARY_CHARGE,
}
LENGTH = {  # in Å
    "Å": 1.0,
    "Angstrom": 1.0,
    "A": 1.0,
    "nm": 10.0,
    "pm": 0.01,
    "Bohr": BOHR,
    "bohr": BOHR,
    "m": 1e10,
}
PRESSURE = {  # in eV/Å³
    "eV/Å³": 1.0,
    "eV/A^3": 1.0,
    "GPa": 1e-21 / ELEMENTARY_CHARGE,
    "kbar": 1e-22 / ELEMENTARY_CHARGE,
    "bar": 1e-25 / ELEMENTARY_CHARGE,
    "Pa": 1e-30 / ELEMENTARY_CHARGE,
}


def factor(unit: str) -> float:
    """How many of geojax's own unit one `unit` is: `factor("kcal/mol")` is 0.0434 (eV).

    Energies, lengths, pressures and quotients of an energy and a length, such as "Ha/Bohr".

    Raises:
        KeyError: the unit is not known.
    """
    for table in (ENERGY, LENGTH, PRESSURE):
        if unit in table:
            return table[unit]
    numerator, slash, denominator = unit.rpartition("/")
    if slash and numerator in ENERGY and denominator in LENGTH:
        return ENERGY[numerator] / LENGTH[denominator]
    raise KeyError(
        f"units are stated by a known name; got {unit!r}; "
        f"{did_you_mean(unit, [*ENERGY, *LENGTH, *PRESSURE])}, and energy/length"
    )


def convert(value, source: str, target: str):
    """`value` given in `source`, expressed in `target`; both of one dimension.

    Raises:
        KeyError: a unit is not known.
        ValueError: the units measure different things.
    """
    if _dimension(source) != _dimension(target):
        raise ValueError(
            f"only units of one dimension convert; got {source!r} ({_dimension(source)}) "
            f"and {target!r} ({_dimension(target)})"
        )
    return value * (factor(source) / factor(target))


def _dimension(unit: str) -> str:
    factor(unit)
    tables = {"energy": ENERGY, "length": LENGTH, "pressure": PRESSURE}
    return next((name for name, table in tables.items() if unit in table), "force")
