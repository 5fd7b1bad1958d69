"""Is an invariant network's accuracy the same however shapes are turned in training and test?

run:     python experiments/furniture.py [--seeds 3]
time:    about half an hour a seed on two CPU cores
expect:  the rows z/z, z/SO(3), SO(3)/SO(3) equal within noise
reached: results/furniture-egnn.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from results import write
from scipy.spatial.transform import Rotation

from geojax import config
from geojax.graphs import Structure
from geojax.training import train

HERE = Path(__file__).parent
ROWS = {"z/z": ("z", "z"), "z/SO(3)": ("z", "SO(3)"), "SO(3)/SO(3)": ("SO(3)", "SO(3)")}
UPRIGHT = 1  # the data's upright axis is y


def turned(structures: tuple[Structure, ...], how: str, seed: int) -> tuple[Structure, ...]:
    """Each cloud turned at random: about the upright axis ("z"), or any way ("SO(3)")."""
    rng = np.random.default_rng(seed)
    result = []
    for structure in structures:
        if how == "z":
            matrix = Rotation.from_rotvec(
                rng.uniform(0, 2 * np.pi) * np.eye(3)[UPRIGHT]
            ).as_matrix()
        else:
            matrix = Rotation.random(rng=rng).as_matrix()
        inputs = {name: value @ matrix.T for name, value in structure.inputs.items()}
        result.append(structure.replace(positions=structure.positions @ matrix.T, inputs=inputs))
    return tuple(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    study = config.read(HERE / "furniture-egnn.toml")
    data = config.data_of(study.data)
    rows: dict[str, list[float]] = {name: [] for name in ROWS}
    for seed in range(arguments.seeds):
        for name, (of_train, of_test) in ROWS.items():
            shaken = replace(
                data,
                train=turned(data.train, of_train, 3 * seed),
                valid=turned(data.valid, of_train, 3 * seed + 1),
                test=turned(data.test, of_test, 3 * seed + 2),
            )
            model = train(
                study.network,
                shaken,
                loss=study.loss,
                outputs=study.outputs,
                optimizer=study.optimizer,
                options=replace(study.options, seed=seed),
                folder=Path("runs") / f"furniture-{name.replace('/', '-')}-{seed}",
            )
            rows[name].append(config.evaluate(model, shaken.test)["targets.label.accuracy"])
            print(json.dumps({name: rows[name]}))
    spread = {
        n: {"mean": float(np.mean(a)), "std": float(np.std(a)), "seeds": a} for n, a in rows.items()
    }
    write("furniture-egnn", {"accuracy": spread})


if __name__ == "__main__":
    main()
