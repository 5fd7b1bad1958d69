"""One command that makes every result anew, and the tables of them.

Studies come in the order of their time. What has a result is left alone unless it is asked for
again; a training that was stopped goes on where it was, and one that is done is not repeated while
its folder is in runs/.

run:     python experiments/all.py [--again] [--only NAME ...] [--list]
time:    about two days on two CPU cores, by the times that the studies state
expect:  the tables unchanged but for the noise of speed measurements
"""

import argparse
import subprocess
import sys
from pathlib import Path

from results import FOLDER

HERE = Path(__file__).parent
# The result that each command writes.
STUDIES: dict[str, list[str]] = {
    "startup-time": ["startup-time.py"],
    "neighbors-speed": ["neighbors-speed.py"],
    "fine-tuning": ["fine-tuning.py"],
    "nequip-ethanol": ["nequip-ethanol.toml"],
    "egnn-speed": ["egnn-speed.py"],
    "train-speed": ["train-speed.py"],
    "inference-speed": ["inference-speed.py"],
    "harmonics-speed": ["harmonics-speed.py"],
    "points-speed": ["points-speed.py"],
    "registration": ["registration.py"],
    "mlearn-cu-nequip": ["mlearn-cu-nequip.toml"],
    "hessians": ["hessians.py"],
    "lammps-native": ["lammps-native.py"],
    "self-supervision": ["self-supervision.py"],
    "nbody-egnn": ["nbody-egnn.toml"],
    "motion": ["motion.py"],
    "segmentation": ["segmentation.py"],
    "rotation-heads": ["rotation-heads.py"],
    "learned-registration": ["learned-registration.py"],
    "acac-nequip": ["acac-nequip.toml"],
    "acac-mace": ["acac-mace.toml"],
    "acceptance": ["acceptance.py"],
    "furniture": ["furniture.py"],
    "products-speed": ["products-speed.py"],
    "compare": ["compare.py"],
    "nbody": ["nbody.py", "--steps", "3000"],
}


def run(name: str, again: bool) -> None:
    """One study, as its own file says."""
    study, *arguments = STUDIES[name]
    if study.endswith(".toml"):
        to_json = ["--json", str(FOLDER / f"{name}.json")]
        command = ["-m", "geojax", "train", f"experiments/{study}", *to_json]
    else:
        command = [f"experiments/{study}", *arguments]
        command += ["--again"] if again and study == "products-speed.py" else []
    subprocess.run([sys.executable, *command], check=True, cwd=HERE.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--list", action="store_true", help="say what would be run")
    chosen = parser.parse_args()
    for name in chosen.only:
        if chosen.again or not (FOLDER / f"{name}.json").exists():
            print(name, *STUDIES[name], flush=True)
            if not chosen.list:
                run(name, chosen.again)
    if not chosen.list:
        subprocess.run([sys.executable, "experiments/tables.py"], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
