"""Parts and normals of points, on shapes turned in ways that training has not seen.

Each network tells the part of each point of the set `composed-shapes`, and the outward normal where
it has vectors, from positions alone. It is trained on shapes turned about the upright axis (z) or
any way (SO(3), anew in each pass), and tested on new shapes: z/z, z/SO(3), SO(3)/SO(3). Nothing is
chosen by the test shapes; the last averaged parameters count.

run:     python experiments/segmentation.py [--seeds 3] [--networks vn-dgcnn ...]
time:    six minutes for each network and seed on one CPU core, ninety in all; a run that was
         stopped goes on, and what is done is not trained again
expect:  networks that respect rotations equal across the row, the others far lower in z/SO(3);
         normals of a sphere's middle are known, those of thin boards need their other side
reached: results/segmentation.json
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import FOLDER, write
from turns import COLUMNS, TURNS, columns, turned

from geojax import config
from geojax.datasets.composed_shapes import PARTS
from geojax.graphs import Structure
from geojax.inference import Predictor
from geojax.metrics import compare

HERE = Path(__file__).parent
UPRIGHT = 2  # the data's upright axis is z
PART, NORMAL = "label", "normal"


def tables_of(network: str, table: Mapping[str, Any], how: str) -> dict[str, Any]:
    """The study of one training, see `geojax.config`."""
    chosen = table["networks"][network]
    classes = f"{len(PARTS)}x0e"
    outputs = [{"name": f"node_targets.{PART}", "irreps": classes, "unit": ""}]
    loss: dict[str, Any] = {f"node_targets.{PART}": {"kind": "cross-entropy"}}
    if chosen.get("normals"):
        outputs.append({"name": f"node_targets.{NORMAL}", "irreps": "1o", "unit": ""})
        loss[f"node_targets.{NORMAL}"] = {"kind": "mse"}
    irreps = "+".join(output["irreps"] for output in outputs)
    augment = [{"kind": "rotation"}] if how == "SO(3)" else []
    return {
        "name": f"segmentation-{network}",
        "data": table["data"],
        "network": chosen["table"] | {"irreps_out": irreps},
        "outputs": outputs,
        "loss": loss,
        "optimizer": table["optimizer"],
        "train": table["train"] | {"epochs": chosen["epochs"], "augment": augment},
    }


def errors(model: Any, shapes: Sequence[Structure]) -> dict[str, float]:
    """Mean intersection over union of parts, and the mean angle between normals, degrees."""
    predicted = Predictor(model)(shapes)
    found = {"miou": compare(predicted, shapes)[f"node_targets.{PART}.miou"]}
    vectors = [p.node_targets[NORMAL] for p in predicted if NORMAL in p.node_targets]
    if vectors:
        mine = np.concatenate(vectors)
        labels = np.concatenate([s.properties.node_targets[NORMAL] for s in shapes])
        cosine = (mine * labels).sum(1) / np.maximum(np.linalg.norm(mine, axis=1), 1e-9)
        found["degrees"] = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
    return found


def one(network: str, table: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Both trainings of a network, their tests, and what they took."""
    data = config.data_of({**table["data"], "seed": seed})
    with_radius = lambda s: s.replace(inputs={"radius": np.linalg.norm(s.positions, axis=1)})
    clouds, new = ([with_radius(s) for s in part] for part in (data.train, data.test))
    upright = turned(clouds, "z", 2 * seed, UPRIGHT)  # each pass turns them further for SO(3)
    return columns(
        lambda how: config.from_tables(tables_of(network, table, how)),
        data,
        dict.fromkeys(TURNS, upright),
        {how: turned(new, how, 2 * seed + 1, UPRIGHT) for how in TURNS},
        seed,
        errors,
    )


def summary(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over seeds of each figure in each column."""
    runs = list(seeds.values())

    def spread(column: str) -> dict[str, Any]:
        figures = {key: [run[column][key] for run in runs] for key in runs[0][column]}
        return {k: {"mean": float(np.mean(v)), "std": float(np.std(v))} for k, v in figures.items()}

    return {
        "columns": {column: spread(column) for column in COLUMNS},
        "parameters": runs[0]["parameters"],
        "seconds": float(np.mean([run["seconds"] for run in runs])),
        "seeds": dict(seeds),
    }


def main() -> None:
    table = tomllib.loads((HERE / "segmentation" / "rows.toml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--networks", nargs="+", choices=table["networks"], default=list(table["networks"])
    )
    chosen = parser.parse_args()
    path = FOLDER / "segmentation.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for seed in range(chosen.seeds):
        for network in chosen.networks:
            seeds = dict(rows.get(network, {}).get("seeds", {}))
            if str(seed) not in seeds:
                seeds[str(seed)] = one(network, table, seed)
                rows[network] = summary(seeds)
                write("segmentation", {"rows": rows}, "python experiments/segmentation.py")
            print(seed, network, json.dumps(seeds[str(seed)]), flush=True)


if __name__ == "__main__":
    main()
