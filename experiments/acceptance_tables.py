"""The table of `acceptance.py`: each figure of each network, in both precisions."""

from typing import Any

from results import markdown, result

WHAT = {
    "A1": "energy, structure turned or mirrored",
    "A2": "forces and stress, structure turned or mirrored",
    "A4": "atoms and edges in another order",
    "A5": "all positions moved by 1e4 Å",
    "A6": "other images, supercells",
    "A7": "the same again",
    "A7, processes": "the same in another process, and with two threads",
    "A8": "other padding",
    "A9": "batch against single structures",
    "A10": "forces against differences of the energy",
    "A11": "stress against strained cells",
    "A12": "sum of forces, torque",
    "A13": "jump at the cutoff",
    "A14": "isolated atom, separated dimer",
    "A15": "separated fragments",
    "A16": "drift in 10 ps of constant energy [meV/atom/ps]",
    "A17": "fluctuation, 4 fs over 2 fs (4 expected)",
    "A18": "1000 steps there and back [Å]",
    "A19": "kinetic energies of a thermostat [σ]",
    "A20": "exported file against the model",
    "A21": "200 steps in every engine against ASE",
    "A23": "phonopy's force constants against the Hessian",
    "A26": "neighbour lists of 500 cells that differ",
    "A27": "programs compiled in 1000 steps of ASE",
    "A28": "curvature in degenerate geometries, not finite",
}


def cell(figures: dict[str, Any]) -> str:
    """Values in float64 and float32, each with its limit where it does not keep that."""
    shown = []
    for dtype in ("float64", "float32"):
        if dtype in figures:
            one = figures[dtype]
            beyond = "" if one["passed"] else f" (limit {one['limit']:.2g})"
            shown.append(f"{one['value']:.2g}{beyond}")
    return ", ".join(shown)


def acceptance() -> str:
    """One row for each figure; networks side by side."""
    networks = (result("acceptance") or {"networks": {}})["networks"]
    rows = []
    for name, what in WHAT.items():
        cells = [cell(figures.get(name, {})) for figures in networks.values()]
        if any(cells):
            first = next(f[name] for f in networks.values() if name in f)
            limits = ", ".join(f"{one['limit']:.2g}" for one in first.values())
            rows.append([name.split(",")[0], what, limits, *cells])
    return markdown(["", "figure, in float64 and float32", "limits", *networks], rows)
