"""Chemical symbols, masses and looks by atomic number; entry 0 is a bare point."""

__all__ = ["MASSES", "SYMBOLS", "atomic_number", "colour", "covalent_radius", "symbol"]

_NAMES = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er
Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md
No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS: tuple[str, ...] = tuple(_NAMES.split())

# Standard atomic weights (IUPAC 2016), means over natural isotopes; of elements without stable ones
# the mass of the longest-lived isotope.
_WEIGHTS = """
0 1.008 4.002602 6.94 9.0121831 10.81 12.011 14.007 15.999 18.998403163 20.1797 22.98976928 24.305
26.9815385 28.085 30.973761998 32.06 35.45 39.948 39.0983 40.078 44.955908 47.867 50.9415 51.9961
54.938044 55.845 58.933194 58.6934 63.546 65.38 69.723 72.63 74.921595 78.971 79.904 83.798 85.4678
87.62 88.90584 91.224 92.90637 95.95 97.90721 101.07 102.9055 106.42 107.8682 112.414 114.818 118.71
121.76 127.6 126.90447 131.293 132.90545196 137.327 138.90547 140.116 140.90766 144.242 144.91276
150.36 151.964 157.25 158.92535 162.5 164.93033 167.259 168.93422 173.054 174.9668 178.49 180.94788
183.84 186.207 190.23 192.217 195.084 196.966569 200.592 204.38 207.2 208.9804 208.98243 209.98715
222.01758 223.01974 226.02541 227.02775 232.0377 231.03588 238.02891 237.04817 244.06421 243.06138
247.07035 247.07031 251.07959 252.083 257.09511 258.09843 259.101 262.11 267.122 268.126 271.134
270.133 269.1338 278.156 281.165 281.166 285.177 286.182 289.19 289.194 293.204 293.208 294.214
"""
MASSES: tuple[float, ...] = tuple(map(float, _WEIGHTS.split()))  # [amu]

# Covalent radius [Å] (Cordero et al. 2008) and customary colour of frequent elements
_LOOKS = """
H .31 f2f2f2 Li 1.28 cc80ff B .84 ffb5b5 C .76 444444 N .71 3050f8 O .66 e02020 F .57 50c050
Na 1.66 ab5cf2 Mg 1.41 8aff00 Al 1.21 bfa6a6 Si 1.11 f0c8a0 P 1.07 ff8000 S 1.05 e6c800
Cl 1.02 1fc01f K 2.03 8f40d4 Ca 1.76 3dff00 Ti 1.60 bfc2c7 Mn 1.39 9c7ac7 Fe 1.32 e06633
Co 1.26 f090a0 Ni 1.24 50d050 Cu 1.32 c88033 Zn 1.22 7d80b0 Ge 1.20 668f8f Br 1.20 a62929
Sr 1.95 00ff00 Zr 1.75 94e0e0 Mo 1.54 54b5b5 Ag 1.45 c0c0c0 I 1.39 940094 Ba 2.15 00c900
W 1.62 2194d6 Pt 1.36 d0d0e0 Au 1.36 ffd123 Pb 1.46 575961
""".split()
_RADII: dict[str, float] = dict(zip(_LOOKS[::3], map(float, _LOOKS[1::3]), strict=True))
_COLOURS: dict[str, str] = dict(zip(_LOOKS[::3], _LOOKS[2::3], strict=True))


def colour(number: int) -> str:
    """The colour that an element is drawn in, "#rrggbb"; grey for rare ones and points."""
    return f"#{_COLOURS.get(SYMBOLS[number], '8899aa')}"


def covalent_radius(number: int) -> float:
    """The radius [Å] that an element is drawn with; 1 Å for rare ones and points."""
    return _RADII.get(SYMBOLS[number], 1.0)


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
