"""Tetris: eight pieces of four points, two of them mirror images; the smallest 3-D classification.

An invariant network that sees distances alone cannot tell the two handed pieces apart; one with
pseudoscalars (lmax ≥ 1 and products) can.

References:
    Thomas et al., "Tensor field networks", arXiv:1802.08219, section 5.1.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from geojax.datasets.dataset import DATASETS, Dataset
from geojax.graphs import Properties, Structure

__all__ = ["PIECES", "tetris"]

PIECES = {  # unit cubes by their centres
    "left screw": ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)),
    "right screw": ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)),
    "square": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
    "line": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)),
    "corner": ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "L": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)),
    "T": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)),
    "zigzag": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)),
}


@DATASETS.register("tetris")
def tetris(copies: int = 4, seed: int = 0) -> Dataset:
    """The eight pieces as they are for training, and rotated copies to validate and test.

    Bare points (species 0); the label is `targets.label`, 0 to 7, in the order of `PIECES`.

    Args:
        copies: random rotations of each piece, in the validation and in the test set.
        seed: of the rotations.

    Raises:
        ValueError: `copies` is not positive.
    """
    if copies < 1:
        raise ValueError(f"copies is at least 1; got {copies}")
    quaternions = np.random.default_rng(seed).normal(size=(2 * copies, 4))  # uniform rotations
    turns = Rotation.from_quat(quaternions).as_matrix()
    return Dataset(
        "tetris",
        train=_pieces(np.eye(3)[None]),
        valid=_pieces(turns[:copies]),
        test=_pieces(turns[copies:]),
        card={
            "description": "Eight pieces of four points, two of them mirror images",
            "licence": "Apache-2.0, generated",
            "citation": "Thomas et al., arXiv:1802.08219",
            "units": {"length": "edge of a cube"},
            "classes": list(PIECES),
        },
    )


def _pieces(turns: np.ndarray) -> tuple[Structure, ...]:
    return tuple(
        Structure(
            (np.array(points, float) - np.mean(points, 0)) @ turn.T,
            np.zeros(len(points), np.int32),
            properties=Properties(targets={"label": np.int32(label)}),
            info={"name": name},
        )
        for turn in turns
        for label, (name, points) in enumerate(PIECES.items())
    )
