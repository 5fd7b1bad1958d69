"""What makes point networks blind to rotations best: training data, frames, or their layers?

A fifth of each class is held out (other shapes with every seed) and only tested on: nothing is
chosen by it, the last averaged parameters count. Each row, a network and a way to make it blind to
rotations, is trained on shapes turned about the upright axis (z) and on shapes turned any way
(SO(3)), and tested on both: z/z, z/SO(3), SO(3)/SO(3). `furniture/rows.toml` holds the rows. All
training shapes are stretched along their axes and jittered anew in every pass; a pass sees COPIES
random samples of the points of each.

run:     python experiments/furniture.py [--seeds 3] [--networks pointnet ...] [--ways none ...]
time:    three to forty minutes for each row and seed on one CPU core, about nine hours in all;
         a run that was stopped goes on, and what is done is not trained again
expect:  where a way is exact, the three columns equal within noise; without any, z/SO(3) far below
         z/z; majority class 12 %
reached: results/furniture.json
"""

import argparse
import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import FOLDER, write
from turns import COLUMNS, TURNS, columns, sampled, turned

from geojax import config, datasets
from geojax.graphs import Structure
from geojax.points import orient

HERE = Path(__file__).parent
UPRIGHT = 1  # the data's upright axis is y
POINTS = 256  # of the 2048 points of a shape
COPIES = 8  # of each training shape in a pass, with other points, turns, and draws of a frame
TESTED = 4  # of each held-out shape, so that chance in the points counts less


class Row(NamedTuple):
    """A network and a way."""

    name: str
    tables: dict[str, Any]  # of an experiment, see `config`


def rows_of(table: Mapping[str, Any], networks: list[str], ways: list[str]) -> Iterator[Row]:
    """All rows that are asked for."""
    for network in networks:
        chosen = table["networks"][network]
        for way in chosen["ways"]:
            if way not in ways:
                continue
            options = table["ways"][way]
            frames = options.get("frames")
            epochs = round(chosen["epochs"] * options.get("share", 1))
            built = chosen["table"]
            if frames is not None:
                built = {"name": "symmetrized", "backbone": built} | frames
            tables = {key: table[key] for key in ("data", "outputs", "loss")}
            tables["network"] = built | {"irreps_out": table["outputs"][0]["irreps"]}
            rate = chosen.get("learning_rate", table["optimizer"]["learning_rate"])
            tables["optimizer"] = table["optimizer"] | {"learning_rate": rate}
            augment = [*table["train"]["augment"], *options.get("augment", [])]
            tables["train"] = table["train"] | {"epochs": epochs, "augment": augment}
            name = network if way == "none" else f"{network}, {way}"
            yield Row(name, tables | {"name": f"furniture-{network}-{way}"})


def outward(structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """With their normals, whose sides the data do not say, turned away from the mean."""
    return tuple(
        s.replace(inputs={**s.inputs, "normals": np.asarray(orient(s.inputs["normals"], arms))})
        for s in structures
        for arms in [s.positions - s.positions.mean(0)]
    )


def drawn(structures: Sequence[Structure], seed: int) -> tuple[Structure, ...]:
    """Each with a draw of its frame, which training uses and tests do without."""
    numbers = np.random.default_rng(seed).uniform(size=len(structures))
    with_draw = lambda s, u: s.replace(inputs={**s.inputs, "draw": np.full(len(s), u)})
    return tuple(with_draw(s, u) for s, u in zip(structures, numbers, strict=True))


def accuracies(row: Row, data: datasets.Dataset, seed: int) -> dict[str, Any]:
    """Of the last averaged parameters on the held-out shapes, and what the training took."""
    study = config.from_tables(row.tables)
    train = drawn(sampled(data.train, POINTS, COPIES, 2 * seed), seed)
    test = sampled(data.valid, POINTS, TESTED, 2 * seed + 1)
    return columns(
        lambda how: study,
        data,
        {how: turned(train, how, 2 * seed, UPRIGHT) for how in TURNS},
        {how: turned(test, how, 2 * seed + 1, UPRIGHT) for how in TURNS},
        seed,
        lambda model, shapes: config.evaluate(model, shapes)["targets.label.accuracy"],
    )


def majority(data: datasets.Dataset) -> float:
    """The accuracy of the training shapes' largest class."""
    of_train, of_test = (
        [int(s.properties.targets["label"]) for s in split] for split in (data.train, data.valid)
    )
    most = Counter(of_train).most_common(1)[0][0]
    return float(np.mean(np.array(of_test) == most))


def summary(seeds: Mapping[str, Mapping[str, Any]], epochs: int) -> dict[str, Any]:
    """Mean and spread of each column, and all that was found."""
    last = list(seeds.values())[-1]
    spread = lambda a: {"mean": float(np.mean(a)), "std": float(np.std(a))}
    return {
        "accuracy": {c: spread([found[c] for found in seeds.values()]) for c in COLUMNS},
        "parameters": last["parameters"],
        "epochs": epochs,
        "seconds": float(np.mean([found["seconds"] for found in seeds.values()])),
        "seeds": seeds,
    }


def main() -> None:
    table = tomllib.loads((HERE / "furniture" / "rows.toml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--networks", nargs="+", choices=table["networks"], default=list(table["networks"])
    )
    parser.add_argument("--ways", nargs="+", choices=table["ways"], default=list(table["ways"]))
    chosen = parser.parse_args()
    path = FOLDER / "furniture.json"
    found = json.loads(path.read_text()) if path.exists() else {"majority": {}, "rows": {}}
    found = {key: found[key] for key in ("majority", "rows")}
    for seed in range(chosen.seeds):
        data = config.data_of({**table["data"], "seed": seed})
        data = replace(data, train=outward(data.train), valid=outward(data.valid))
        found["majority"][str(seed)] = majority(data)
        for row in rows_of(table, chosen.networks, chosen.ways):
            epochs = row.tables["train"]["epochs"]
            before = found["rows"].get(row.name, {})
            seeds = dict(before["seeds"]) if before.get("epochs") == epochs else {}
            if str(seed) not in seeds:
                seeds[str(seed)] = accuracies(row, data, seed)
                found["rows"][row.name] = summary(seeds, epochs)
                write("furniture", found, "python experiments/furniture.py")
            print(seed, row.name, json.dumps(seeds[str(seed)]), flush=True)


if __name__ == "__main__":
    main()
