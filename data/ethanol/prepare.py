"""Recipe of the ethanol data set: sample with GFN2-xTB, label with PBE/def2-SVP, write extended xyz.

    python data/ethanol/prepare.py --workdir DIR --workers 2 [--steps sample label write]

Three steps, each of which resumes where a killed one stopped:

1. `sample`: Langevin dynamics with GFN2-xTB (tblite), 48 independent runs; `DIR/run-*.npz`.
2. `label`:  energy and forces with PySCF; one JSON line per frame in `DIR/labels-*.jsonl`.
3. `write`:  whatever is labelled becomes `train.xyz`, `valid.xyz`, `test.xyz`,
   `isolated_atoms.xyz` and `data.toml` beside this file.

Needs pyscf, tblite, ase, numpy (versions in `data.toml`), none of which geojax needs to read the result.
Energies in eV, lengths in Å, forces in eV/Å, times in fs.

References:
    Bannwarth, Ehlert, Grimme, "GFN2-xTB", J. Chem. Theory Comput. 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176.
    Perdew, Burke, Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), doi:10.1103/PhysRevLett.77.3865.
    Weigend, Ahlrichs (def2), Phys. Chem. Chem. Phys. 7, 3297 (2005), doi:10.1039/b508541a.
    Sun et al., "PySCF", J. Chem. Phys. 153, 024109 (2020), doi:10.1063/5.0006074.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the workers are the parallelism

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import ase.build
import ase.units
import numpy as np
from ase.atoms import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.geometry import get_dihedrals, get_dihedrals_derivatives

HERE = Path(__file__).parent

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

    GFN2-xTB puts gauche 0.066 eV below trans (PBE/def2-SVP: 0.015 eV): without the bias even the runs
    that start from trans leave it within a picosecond, and the data would hardly contain it.
    """

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        c1, c2, o, h = self.atoms.positions[:4]
        bonds = [(c2 - c1)[None], (o - c2)[None], (h - o)[None]]
        angle = np.radians(get_dihedrals(*bonds)[0])
        forces = np.zeros((len(self.atoms), 3))
        forces[:4] = TILT * np.sin(angle) * np.radians(get_dihedrals_derivatives(*bonds)[0])
        self.results = {"energy": TILT * np.cos(angle), "forces": forces}


def sampler(run: int) -> Calculator:
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


# Labels.
FUNCTIONAL, BASIS, AUXILIARY = "PBE", "def2-SVP", "def2-universal-jfit"
GRID = 4
TOLERANCE = 1e-10  # [Ha]
HARTREE, BOHR = 27.211386245988, 0.529177210903  # [eV], [Å]; CODATA 2018


def stored_orbitals():
    """A PySCF integrator that keeps the orbital values on the grid from one SCF cycle to the next.

    Evaluating and reallocating them is half of an SCF cycle for a molecule of this size. The memory
    is kept from molecule to molecule: fresh pages cost more than the evaluation. Second derivatives
    are needed once, by the gradient, and are not kept.
    """
    from pyscf import lib
    from pyscf.dft import numint

    class StoredOrbitals(numint.NumInt):
        def __init__(self):
            super().__init__()
            self.memory = np.empty(0)
            self.grids = self.coords = None
            self.blocks = []

        def block_loop(self, mol, grids, nao=None, deriv=0, *args, **kwargs):
            if deriv != 1:
                yield from super().block_loop(mol, grids, nao, deriv, *args, **kwargs)
                return
            if grids.coords is None:
                grids.build(with_non0tab=True)
            # A grid is the same if it is the same object with the same array: both are kept alive
            # here, so an address cannot be given to a new one.
            if self.grids is not grids or self.coords is not grids.coords:
                self.grids, self.coords = grids, grids.coords
                self.blocks = list(self.evaluate(mol, grids))
            yield from self.blocks

        def evaluate(self, mol, grids):
            """Blocks (values `[4, point, orbital]`, mask, weights, coordinates), each its own memory."""
            points, width = len(grids.coords), 4 * mol.nao
            if self.memory.size < points * width:
                self.memory = np.empty(int(1.1 * points * width))
            for first, last in lib.prange(0, points, 64 * numint.BLKSIZE):
                mask = grids.non0tab[first // numint.BLKSIZE :]
                values = self.eval_ao(
                    mol,
                    grids.coords[first:last],
                    deriv=1,
                    non0tab=mask,
                    cutoff=grids.cutoff,
                    out=self.memory[first * width : last * width],
                )
                dense = not numint._sparse_enough(mask)
                yield values, None if dense else mask, grids.weights[first:last], grids.coords[first:last]

    return StoredOrbitals()


def label(symbols: list[str], positions: np.ndarray, integrator=None) -> tuple[float, np.ndarray, dict]:
    """Energy [eV], forces `[atom, 3]` [eV/Å] and the record of the self-consistent field.

    Converges on a coarse grid first, then on the grid of the labels from that density.

    Raises:
        RuntimeError: the field did not converge.
    """
    from pyscf import dft, gto

    mol = gto.M(atom=list(zip(symbols, positions, strict=True)), basis=BASIS, verbose=0)
    field = dft.RKS(mol, xc=FUNCTIONAL).density_fit(auxbasis=AUXILIARY)
    field.with_df.build()  # else PySCF makes the three-centre integrals again in every cycle
    field._numint = integrator or stored_orbitals()
    field.conv_check = False  # one more cycle after convergence
    field.grids.level, field.conv_tol = 1, 1e-6
    field.kernel()
    coarse = field.cycles
    field.grids = dft.gen_grid.Grids(mol)
    field.grids.level, field.conv_tol = GRID, TOLERANCE
    field.kernel(field.make_rdm1())
    if not field.converged:
        raise RuntimeError(f"a label needs a converged field; got none after {field.cycles} cycles")
    gradient = field.nuc_grad_method().kernel()
    record = {"cycles": [coarse, field.cycles], "points": len(field.grids.weights)}
    return field.e_tot * HARTREE, -gradient * (HARTREE / BOHR), record


def labels(workdir: Path) -> dict[int, dict]:
    """All labels made so far, by position in the shuffled order; half-written lines are left out."""
    found = {}
    for file in sorted(workdir.glob("labels-*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[entry["frame"]] = entry
    return found


def label_share(workdir: Path, worker: int, workers: int) -> None:
    """Label frames `worker, worker + workers, ...`, one line each in `labels-W.jsonl`."""
    runs, index, positions = frames(workdir)
    symbols = start(0).get_chemical_symbols()
    done = labels(workdir)
    integrator = stored_orbitals()
    with open(workdir / f"labels-{worker}.jsonl", "a") as out:
        out.write("\n")  # ends a line that a kill cut short
        for frame in range(worker, len(runs), workers):
            if frame in done:
                continue
            began = time.perf_counter()
            energy, forces, record = label(symbols, positions[frame], integrator)
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", nargs="+", default=["sample", "label", "write"])
    args = parser.parse_args()
    if "sample" in args.steps:
        sample(args.workdir, args.workers)
    if "label" in args.steps:
        label_all(args.workdir, args.workers)
