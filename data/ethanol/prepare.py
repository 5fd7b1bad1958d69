"""Recipe of the ethanol data: sample with GFN2-xTB, label with PBE/def2-SVP, write extended xyz.

    python data/ethanol/prepare.py --workdir DIR --workers 2 [--steps sample label write]

Three steps, each of which resumes where a killed one stopped:

1. `sample`: Langevin dynamics with GFN2-xTB (tblite), 48 independent runs; `DIR/run-*.npz`.
2. `label`:  energy and forces with PySCF (`level.py`); a JSON line a frame, `DIR/labels-*.jsonl`.
3. `write`:  whatever is labelled becomes `train.xyz`, `valid.xyz`, `test.xyz`,
   `isolated_atoms.xyz` and `data.toml` beside this file.

Needs pyscf, tblite and ase (versions in `data.toml`); geojax reads the result without them.
Energies in eV, lengths in Å, forces in eV/Å, times in fs.

References:
    Bannwarth, Ehlert, Grimme (GFN2-xTB), J. Chem. Theory Comput. 15, 1652 (2019),
    doi:10.1021/acs.jctc.8b01176.
"""

# pyright: reportMissingImports=false
# tblite is a need of this recipe, not of geojax.

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the workers are the parallelism

import argparse
import hashlib
import json
import multiprocessing
import time
from importlib import metadata
from pathlib import Path
from typing import cast

import ase.build
import ase.io
import ase.units
import numpy as np
from ase.atoms import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.geometry import get_dihedrals, get_dihedrals_derivatives

HERE = Path(__file__).parent

UNPAIRED = {"H": 1, "C": 2, "O": 2}  # electrons, ground states

# Sampling. Run r: temperature r % 3, start (r // 3) % 2; six consecutive runs cover every pair.
TEMPERATURES = (300.0, 450.0, 600.0)  # [K]
STARTS = ("trans", "gauche")
RUNS = 48
FRAMES_PER_RUN = 25
TIMESTEP = 0.5  # [fs]
EQUILIBRATION = 2000  # [steps] = 1 ps
SPACING = 100  # [steps] = 50 fs
FRICTION = 0.02  # [1/fs]
TILT = 0.08  # [eV]; trans runs feel TILT * cos(C-C-O-H torsion), see `Torsion`
SEED = 20240607


def conformer(run: int) -> str:
    """The conformer that a run starts from."""
    return STARTS[run // len(TEMPERATURES) % len(STARTS)]


def start(run: int) -> Atoms:
    """The molecule that a run starts from: trans, or gauche (+60° and -60° in turn)."""
    atoms = ase.build.molecule("CH3CH2OH")
    if conformer(run) == "gauche":
        angle = 60 if run // 6 % 2 == 0 else -60
        atoms.set_dihedral(0, 1, 2, 3, angle, indices=[3])  # C-C-O-H
    return atoms


class Torsion(Calculator):
    """The bias `TILT * cos(C-C-O-H torsion)` [eV], lowest at trans; sampling only, never in labels.

    GFN2-xTB puts gauche 0.066 eV below trans (PBE/def2-SVP: 0.015 eV): without the bias even the
    runs that start from trans leave it within a picosecond, and the data would hardly contain it.
    """

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        molecule = cast(Atoms, self.atoms)
        c1, c2, o, h = molecule.positions[:4]
        bonds = [(c2 - c1)[None], (o - c2)[None], (h - o)[None]]
        angle = np.radians(get_dihedrals(*bonds)[0])
        forces = np.zeros_like(molecule.positions)
        forces[:4] = TILT * np.sin(angle) * np.radians(get_dihedrals_derivatives(*bonds)[0])
        self.results = {"energy": TILT * np.cos(angle), "forces": forces}


def sampler(run: int) -> BaseCalculator:
    """GFN2-xTB, with the torsion bias in the runs that start from trans."""
    from tblite.ase import TBLite

    xtb = TBLite(method="GFN2-xTB", verbosity=0)
    return SumCalculator([xtb, Torsion()]) if conformer(run) == "trans" else xtb


def sample_run(run: int, workdir: Path) -> None:
    """Write `run-RR.npz`: positions `[frame, 9, 3]` [Å], rounded as in the files, and `numbers`."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
    from ase.optimize import BFGS

    target = workdir / f"run-{run:02d}.npz"
    if target.exists():
        return
    rng = np.random.default_rng((SEED, run))
    temperature = TEMPERATURES[run % len(TEMPERATURES)]
    atoms = start(run)
    atoms.calc = sampler(run)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    dynamics = Langevin(
        atoms,
        timestep=TIMESTEP * ase.units.fs,
        temperature_K=temperature,
        friction=FRICTION / ase.units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(EQUILIBRATION)
    frames = []
    for _ in range(FRAMES_PER_RUN):
        dynamics.run(SPACING)
        # The labels belong to the positions in the file: round before labelling.
        frames.append(np.round(atoms.positions - atoms.get_center_of_mass(), 6))
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, positions=np.array(frames), numbers=atoms.numbers)
    partial.rename(target)


def sample(workdir: Path, workers: int) -> None:
    """Run all dynamics, `workers` at a time."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(sample_run, [(run, workdir) for run in range(RUNS)], chunksize=1)


def frames(workdir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shuffled order: run and index in the run `[frame]`, positions `[frame, 9, 3]` [Å].

    Rounds of one frame from every run, so any prefix is an even sample of runs and temperatures.
    """
    rng = np.random.default_rng(SEED)
    within = np.stack([rng.permutation(FRAMES_PER_RUN) for _ in range(RUNS)])  # [run, round]
    runs = np.concatenate([rng.permutation(RUNS) for _ in range(FRAMES_PER_RUN)])
    index = within[runs, np.repeat(np.arange(FRAMES_PER_RUN), RUNS)]
    stored = np.stack([np.load(workdir / f"run-{r:02d}.npz")["positions"] for r in range(RUNS)])
    return runs, index, stored[runs, index]


def labels(workdir: Path) -> dict[int, dict]:
    """All labels so far, by position in the shuffled order, without half-written lines."""
    found = {}
    for file in sorted(workdir.glob("labels-*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[entry["frame"]] = entry
    return found


def label_atoms(workdir: Path) -> dict[str, float]:
    """Energies [eV] of the isolated atoms by symbol, kept in `atoms.json`."""
    import level

    target = workdir / "atoms.json"
    if not target.exists():
        energies = {symbol: level.atom(symbol, n) for symbol, n in UNPAIRED.items()}
        target.write_text(json.dumps(energies))
    return json.loads(target.read_text())


def label_share(workdir: Path, worker: int, workers: int) -> None:
    """Label frames `worker, worker + workers, ...`, one line each in `labels-W.jsonl`."""
    import level

    runs, index, positions = frames(workdir)
    symbols = start(0).get_chemical_symbols()
    done = labels(workdir)
    integrator = level.StoredOrbitals()
    with open(workdir / f"labels-{worker}.jsonl", "a") as out:
        out.write("\n")  # ends a line that a kill cut short
        for frame in range(worker, len(runs), workers):
            if frame in done:
                continue
            began = time.perf_counter()
            energy, forces, record = level.molecule(symbols, positions[frame], integrator)
            entry = {
                "frame": frame,
                "run": int(runs[frame]),
                "index": int(index[frame]),
                "energy": energy,
                "forces": forces.tolist(),
                "seconds": round(time.perf_counter() - began, 2),
                **record,
            }
            out.write(json.dumps(entry) + "\n")
            out.flush()


def label_all(workdir: Path, workers: int) -> None:
    """Label every frame that has no label yet, in `workers` processes of one thread."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(label_share, [(workdir, w, workers) for w in range(workers)], chunksize=1)


# Files. Whole runs are held out: neighbours in time are never in two splits.
VALID_RUNS = range(30, 36)
TEST_RUNS = (36, 37, 40, 41, *range(42, 48))
PACKAGES = ("pyscf", "tblite", "ase", "numpy", "scipy")


def split(run: int) -> str:
    """The split that a run belongs to."""
    return "test" if run in TEST_RUNS else "valid" if run in VALID_RUNS else "train"


def write(workdir: Path, folder: Path = HERE) -> None:
    """Write every labelled frame, in the shuffled order, and `data.toml`."""
    runs, _, positions = frames(workdir)
    symbols = start(0).get_chemical_symbols()
    splits: dict[str, list[Atoms]] = {"train": [], "valid": [], "test": []}
    for frame, entry in sorted(labels(workdir).items()):
        atoms = Atoms(symbols, positions[frame])
        atoms.info["REF_energy"] = round(entry["energy"], 8)
        atoms.info["temperature"] = TEMPERATURES[runs[frame] % len(TEMPERATURES)]
        atoms.info["run"] = int(runs[frame])
        atoms.arrays["REF_forces"] = np.round(entry["forces"], 6)
        splits[split(runs[frame])].append(atoms)
    if not all(splits.values()):
        raise RuntimeError("every split needs a labelled frame; run the label step for longer")
    for name, content in splits.items():
        ase.io.write(folder / f"{name}.xyz", content, format="extxyz")
    energies = {symbol: round(energy, 8) for symbol, energy in label_atoms(workdir).items()}
    isolated = [Atoms(symbol) for symbol in energies]
    for atoms, energy in zip(isolated, energies.values(), strict=True):
        atoms.info.update(config_type="IsolatedAtom", REF_energy=energy)
    ase.io.write(folder / "isolated_atoms.xyz", isolated, format="extxyz")
    counts = {name: len(content) for name, content in splits.items()}
    (folder / "data.toml").write_text(facts(counts, energies, folder), encoding="utf-8")


def facts(counts: dict[str, int], energies: dict[str, float], folder: Path) -> str:
    """The text of `data.toml`: what the files are, with their hashes."""
    import level

    files = [*(f"{name}.xyz" for name in counts), "isolated_atoms.xyz"]
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    versions = {name: metadata.version(name) for name in PACKAGES}
    head = {
        "name": "ethanol",
        "description": "Ethanol from xTB dynamics at 300, 450, 600 K; PBE energies and forces",
        "license": "Apache-2.0",
        "provenance": "generated by prepare.py of this folder",
        "level": f"RKS {level.FUNCTIONAL}/{level.BASIS}, density fitting (RI-J, {level.AUXILIARY})",
        "grid": f"PySCF level {level.GRID}, no grid response in the forces",
        "convergence": f"{level.TOLERANCE:g} Ha",
        "sampling": f"GFN2-xTB Langevin, {RUNS} runs, {SPACING * TIMESTEP:g} fs between frames",
        "isolated_atoms": f"UKS, ground multiplicity, no symmetry, grid level {level.ATOM_GRID}",
    }
    units = {"length": "Å", "energy": "eV", "forces": "eV/Å", "temperature": "K"}
    held = {"valid": list(VALID_RUNS), "test": list(TEST_RUNS)}
    tables = {
        "units": units,
        "frames": counts,
        "held_out_runs": held,
        "E0s": energies,
        "versions": versions,
        "sha256": hashes,
    }
    # A JSON string, number or list of numbers is TOML.
    pairs = lambda table: [
        f"{json.dumps(k) if '.' in k else k} = {json.dumps(v, ensure_ascii=False)}"
        for k, v in table.items()
    ]
    lines = ["# Written by prepare.py.", *pairs(head)]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *pairs(table)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the ethanol data set.")
    steps = ("sample", "label", "write")
    parser.add_argument("--workdir", type=Path, required=True, help="runs and labels, kept")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--steps", nargs="+", choices=steps, default=steps)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the files")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    if "sample" in args.steps:
        sample(args.workdir, args.workers)
    if "label" in args.steps:
        label_all(args.workdir, args.workers)
    if "write" in args.steps:
        write(args.workdir, args.output)


if __name__ == "__main__":
    main()
