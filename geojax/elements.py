"""Chemical symbols by atomic number; entry 0 is a bare point."""

__all__ = ["SYMBOLS", "atomic_number", "symbol"]

_NAMES = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er
Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md
No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS: tuple[str, ...] = tuple(_NAMES.split())


def symbol(number: int) -> str:
    """ "C" for 6."""
    return SYMBOLS[number]


def atomic_number(name: str | int) -> int:
    """6 for "C", "6" or 6.

    Raises:
        KeyError: there is no such element.
    """
    if str(name).isdigit() and int(name) < len(SYMBOLS):
        return int(name)
    if name not in SYMBOLS:
        raise KeyError(
            f"an element is given by its symbol or atomic number; got {name!r}; write one of H to "
            f"Og, or 1 to {len(SYMBOLS) - 1}"
        )
    return SYMBOLS.index(str(name))
