"""What does a step of LAMMPS take with a model as a pair style, and what through fix external?

216 atoms of silicon at 300 K, NequIP of two layers (16 channels, cutoff 4 Å, float32, untrained:
the numbers cost the same), one thread for each rank. Each way is a process of its own; they take
turns three times, the median counts, and compilations come before the measured steps. `ghosts yes`
computes the messages of every periodic image, as pair styles do that do not tell images.

  run:     python experiments/lammps-native.py [--steps 200], with ./lammps installed
  time:    five minutes
  expect:  the pair style takes no more than fix external on one rank; two ranks win only where
           their domains are larger than the shell of ghosts, which these are not
  reached: results/lammps-native.json
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from results import write

CELLS, CONSTANT = 3, 5.431  # of the diamond structure, [Å]
WAYS = ("fix external", "pair style", "pair style, ghosts yes", "pair style, 2 ranks")
WARM, TURNS = 20, 3
HEAD = f"""
units metal
atom_modify map yes
lattice diamond {CONSTANT}
region box block 0 {CELLS} 0 {CELLS} 0 {CELLS}
create_box 1 box
create_atoms 1 box
mass 1 28.085
velocity all create 600 1 mom yes
fix move all nve
timestep 0.0005
neigh_modify every 1 delay 0 check yes
thermo 1000
"""
EXTERNAL = """
import sys
from geojax import zoo
from geojax.simulation import LammpsModel, open_lammps
lammps = open_lammps("-log", "log", "-screen", "none")
lammps.commands_string(open("head").read() + "pair_style zero 1.0 nocoeff\\npair_coeff * *\\n")
model = LammpsModel(zoo.load("model"), ["Si"]).attach(lammps)
for steps in sys.argv[1:]:
    model.run(int(steps))
lammps.close()
"""


def untrained():
    """The model of this study."""
    import jax
    from ase.build import bulk

    from geojax.datasets import from_ase
    from geojax.graphs import Budget, pad, sample
    from geojax.model import Card, Model
    from geojax.networks import NequIP, fit_to_data

    atoms = bulk("Si", "diamond", CONSTANT, cubic=True)
    atoms.rattle(0.05, seed=0)
    ready = sample(from_ase(atoms), 4.0)
    network = fit_to_data(NequIP(cutoff=4.0, channels=16, layers=2), [ready])
    graph = jax.tree.map(jax.numpy.asarray, pad([ready], Budget(16, 512, 2)).graph)
    card = Card("untrained", elements=(14,), E0s={14: 0.0})
    return Model(network, network.init(jax.random.key(0), graph), card)


def milliseconds(way: str, folder: Path, steps: int) -> float:
    """Of a step, after the program is compiled."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NPROC": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if way == "fix external":
        (folder / "external.py").write_text(EXTERNAL)
        command = [sys.executable, "external.py", str(WARM), str(steps)]
    else:
        ghosts = "ghosts yes" if "ghosts" in way else ""
        pair = f"plugin load ./geojaxplugin.so\npair_style geojax {ghosts}\n"
        runs = f"pair_coeff * * native Si\nrun {WARM}\nrun {steps}\n"
        (folder / "in.lammps").write_text((folder / "head").read_text() + pair + runs)
        programs = Path(sys.executable).parent
        command = [str(programs / "lmp"), "-in", "in.lammps", "-log", "log", "-screen", "none"]
        if "2 ranks" in way:
            command = [str(programs / "mpiexec"), "-n", "2", *command]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    loops = re.findall(r"Loop time of (\S+) on", (folder / "log").read_text())
    return 1e3 * float(loops[-1]) / steps


def main() -> None:
    from geojax_lammps import build, convert  # pyright: ignore[reportMissingImports]

    from geojax import zoo

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), untrained()
        (folder / "head").write_text(HEAD)
        zoo.save(model, folder / "model")
        convert(model, folder / "native")
        build(folder / "geojaxplugin.so")
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(TURNS):
            for way in WAYS:
                times[way].append(milliseconds(way, folder, steps))
    figures = {way: {"median": median(t), "turns": t} for way, t in times.items()}
    write("lammps-native", {"atoms": 8 * CELLS**3, "milliseconds per step": figures})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
