"""The protocol of turned shapes: train on z or SO(3), test on both: z/z, z/SO(3), SO(3)/SO(3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from geojax.config import Experiment
from geojax.datasets import Dataset
from geojax.graphs import Structure
from geojax.training import train

TURNS = ("z", "SO(3)")
COLUMNS = {"z/z": ("z", "z"), "z/SO(3)": ("z", "SO(3)"), "SO(3)/SO(3)": ("SO(3)", "SO(3)")}


def sampled(
    structures: Sequence[Structure], n_points: int, copies: int, seed: int
) -> tuple[Structure, ...]:
    """So many samples of the points of each cloud; all clouds, then all again."""
    rng = np.random.default_rng(seed)
    return tuple(
        structure.take(np.sort(rng.permutation(len(structure))[:n_points]))
        for structure in list(structures) * copies
    )


def turned(
    structures: Sequence[Structure], how: str, seed: int, upright: int
) -> tuple[Structure, ...]:
    """Each cloud turned at random: about the axis `upright` ("z"), or any way ("SO(3)").

    Vectors among the inputs and the labels of nodes turn with it.
    """
    rng = np.random.default_rng(seed)
    result = []
    for structure in structures:
        if how == "z":
            turn = Rotation.from_rotvec(rng.uniform(0, 2 * np.pi) * np.eye(3)[upright])
        else:
            turn = Rotation.random(rng=rng)
        matrix = turn.as_matrix()
        with_vectors = lambda table, m=matrix: {
            key: value @ m.T if np.ndim(value) == 2 else value for key, value in table.items()
        }
        labels = structure.properties.node_targets
        result.append(
            structure.replace(
                positions=structure.positions @ matrix.T,
                inputs=with_vectors(structure.inputs),
                properties=structure.properties._replace(node_targets=with_vectors(labels)),
            )
        )
    return tuple(result)


def columns(
    study_of: Callable[[str], Experiment],
    data: Dataset,
    shapes: Mapping[str, Sequence[Structure]],
    tests: Mapping[str, Sequence[Structure]],
    seed: int,
    measure: Callable[[Any, Sequence[Structure]], Any],
) -> dict[str, Any]:
    """What is measured of the last averaged parameters in each column, and what training took.

    Args:
        study_of: the study of each of TURNS.
        shapes, tests: of each, to train and to test on.
        measure: of a model and the shapes that it is tested on.
    """
    found: dict[str, Any] = {"seconds": 0.0}
    for how in TURNS:
        study = study_of(how)
        model = train(
            study.network,
            replace(data, train=tuple(shapes[how]), valid=(), test=()),
            loss=study.loss,
            outputs=study.outputs,
            optimizer=study.optimizer,
            options=replace(study.options, seed=seed, watch="loss"),
            folder=Path("runs") / f"{study.name}-{how}-{seed}",
        )
        for column, (trained, tested) in COLUMNS.items():
            if trained == how:
                found[column] = measure(model, tests[tested])
        found["seconds"] += model.card.training["seconds"]
        found["parameters"] = model.card.training["plan"]["parameters"]
    return found
