"""Do trained potentials keep the acceptance figures, from symmetry to dynamics in every engine?

Each network is trained on silicon (`acceptance/networks.toml`) and measured in both precisions:

    A1-A15, A28  its certificate
    A7           the same bits in another process, and with two threads
    A16          216 atoms, 300 K, 0.5 fs: drift of the energy in a run of constant energy
    A17          its fluctuation with 4 fs against 2 fs
    A18          1000 steps there and back again
    A19          the kinetic energy of a Langevin run against its distribution (Kolmogorov-Smirnov)
    A20          an exported file against the model
    A21          200 steps through jax-md, OpenMM, LAMMPS and i-PI against ASE
    A23          phonopy's force constants against the Hessian of the supercell
    A26          neighbour lists against all images of all pairs, for random cells
    A27          programs compiled, and memory gained, in 1000 steps of ASE

A3, A22, A24 and A25 belong to no network: the tests of `so3`, `simulation.lammps`, `training` have
them, and those of `lammps/` compare the pair style.

run:     python experiments/acceptance.py [--networks egnn ...] [--figures A16 ...]
time:    an hour for each network on one CPU core, most of it for A16; a run that was stopped goes
         on, and what is there is measured again only if it is named
expect:  all passed, but for an isolated atom in TensorNet, which has an energy of its own
reached: results/acceptance.json
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from engines import ENGINES, KELVIN, SEED, by_ase, crystal, dynamics
from results import FOLDER, write
from rich.console import Console

import geojax  # before jax, whose messages it sets
from geojax import config, zoo
from geojax.checks import certify
from geojax.datasets import from_ase
from geojax.graphs import neighbor_list
from geojax.inference import Predictor
from geojax.simulation import jax_md_potential, run_jax_md
from geojax.training.plan import Compilations
from geojax.units import BOLTZMANN, FEMTOSECOND

HERE = Path(__file__).parent
DTYPES = ("float64", "float32")
Figure = dict[str, Any]  # value, limit, what it is


def figure(value: float, limit: float, detail: str, low: float = 0.0) -> Figure:
    return {
        "value": float(value),
        "limit": limit,
        "passed": bool(low <= value <= limit),
        "detail": detail,
    } | ({"low": low} if low else {})


def total_energies(model: Any, atoms: Atoms, frames: Any) -> np.ndarray:
    """[eV per atom] of frames, by the predictor."""
    start, masses = from_ase(atoms, labels=False), atoms.get_masses()[:, None]
    structures = [start.replace(positions=np.asarray(x)) for x in frames[0]]
    potential = [float(p.energy) for p in Predictor(model)(structures, ("energy",))]
    kinetic = (np.asarray(frames[1], np.float64) ** 2 / (2 * masses)).sum((1, 2))
    return (np.array(potential) + kinetic) / len(atoms)


def a7(model: Any, dtype: str, options: Any) -> Figure:
    del options
    with tempfile.TemporaryDirectory() as folder:
        zoo.save(model, folder)
        command = [sys.executable, str(HERE / "acceptance.py"), "--bits", folder]
        bits = {
            subprocess.run(
                command,
                env=os.environ | {"NPROC": threads, "OMP_NUM_THREADS": threads},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for threads in ("1", "1", "2")
        }
    return figure(len(bits) - 1, 0, "other results of three processes, one with two threads")


def bits_of(folder: str) -> str:
    """A hash of the bits of energy and forces, by a process of its own."""
    structure = from_ase(crystal(2), labels=False)
    found = Predictor(geojax.load(folder))([structure])[0]
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in found[:2])).hexdigest()


def a16(model: Any, dtype: str, options: Any) -> Figure:
    steps = round(2000 * options.picoseconds)
    atoms = crystal(3)
    energies = total_energies(model, atoms, dynamics(model, atoms, 0.5, steps, 20))
    time = 0.01 * np.arange(1, len(energies) + 1)  # [ps]
    drift = abs(np.polyfit(time, 1e3 * energies, 1)[0])
    limit = 0.01 if dtype == "float64" else 0.05
    return figure(drift, limit, f"meV per atom and ps, in {options.picoseconds:g} ps")


def a17(model: Any, dtype: str, options: Any) -> Figure:
    del options
    spread = []
    for dt in (4.0, 2.0):
        atoms, steps = crystal(2), round(1000 / dt)
        frames = dynamics(model, atoms, dt, steps, round(4 / dt))
        spread.append(total_energies(model, atoms, frames).std())
    wide = {"float64": 0.4, "float32": 1.0}[dtype]
    return figure(spread[0] / spread[1], 4 + wide, "fluctuation with 4 fs over 2 fs", 4 - wide)


def a18(model: Any, dtype: str, options: Any) -> Figure | None:
    del options
    if dtype == "float32":
        return None
    atoms = crystal(2)
    start = atoms.positions.copy()
    for _ in range(2):
        frames = dynamics(model, atoms, 0.5, 1000, 1000)
        atoms.positions = frames[0][-1]
        atoms.set_momenta(-np.asarray(frames[1][-1]))
    return figure(np.abs(atoms.positions - start).max(), 1e-8, "Å, after 1000 steps and back")


def a19(model: Any, dtype: str, options: Any) -> Figure:
    """Frames far enough apart to be independent; the kinetic energy is a gamma distribution."""
    del dtype
    from jax_md import simulate
    from scipy import stats

    atoms = crystal(1)
    potential = jax_md_potential(model, atoms, skin=0.6)
    kT = KELVIN * BOLTZMANN
    init, step = simulate.nvt_langevin(
        potential.energy_fn, potential.shift_fn, dt=FEMTOSECOND, kT=kT, gamma=0.5
    )
    neighbor = potential.neighbor_fn.allocate(potential.position)
    key = jax.random.PRNGKey(options.seed)
    state = init(key, potential.position, mass=potential.mass, neighbor=neighbor)
    kinetic = lambda state: (state.momentum**2 / (2 * state.mass)).sum()
    run = run_jax_md(potential, step, state, steps=41_000, every=200, observe=kinetic)
    found = stats.kstest(run.frames[5:], stats.gamma(3 * len(atoms) / 2, scale=kT).cdf)
    return figure(
        float(stats.norm.isf(found.pvalue / 2)), 3.0, f"σ, of {len(run.frames) - 5} frames"
    )


def a20(model: Any, dtype: str, options: Any) -> Figure:
    del options
    structures = [from_ase(crystal(1, seed), labels=False) for seed in range(3)]
    for s, structure in enumerate(structures):
        moved = np.random.default_rng(s).normal(0, 0.1, structure.positions.shape)
        structures[s] = structure.replace(positions=structure.positions + moved)
    with tempfile.TemporaryDirectory() as folder:
        path = geojax.export(model, Path(folder) / "model.geojax", platforms=["cpu"])
        exported = geojax.open_artifact(path)(structures)
    worst = 0.0
    for mine, theirs in zip(Predictor(model)(structures), exported, strict=True):
        for a, b in zip(mine[:2], theirs[:2], strict=True):
            worst = max(worst, np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(a).max())
    return figure(worst, {"float64": 1e-12, "float32": 1e-5}[dtype], "relative")


def a21(model: Any, dtype: str, options: Any) -> Figure:
    """Positions after 200 steps, from the same start."""
    del options
    fs = 0.0625 / units.fs  # in Å (amu/eV)^½ a number without rounding, since jax-md's is float32
    start, end = crystal(1), by_ase(model, crystal(1), fs, 200)
    moved = np.abs(end - start.positions).max()
    ends = {name: engine(model, crystal(1), fs, 200) for name, engine in ENGINES.items()}
    worst = {}
    for name, x in ends.items():
        gap = start.cell.scaled_positions(np.asarray(x) - end)
        gap = (gap - np.round(gap)) @ start.cell.array
        worst[name] = float(np.abs(gap).max() / moved)
    limit = {"float64": 1e-10, "float32": 5e-5}[dtype]
    detail = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return figure(max(worst.values()), limit, f"of the largest way; {detail}")


def a23(model: Any, dtype: str, options: Any) -> Figure | None:
    del options
    if dtype == "float32":
        return None
    from geojax.simulation import phonons, relax

    atoms = bulk("Si", "diamond", a=5.43)
    atoms.calc = geojax.calculator(model)
    relax(atoms, cell=True, force=1e-6, steps=2000)
    found = phonons(atoms, supercell=(2, 2, 2), displacement=3e-4, mesh=(4, 4, 4))
    constants, whole = found.engine.force_constants, found.engine.supercell
    supercell = Atoms(whole.symbols, whole.positions, cell=whole.cell, pbc=True)
    hessian = Predictor(model).energy_hessian(from_ase(supercell, labels=False)).swapaxes(1, 2)
    rows = found.engine.primitive.p2s_map if len(constants) < len(whole) else range(len(whole))
    wrong = np.abs(constants - hessian[rows]).max() / np.abs(hessian).max()
    row = figure(wrong, 1e-5, f"relative; acoustic modes {found.acoustic:.1e} THz of 1e-4")
    return row | {"passed": row["passed"] and found.acoustic < 1e-4}


def a26(model: Any, dtype: str, options: Any) -> Figure | None:
    del model
    if dtype == "float32":
        return None
    rng, wrong = np.random.default_rng(options.seed), 0
    for _ in range(500):
        cell = rng.normal(size=(3, 3)) * rng.uniform(1.0, 4.0)
        if abs(np.linalg.det(cell)) < 1.0:
            cell += 2 * np.eye(3)
        a, b, c = (bool(p) for p in rng.integers(2, size=3))
        pbc = (a, b, c)
        x = rng.uniform(-1, 2, (int(rng.integers(1, 6)), 3)) @ cell
        structure = geojax.Structure(x, np.full(len(x), 14), cell, pbc)
        found = neighbor_list(structure, 3.0)
        mine = sorted(map(tuple, np.column_stack([found.senders, found.receivers, found.shifts])))
        wrong += mine != all_images(x, cell, pbc, 3.0)
    return figure(wrong, 0, "lists of 500 that differ")


def all_images(
    x: np.ndarray, cell: np.ndarray, pbc: Sequence[bool], cutoff: float
) -> list[tuple[int, ...]]:
    """Every edge, from as many images as can matter."""
    spread = np.ptp(x @ np.linalg.inv(cell), axis=0) if len(x) > 1 else np.zeros(3)
    most = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0) + spread).astype(int)
    ranges = [range(-n, n + 1) if p else range(1) for n, p in zip(most, pbc, strict=True)]
    shifts = np.array(np.meshgrid(*ranges, indexing="ij")).reshape(3, -1).T
    difference = x[None, :, None] - x[:, None, None] + shifts @ cell  # sender, receiver, shift
    near = np.linalg.norm(difference, axis=-1) <= cutoff
    near &= ~((np.eye(len(x), dtype=bool)[:, :, None]) & ~shifts.any(1))
    s, r, k = np.nonzero(near)
    return sorted(map(tuple, np.column_stack([s, r, shifts[k]])))


def a27(model: Any, dtype: str, options: Any) -> Figure:
    del dtype, options
    atoms = crystal(2)
    atoms.calc = geojax.calculator(model)
    memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with Compilations() as seen:
        dyn = VelocityVerlet(atoms, units.fs, logfile=None)
        dyn.run(100)
        before = memory()
        dyn.run(900)
    grown = memory() - before
    found = figure(seen.count, 3, f"programs; {grown:.0f} MB more after the first 100 steps")
    return found | {"passed": found["passed"] and grown < 50}


FIGURES: dict[str, Callable[[Any, str, Any], Figure | None]] = {
    **{"A7": a7, "A16": a16, "A17": a17, "A18": a18, "A19": a19, "A20": a20, "A21": a21},
    **{"A23": a23, "A26": a26, "A27": a27},
}


def trained(name: str, table: dict[str, Any], epochs: int | None) -> Any:
    """The potential of a network, trained once."""
    tables = {key: table[key] for key in ("data", "loss", "optimizer", "train")}
    tables["train"] = tables["train"] | ({"epochs": epochs} if epochs else {})
    tables |= {"name": f"acceptance-{name}", "network": table["networks"][name]}
    study = config.from_tables(tables)
    folder = Path("runs") / study.name
    model, _ = config.run(study, folder, Console(stderr=True))
    return model


def of_certificate(model: Any) -> dict[str, dict[str, Figure]]:
    """The largest share of its limit of each figure, in both precisions."""
    found: dict[str, dict[str, Figure]] = {}
    for m in certify(model).measurements:
        row = found.setdefault(m.figure, {})
        mine = figure(m.value, m.limit, f"{m.name}, {m.unit}")
        share = lambda f: (not f["passed"], f["value"] / f["limit"] if f["limit"] else 0.0)
        if m.dtype not in row or share(mine) > share(row[m.dtype]):
            row[m.dtype] = mine
    return found


def main() -> None:
    table = tomllib.loads((HERE / "acceptance" / "networks.toml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=table["networks"])
    parser.add_argument("--figures", nargs="+", choices=["certificate", *FIGURES])
    parser.add_argument("--picoseconds", type=float, default=10.0, help="of A16")
    parser.add_argument("--epochs", type=int, help="in place of those of the file")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--bits", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bits:
        print(bits_of(options.bits))
        return
    path = FOLDER / "acceptance.json"
    found = json.loads(path.read_text())["networks"] if path.exists() else {}
    for name in options.networks or table["networks"]:
        model = trained(name, table, options.epochs)
        rows = found.setdefault(name, {})
        wanted = options.figures or ["certificate", *FIGURES]
        keep = partial(write, "acceptance", {"networks": found}, "python experiments/acceptance.py")
        if "certificate" in wanted and (options.figures or "A1" not in rows):
            for key, row in of_certificate(model).items():
                rows.setdefault(key, {}).update(row)
            keep()
        for key in [key for key in FIGURES if key in wanted]:
            place = key if key != "A7" else "A7, processes"
            done = () if options.figures else rows.get(place, ())
            for dtype in [dtype for dtype in DTYPES if dtype not in done]:
                with jax.enable_x64(True):
                    value = FIGURES[key](model.replace_card(dtype=dtype), dtype, options)
                if value is not None:
                    rows.setdefault(place, {})[dtype] = value
                    print(name, key, dtype, json.dumps(value), flush=True)
                    keep()


if __name__ == "__main__":
    main()
