"""Checks of an energy model: derivatives, balance, smoothness, separation; figures A10 to A15, A28.

Each is a function `(context) -> Measurement | None` in `CHECKS`. Finite differences are of float64
only; everything else is measured in float32 as well.
"""

from collections.abc import Callable, Sequence

import numpy as np

from geojax.checks import examples
from geojax.checks.context import CHECKS, Context, Measurement, largest
from geojax.curvature import VOIGT
from geojax.graphs import Structure
from geojax.model import references

__all__ = ["STEPS"]

STEPS = (1e-3, 1e-4, 1e-5)  # of finite differences: [Å], or strain
NEAR = 1e-7  # [Å] from the cutoff


def _sweep(
    context: Context,
    variants: Callable[[float], list[Structure]],
    want: np.ndarray,
) -> tuple[float, str]:
    """The smallest error of central differences of the energy, relative to max |want|.

    The error falls as h² until rounding takes over; two steps together, (q² D(h/q) - D(h)) /
    (q² - 1), cancel its first term, so that a sharp function is told from a wrong derivative.

    Args:
        variants: the displaced structures of one step: plus and minus by turns.
        want: the derivative of the energy along each displacement.
    """
    plan = [variants(step) for step in STEPS]
    energies = [float(v["energy"]) for v in context.predict([s for p in plan for s in p])]
    values = np.array(energies).reshape(len(STEPS), -1, 2)
    slopes = (values[..., 0] - values[..., 1]) / (2 * np.array(STEPS)[:, None])
    q2 = (STEPS[0] / STEPS[1]) ** 2
    both = (q2 * slopes[1:] - slopes[:-1]) / (q2 - 1)
    errors = [_relative(x, want) for x in (*slopes, *both)]
    if not np.isfinite(errors).all():
        return np.inf, "not a number"
    swept = ", ".join(f"{e:.0e} at {step:.0e}" for e, step in zip(errors, STEPS, strict=False))
    return min(errors), f"{swept}, extrapolated {min(errors[len(STEPS) :]):.0e}"


def _relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-12))


@CHECKS.register("forces")
def forces(context: Context) -> Measurement | None:
    """Every component of the forces against central differences of the energy."""
    if not context.has_energy or not context.double:
        return None
    found = []
    for name, s in context.generated.items():

        def variants(step: float, s: Structure = s) -> list[Structure]:
            moves = step * np.eye(3 * len(s)).reshape(-1, len(s), 3)
            moved = lambda by: s.replace(positions=s.positions + by)
            return [moved(sign * by) for by in moves for sign in (1, -1)]

        want = -context.reference[name]["forces"].ravel()
        found.append((*_sweep(context, variants, want), name))
    value, swept, name = max(found)
    return context.judge(
        "forces",
        "A10",
        value,
        (1e-8, 1e-8),
        detail=f"best of a sweep of steps [Å], worst in the {name}: {swept}",
        meaning="forces are not the gradient of the energy: a gradient is stopped, scaled or "
        "detached on the way, or the energy jumps",
    )


@CHECKS.register("stress")
def stress(context: Context) -> Measurement | None:
    """Six components of the stress against central differences under strain."""
    if not context.has_energy or not context.double or not context.local:
        return None
    found = []
    for name, s in context.generated.items():
        if not any(s.pbc):
            continue

        def variants(step: float, s: Structure = s) -> list[Structure]:
            return [_strained(s, i, j, sign * step) for i, j in VOIGT for sign in (1, -1)]

        sigma = context.reference[name]["stress"]
        want = s.volume * np.array([sigma[i, j] for i, j in VOIGT])
        lopsided = np.abs(sigma - sigma.T).max() / max(np.abs(sigma).max(), 1e-12)
        value, swept = _sweep(context, variants, want)
        found.append((max(value, lopsided), swept, name))
    value, swept, name = max(found)
    return context.judge(
        "stress",
        "A11",
        value,
        (1e-8, 1e-8),
        detail=f"best of a sweep of strains, worst in the {name}: {swept}",
        meaning="the stress is not dE/dstrain / volume: check its sign (tension is positive), that "
        "the strain acts on cell and positions, is symmetric, and the volume",
    )


@CHECKS.register("balance")
def balance(context: Context) -> Measurement | None:
    """The sum of all forces, and the torque on a molecule."""
    if not context.has_energy:
        return None
    figures = {}
    for name, s in context.examples.items():
        f = context.reference[name]["forces"]
        scale = len(s) * max(np.abs(f).max(), 1e-12)
        figures[f"sum of forces, {name}"] = largest([f.sum(0)]) / scale
        if not any(s.pbc):
            arm = s.positions - s.positions.mean(0)
            torque = largest([np.cross(arm, f).sum(0)])
            figures[f"torque, {name}"] = torque / (scale * max(np.abs(arm).max(), 1e-12))
    where = max(figures, key=lambda key: figures[key])
    return context.judge(
        "balance",
        "A12",
        largest(figures.values()),
        (1e-12, 1e-5),
        detail=f"largest: {where}",
        meaning="forces do not add up to zero, or turn an isolated molecule: the energy depends on "
        "the place or the orientation of the structure",
        unit="N max F",
    )


@CHECKS.register("cutoff")
def cutoff(context: Context) -> Measurement | None:
    """Energy, forces and their derivative on both sides of the cutoff.

    The jump is extrapolated from the inside, 2 X(rc - d) - X(rc - 2d), so that a steep but smooth
    function is told from a jump; it is relative to |X(rc / 2) - X(rc + d)|.
    """
    if not context.has_energy or not context.local or not context.double:
        return None
    rc = context.cutoff
    middle, outside, near, nearer = (
        _along_last(context, r) for r in (rc / 2, rc + NEAR, rc - 2 * NEAR, rc - NEAR)
    )
    figures = {}
    for name in middle:
        control = np.abs(middle[name] - outside[name]).max()
        jump = np.abs(2 * nearer[name] - near[name] - outside[name]).max()
        figures[name] = float(jump / control) if control > 0 else float(jump)
    return context.judge(
        "cutoff",
        "A13",
        largest(figures.values()),
        (1e-6, 1e-6),
        detail="jumps at the cutoff: " + ", ".join(f"{n} {v:.0e}" for n, v in figures.items()),
        meaning="the energy or a derivative jumps when an atom crosses the cutoff: a message is "
        "not multiplied by the envelope, the envelope is not smooth enough, or neighbours are "
        "counted",
    )


def _along_last(context: Context, distance: float) -> dict[str, np.ndarray]:
    """E, F and dF/dr of pairs and a cluster whose last atom is at this distance."""
    structures = examples.approaching(context.species, context.cutoff, distance)
    away = examples.approaching(context.species, context.cutoff, distance + 1)
    vectors = [b.positions - a.positions for a, b in zip(structures, away, strict=True)]
    probes = context.probe(structures, vectors)
    return {
        "E": np.array([p.values["energy"] for p in probes]),
        "F": np.concatenate([p.gradient for p in probes]),
        "dF/dr": np.concatenate([p.directional for p in probes]),
    }


@CHECKS.register("beyond the cutoff")
def beyond(context: Context) -> Measurement | None:
    """Forces between atoms farther apart than the cutoff, with their edge in the graph."""
    if not context.has_energy or not context.local:
        return None
    rc = context.cutoff
    pairs = [d for r in (1.0001 * rc, 1.3 * rc) for d in examples.dimers(context.species, r)]
    value = largest(v["forces"] for v in context.predict(pairs, reach=1.4 * rc))
    return context.judge(
        "beyond the cutoff",
        "A13",
        value,
        (0.0, 0.0),
        detail="largest force between two atoms past the cutoff",
        meaning="atoms past the cutoff pull at each other: the envelope is not cut to zero there",
        unit="eV/Å",
    )


@CHECKS.register("isolated atom")
def isolated(context: Context) -> Measurement | None:
    """Energies of single atoms, and of dimers at two cutoffs, against E0s; forces there."""
    if not context.has_energy or context.nearest is not None:
        return None
    structures = examples.atoms(context.species)
    if context.local:
        structures += examples.dimers(context.species, 2 * context.cutoff)
    try:
        for s in structures:
            references(context.model.card, s)
        missing = ""
    except ValueError as error:
        missing = f"; {error}"
    found = context.predict(structures)
    energy, force = (largest(v[name] for v in found) for name in ("energy", "forces"))
    return context.judge(
        "isolated atom",
        "A14",
        np.inf if missing else max(energy, force),
        (1e-12, 1e-6),
        detail=f"above E0: {energy:.1e} eV, forces {force:.1e} eV/Å{missing}",
        meaning="an atom alone does not have its E0: the readout has a bias, a shift is added to "
        "atoms without neighbours, or an element has no E0",
        unit="eV",
    )


@CHECKS.register("extensivity")
def extensivity(context: Context) -> Measurement | None:
    """The energy of two molecules 50 Å apart against the sum of their energies."""
    if not context.has_energy or not context.local:
        return None
    first, second, both = context.predict(examples.fragments(context.species, context.cutoff))
    want = float(first["energy"] + second["energy"])
    scale = float(abs(first["energy"]) + abs(second["energy"]))
    value = abs(float(both["energy"]) - want) / max(scale, 1e-12)
    return context.judge(
        "extensivity",
        "A15",
        value,
        (1e-11, 1e-5),
        detail="two molecules at least 50 Å apart",
        meaning="energies of separated molecules do not add up: energies are averaged over atoms, "
        "or something is normalised by the size of the structure",
    )


@CHECKS.register("finite")
def finite(context: Context) -> Measurement:
    """Outputs, gradients and second derivatives where angles and directions vanish."""
    reach = context.cutoff if context.local else np.inf
    cases = examples.degenerate(context.species, reach)
    rng = context.rng()
    vectors = [rng.standard_normal(s.positions.shape) for s in cases.values()]
    values = context.predict(list(cases.values()))
    probes = context.probe(list(cases.values()), vectors)
    bad: dict[str, int] = {}
    for name, value, probe in zip(cases, values, probes, strict=True):
        arrays: Sequence[np.ndarray] = [*value.values(), probe.gradient, probe.directional]
        count = sum(int((~np.isfinite(a)).sum()) for a in arrays)
        if count:
            bad[name] = count
    where = ", ".join(f"{count} in the {name}" for name, count in bad.items())
    return context.judge(
        "finite",
        "A28",
        float(sum(bad.values())),
        (0.0, 0.0),
        detail=where or f"{len(cases)} geometries with lines, planes, equal bonds, single atoms",
        meaning="an output or a derivative up to second order is not finite: a norm, angle or "
        "division without the safe forms of geojax.arrays",
        unit="numbers",
    )


def _strained(structure: Structure, i: int, j: int, strain: float) -> Structure:
    """Positions and cell times 1 + strain, with one symmetric component of the strain given.

    Off-diagonal components are halved on each side, so that dE/dstrain is V times the stress.
    """
    deformation = np.eye(3)
    deformation[i, j] += strain / 2
    deformation[j, i] += strain / 2
    assert structure.cell is not None
    return structure.replace(
        positions=structure.positions @ deformation, cell=structure.cell @ deformation
    )
