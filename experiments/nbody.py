"""The charged 5-body table: the same data, split and budget for every network, several seeds.

Data, split and measure are EGNN's (3000 / 2000 / 2000, mean squared error over particles and
coordinates, the epoch with the best validation error): `nbody-egnn.toml`. The sizes and learning
rates of the other networks are those of their papers: `nbody/networks.toml`. The published budget
is 300 000 steps of 100 systems; with fewer (`--steps`) the rate falls along a cosine, and the table
says how many there were. "linear" is x + v t with t fitted to the training set.

run:     python experiments/nbody.py [--steps 300000] [--seeds 0 1 2] [--networks egnn segnn ...]
time:    300 000 steps on one CPU core: an hour for EGNN, about a day for CGENN; a run that was
         stopped goes on, and a network that is done is not trained again
expect:  linear 0.0819, SE(3)-Transformer 0.0244, TFN 0.0155, EGNN 0.0071, SEGNN 0.0043,
         PONITA 0.0043, CGENN 0.0039
reached: results/nbody.json
"""

import argparse
import json
import tomllib
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from results import FOLDER, write
from rich.console import Console

from geojax import config

HERE = Path(__file__).parent
NETWORKS = ("egnn", "segnn", "tfn", "se3-transformer", "cgenn", "ponita")
PUBLISHED_STEPS, STEPS_PER_EPOCH = 300_000, 30
TARGET = "node_targets.positions"


def linear() -> dict[str, Any]:
    """x + v t, with the time that fits the training set best."""
    data = config.data_of({"name": "nbody"})

    def moves(structures) -> tuple[np.ndarray, np.ndarray]:
        ends = [s.properties.node_targets["positions"] - s.positions for s in structures]
        return np.concatenate([s.inputs["velocities"] for s in structures]), np.concatenate(ends)

    v, moved = moves(data.train)
    t = float(np.vdot(v, moved) / np.vdot(v, v))
    v, moved = moves(data.test)
    return {"mse": float(np.mean((moved - t * v) ** 2)), "t": t}


def tables_of(network: str, seed: int, steps: int) -> dict[str, Any]:
    """The study of one run, see `geojax.config`."""
    tables = tomllib.loads((HERE / "nbody-egnn.toml").read_text())
    if network != "egnn":
        tables |= tomllib.loads((HERE / "nbody" / "networks.toml").read_text())[network]
    tables["train"] |= {"epochs": steps // STEPS_PER_EPOCH, "seed": seed}
    if steps < PUBLISHED_STEPS:
        tables["optimizer"] |= {"schedule": "cosine"}
    return {"name": f"nbody-{network}"} | tables


def one(network: str, seed: int, steps: int) -> dict[str, Any]:
    """The test error of one run, which goes on where it was stopped."""
    study = config.from_tables(tables_of(network, seed, steps))
    folder = Path("runs") / f"nbody-{network}-{steps}-{seed}"
    done = folder / "results.json"
    if done.exists():
        found = json.loads(done.read_text())
    else:
        _, found = config.run(study, folder, Console(stderr=True))
    return {
        "mse": found["test"][f"{TARGET}.rmse"] ** 2,
        "valid": found["valid"][f"valid.{TARGET}.rmse"] ** 2,
        "parameters": found["parameters"],
        "seconds": found["seconds"],
    }


def summary(runs: dict[str, dict[str, Any]], steps: int) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    errors = [run["mse"] for run in runs.values()]
    return {
        "mse": mean(errors),
        "spread": stdev(errors) if len(errors) > 1 else None,
        "parameters": next(iter(runs.values()))["parameters"],
        "milliseconds per step": 1e3 * mean(r["seconds"] for r in runs.values()) / steps,
        "seeds": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=PUBLISHED_STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    chosen = parser.parse_args()
    path = FOLDER / "nbody.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    found = {"linear": linear(), "budgets": table.get("budgets", {})}
    rows = found["budgets"].setdefault(str(chosen.steps), {})
    for network in chosen.networks:
        runs = dict(rows.get(network, {}).get("seeds", {}))
        for seed in chosen.seeds:
            if str(seed) not in runs:
                runs[str(seed)] = one(network, seed, chosen.steps)
            rows[network] = summary(runs, chosen.steps)
            write("nbody", found)
            print(chosen.steps, network, seed, f"{runs[str(seed)]['mse']:.5f}", flush=True)


if __name__ == "__main__":
    main()
