"""Five charged particles: from positions and velocities to positions ten frames later (EGNN)."""

from collections.abc import Mapping

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, folder
from geojax.graphs import Properties, Structure

__all__ = ["nbody"]

FROM, TO = 30, 40  # frames
CARD = {
    "description": "5 charges ±1 under Coulomb forces in free space; frame 30 to frame 40",
    "licence": "own simulation, Apache-2.0",
    "level": "exact Coulomb forces, clipped at 100; leapfrog, dt 0.001, a frame every 100 steps",
    "source": "made anew with the settings and the random stream of github vgsatorras/egnn e9ca6c0",
    "citation": "Satorras, Hoogeboom, Welling, ICML 2021; Kipf et al., ICML 2018",
    "units": {"length": "1", "velocity": "1", "charge": "1"},
    "published": "test MSE: Linear .0819, SE(3)-Transformer .0244, TFN .0155, GNN .0107, Radial "
    "Field .0104, EGNN .0071, SEGNN .0043, CGENN .0039",
}


@DATASETS.register("nbody")
def nbody(n_train: int = 3000) -> Dataset:
    """Bare points (species 0) with inputs `velocities` [node, 3] and `charges` [node].

    The label is `node_targets.positions` [node, 3], the positions of frame 40.

    Args:
        n_train: only the first so many of 3000 training samples.

    Raises:
        ValueError: `n_train` is not between 1 and 3000.
    """
    path = folder("nbody_charged") / "nbody_small_seed43.npz"
    with np.load(path, allow_pickle=False) as file:
        found = {key: file[key] for key in file.files}
    parts = {part: _structures(found, part) for part in ("train", "valid", "test")}
    if not 0 < n_train <= len(parts["train"]):
        raise ValueError(f"n_train is 1 to {len(parts['train'])}; got {n_train}")
    parts["train"] = parts["train"][:n_train]
    return Dataset("nbody", parts["train"], parts["valid"], parts["test"], CARD)


def _structures(found: Mapping[str, np.ndarray], part: str) -> tuple[Structure, ...]:
    frames = found["frames"].tolist()
    start, end = frames.index(FROM), frames.index(TO)
    charges = found[f"charges_{part}"].astype(np.float32)
    x, v = found[f"loc_{part}"], found[f"vel_{part}"]
    points = np.zeros(x.shape[2], np.int32)
    return tuple(
        Structure(
            x[i, start],
            points,
            inputs={"velocities": v[i, start], "charges": charges[i]},
            properties=Properties(node_targets={"positions": x[i, end]}),
        )
        for i in range(len(x))
    )
