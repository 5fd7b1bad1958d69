"""Is an invariant network's accuracy the same however shapes are turned in training and test?

A fifth of each class is held out (other shapes with every seed) and only tested on: nothing is
chosen by it, the last averaged parameters count. Rows: shapes of training and test turned about the
upright axis (z) or any way (SO(3)); and fewer training shapes, for the learning curve.

run:     python experiments/furniture.py [--seeds 3]
time:    half an hour on two CPU cores
expect:  the rows z/z, z/SO(3), SO(3)/SO(3) equal within noise; majority class 13 %
reached: results/furniture-egnn.json
"""

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from results import write
from scipy.spatial.transform import Rotation

from geojax import config, datasets
from geojax.graphs import Structure
from geojax.training import train

HERE = Path(__file__).parent
ROWS = {"z/z": ("z", "z"), "z/SO(3)": ("z", "SO(3)"), "SO(3)/SO(3)": ("SO(3)", "SO(3)")}
FRACTIONS = (0.25, 0.5, 1.0)
UPRIGHT = 1  # the data's upright axis is y


def turned(structures: tuple[Structure, ...], how: str, seed: int) -> tuple[Structure, ...]:
    """Each cloud turned at random: about the upright axis ("z"), or any way ("SO(3)")."""
    rng = np.random.default_rng(seed)
    result = []
    for structure in structures:
        if how == "z":
            turn = Rotation.from_rotvec(rng.uniform(0, 2 * np.pi) * np.eye(3)[UPRIGHT])
        else:
            turn = Rotation.random(rng=rng)
        matrix = turn.as_matrix()
        vectors = {k: v @ matrix.T for k, v in structure.inputs.items() if v.ndim == 2}
        inputs = {**structure.inputs, **vectors}
        result.append(structure.replace(positions=structure.positions @ matrix.T, inputs=inputs))
    return tuple(result)


def accuracy(study: config.Experiment, data: datasets.Dataset, folder: str, seed: int) -> float:
    """Of the last averaged parameters on the test shapes."""
    model = train(
        study.network,
        data,
        loss=study.loss,
        outputs=study.outputs,
        optimizer=study.optimizer,
        options=replace(study.options, seed=seed, watch="loss"),
        folder=Path("runs") / folder,
    )
    return config.evaluate(model, data.test)["targets.label.accuracy"]


def some(structures: tuple[Structure, ...], fraction: float, seed: int) -> tuple[Structure, ...]:
    """A random part of the training shapes."""
    order = np.random.default_rng(seed).permutation(len(structures))
    return tuple(structures[i] for i in order[: round(fraction * len(structures))])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    study = config.read(HERE / "furniture-egnn.toml")
    rows: dict[str, list[float]] = {name: [] for name in ROWS}
    curve: dict[str, list[float]] = {}
    majority: list[float] = []
    for seed in range(arguments.seeds):
        data = config.data_of({**study.data, "seed": seed})
        labels = [int(s.properties.targets["label"]) for s in data.train]
        most = Counter(labels).most_common(1)[0][0]
        of_test = [int(s.properties.targets["label"]) for s in data.valid]
        majority.append(float(np.mean(np.array(of_test) == most)))
        for name, (how_train, how_test) in ROWS.items():
            shapes = turned(data.train, how_train, 2 * seed)
            test = turned(data.valid, how_test, 2 * seed + 1)
            for fraction in FRACTIONS if name == "z/SO(3)" else FRACTIONS[-1:]:
                chosen = some(shapes, fraction, seed)
                part = replace(data, train=chosen, valid=(), test=test)
                folder = f"furniture-{name.replace('/', '-')}-{fraction}-{seed}"
                found = accuracy(study, part, folder, seed)
                if fraction == 1.0:
                    rows[name].append(found)
                if name == "z/SO(3)":
                    curve.setdefault(str(len(chosen)), []).append(found)
            print(json.dumps({name: rows[name], "curve": curve}), flush=True)
    spread = lambda a: {"mean": float(np.mean(a)), "std": float(np.std(a)), "seeds": a}
    write(
        "furniture-egnn",
        {
            "test": {"majority": float(np.mean(majority))},
            "accuracy": {name: spread(a) for name, a in rows.items()},
            "curve": {size: spread(a) for size, a in curve.items()},
        },
    )


if __name__ == "__main__":
    main()
