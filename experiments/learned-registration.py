"""Do learned descriptors find the poses of clouds that share little, where FPFH does not?

Pairs of crops of furniture in any two poses, noise 0.01, normals known. Networks learn from crops
of the training shapes that share 30 to 100 % by the circle loss: points at one place have alike
descriptors, others not. Then pairs of the validation shapes that share a given part are registered
by the same chain with each kind of descriptor (`points.register` and `inference.register`: voxels,
mutual nearest, RANSAC, closest points). A success is within 5 degrees and 0.1, for clouds about 2
wide, as in registration.py; an unfound pose is a failure.

run:     python experiments/learned-registration.py [--epochs 20] [--networks pare-net roitr]
time:    an hour (pare-net) and two (roitr) on one CPU core; a run that was stopped goes on
expect:  recall above that of FPFH at every overlap, several times as high at 50 % and 30 %
reached: results/learned-registration.json
"""

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from registration import DRAWS, OVERLAPS, errors_of
from results import FOLDER, write

from geojax import datasets, inference, points
from geojax.datasets.pairs import parts_of
from geojax.model import Model
from geojax.networks import PARENet, RoITr
from geojax.outputs import Output
from geojax.training import Optimizer, Options, train

NAME, IRREPS = "node_targets.place", "32x0e"
VOXEL = 0.08  # leaves about 500 points of a whole cloud, 250 where 30 % are shared
POINTS, COPIES, BATCH = 512, 4, 8
LOSS = {"kind": "circle", "radius": 0.06, "far": 0.15}
NETWORKS: dict[str, Any] = {
    "pare-net": PARENet(vectors=("normals",), irreps_out=IRREPS),
    "roitr": RoITr(irreps_out=IRREPS),
}


def trained(name: str, epochs: int, folder: Path) -> Model:
    """By the circle loss, on crops of the training shapes."""
    data = datasets.load("partial-overlap", n_points=POINTS, copies=COPIES)
    return train(
        NETWORKS[name],
        datasets.Dataset("partial-overlap", data.train, (), (), data.card),
        loss={NAME: LOSS},
        outputs=[Output(NAME, irreps=IRREPS, unit="")],
        optimizer=Optimizer(learning_rate=2e-3, schedule="cosine"),
        options=Options(epochs=epochs, batch_size=BATCH, ema=0.98),
        folder=folder,
    )


def registered(register: Any, overlap: float) -> dict[str, float]:
    """What the chain finds of the validation pairs that share so much."""
    rows = []
    for seed, pair in enumerate(datasets.load("partial-overlap", overlap=overlap).valid):
        source, target = parts_of(pair)
        normals = (cloud.inputs["normals"] for cloud in (source, target))
        sides = dict(zip(("source_normals", "target_normals"), normals, strict=True))
        clouds = source.positions, target.positions
        try:
            found = register(*clouds, voxel=VOXEL, seed=seed, draws=DRAWS, **sides)
        except ValueError as error:
            if "three matches that agree" not in str(error):
                raise
            rows.append((180.0, 2.0, 0))
            continue
        turn, shift = found.matrix[:3, :3], found.matrix[:3, 3]
        rows.append((*errors_of(turn, shift, pair.properties.targets), found.matches))
    angles, shifts, matches = zip(*rows, strict=True)
    right = (np.array(angles) <= 5) & (np.array(shifts) <= 0.1)
    return {
        "recall": float(right.mean()),
        "median rotation error [degree]": median(angles),
        "median matches": median(matches),
        "pairs": len(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    chosen = parser.parse_args()
    path = FOLDER / "learned-registration.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    rows = found.get("rows", {}) if found.get("epochs") == chosen.epochs else {}
    for name in ("fpfh", *chosen.networks):
        if name in rows:
            continue
        register, cost = points.register, {}
        if name != "fpfh":
            model = trained(name, chosen.epochs, Path("runs") / f"{name}-{chosen.epochs}")
            register = partial(inference.register, inference.Predictor(model))
            told = model.card.training
            cost = {"seconds": told["seconds"], "parameters": told["plan"]["parameters"]}
        overlaps = {f"{o:.0%}": registered(register, o) for o in OVERLAPS}
        rows[name] = {"overlaps": overlaps} | cost
        print(name, json.dumps(rows[name]), flush=True)
        write("learned-registration", {"epochs": chosen.epochs, "rows": rows})


if __name__ == "__main__":
    main()
