"""How well do equivariant networks forecast a walk, against constant velocity and a linear map?

Subject 35 of the CMU motion capture data, 31 joints, a split of our own by trials (14 / 2 / 4).
From ten positions of the last quarter second (a velocity alone, for EGNN) to ten of the next one,
or to the last of these, 30 frames ahead. MSE is that of the coordinates at 30 frames, ADE and FDE
the mean distances at all ten times and at the last. Networks read which joint is which, but in the
rows "joints alike". `motion/studies.toml` holds them all.

"constant velocity" goes on as from the frame before to the present one. "linear" is a ridge
regression from the vectors of all joints (past steps, velocities, places relative to the mean) to
the future of each, one matrix for x, y and z, so that it turns with every rotation; its strength is
chosen by the validation trials.

run:     python experiments/motion.py [--rows eqmotion locs ...] [--seeds 0 1 2]
time:    four minutes for each row and seed on one CPU core, 18 of them; a run that was stopped goes
         on, and what is done is not trained again
expect:  constant velocity 0.00896 m²; published on another split, in squares of the file's unit
         (5.6 cm, we think) x 1e-2: EGNN 59.1, GMN 43.9, EGHN 8.5
reached: results/motion.json
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from results import FOLDER, write
from rich.console import Console

from geojax import config
from geojax.graphs import Structure
from geojax.inference import predict

HERE = Path(__file__).parent
UNIT = 0.0254 / 0.45  # [m], of the motion files
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FIGURES = ("mse", "mse_in_file_units", "ade", "fde")


def futures(structures: Sequence[Structure]) -> np.ndarray:
    """`[sample, joint, time, 3]` [m]."""
    found = np.array([s.properties.node_targets["future"] for s in structures])
    return found.reshape(*found.shape[:2], -1, 3)


def figures(guess: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Errors of trajectories, or of their last points: `[sample, joint, time, 3]` [m]."""
    mse = float(np.mean((guess - right)[:, :, -1] ** 2))
    distance = np.linalg.norm(guess - right, axis=-1)
    found = {
        "mse": mse,
        "mse_in_file_units": 100 * mse / UNIT**2,  # x 1e-2, as it is published
        "fde": float(distance[:, :, -1].mean()),
    }
    if guess.shape[2] > 1:
        found |= {"ade": float(distance.mean()), "by_time": distance.mean((0, 1)).tolist()}
    return found


def constant_velocity(structures: Sequence[Structure], seconds: float) -> np.ndarray:
    """x + v t at all times, the last of them so many seconds ahead."""
    v = np.array([s.inputs["velocity"] for s in structures])
    times = futures(structures[:1]).shape[2]
    return v[:, :, None] * (np.arange(1, times + 1) / times * seconds)[:, None]


def linear(train: Sequence[Structure], valid: Sequence[Structure], test: Sequence[Structure]):
    """The ridge regression's answers for the test samples, and its strength."""

    def vectors(structures: Sequence[Structure]) -> np.ndarray:
        """`[sample * 3, channel]`."""
        x = np.array([s.positions for s in structures])
        v = np.array([s.inputs["velocity"] for s in structures])
        past = np.array([s.inputs["history"] for s in structures])
        x = (x - x.mean(1, keepdims=True))[:, :, None]
        every = np.concatenate([past, v[:, :, None], x], 2)
        return every.reshape(len(every), -1, 3).swapaxes(1, 2).reshape(3 * len(every), -1)

    right = futures(train)
    goal = right.reshape(len(right), -1, 3).swapaxes(1, 2).reshape(3 * len(right), -1)
    a = vectors(train)
    answers = {}
    for strength in STRENGTHS:
        matrix = np.linalg.solve(a.T @ a + strength * np.eye(a.shape[1]), a.T @ goal)
        answers[strength] = lambda some, matrix=matrix: (
            (vectors(some) @ matrix)
            .reshape(len(some), 3, -1)
            .swapaxes(1, 2)
            .reshape(len(some), *right.shape[1:])
        )
    error = lambda strength: np.mean((answers[strength](valid) - futures(valid)) ** 2)
    best = min(STRENGTHS, key=error)
    return answers[best](test), best


def baselines() -> dict[str, Any]:
    """What needs no network."""
    data = config.data_of({"name": "cmu-mocap"})
    right = futures(data.test)
    guess = constant_velocity(data.test, data.card["seconds_ahead"])
    found, strength = linear(data.train, data.valid, data.test)
    return {
        "constant velocity": figures(guess, right),
        "linear": figures(found, right) | {"strength": strength},
    }


def one(row: str, seed: int, table: Mapping[str, Any]) -> dict[str, Any]:
    """The test errors of one run, which goes on where it was stopped."""
    chosen = table["rows"][row]
    name = f"node_targets.{chosen['target']}"
    irreps = "10x1o" if chosen["target"] == "future" else "1o"
    label = row.replace(", ", "-").replace(" ", "-")
    study = config.from_tables(
        {
            "name": f"motion-{label}-{seed}",
            "data": table["data"],
            "network": chosen["network"] | {"irreps_out": irreps},
            "outputs": [{"name": name, "irreps": irreps, "unit": "m"}],
            "loss": {name: {"kind": "mse"}},
            "optimizer": table["optimizer"],
            "train": table["train"]
            | {"epochs": chosen["epochs"], "seed": seed, "watch": f"{name}.rmse"},
        }
    )
    model, found = config.run(study, Path("runs") / study.name, Console(stderr=True))
    test = config.data_of(study.data).test
    guess = np.array([p.node_targets[chosen["target"]] for p in predict(model, test)])
    right = futures(test)
    right = right if chosen["target"] == "future" else right[:, :, -1:]
    return figures(guess.reshape(right.shape), right) | {
        "parameters": found["parameters"],
        "seconds": found["seconds"],
        "steps": found["steps"],
    }


def summary(runs: Mapping[str, Mapping[str, Any]], epochs: int) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    found: dict[str, Any] = {"epochs": epochs, "seeds": dict(runs)}
    for name in FIGURES:
        values = [run[name] for run in runs.values() if name in run]
        if values:
            found[name] = mean(values)
            found[f"{name}_spread"] = stdev(values) if len(values) > 1 else None
    first = next(iter(runs.values()))
    found["parameters"] = first["parameters"]
    found["milliseconds_per_step"] = 1e3 * mean(r["seconds"] / r["steps"] for r in runs.values())
    return found


def main() -> None:
    table = tomllib.loads((HERE / "motion" / "studies.toml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=table["rows"], default=list(table["rows"]))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    path = FOLDER / "motion.json"
    found = {"baselines": baselines(), "rows": {}}
    if path.exists():
        found["rows"] = json.loads(path.read_text())["rows"]
    for row in chosen.rows:
        epochs = table["rows"][row]["epochs"]
        old = found["rows"].get(row, {})
        runs = dict(old.get("seeds", {})) if old.get("epochs") == epochs else {}
        for seed in chosen.seeds:
            if str(seed) not in runs:
                runs[str(seed)] = one(row, seed, table)
                found["rows"][row] = summary(runs, epochs)
                write("motion", found, "python experiments/motion.py")
            print(row, seed, json.dumps({k: runs[str(seed)].get(k) for k in FIGURES}), flush=True)


if __name__ == "__main__":
    main()
