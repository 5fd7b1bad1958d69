"""Broken shapes: any clouds cut into pieces, each in a random pose, for shape assembly."""

from collections.abc import Sequence

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset
from geojax.datasets.pieces import broken_shape
from geojax.datasets.shapes import recast
from geojax.graphs import Structure

__all__ = ["broken_shapes"]

CARD = {
    "description": "Shapes cut by random planes into pieces, each in a random pose",
    "licence": "that of the shapes",
    "source": "a recipe: datasets.pieces.broken_shape",
    "citation": "the task of Wu et al., Leveraging SE(3) equivariance for learning 3D geometric "
    "shape assembly, ICCV 2023; cut by planes, not fractured as in Breaking Bad",
    "units": {"length": "that of the shapes"},
    "published": "none",
}


@DATASETS.register("broken-shapes")
def broken_shapes(
    source: str = "furniture",
    parts: int | Sequence[int] = (2, 5),
    n_points: int = 1024,
    copies: int = 1,
    noise: float = 0.0,
    max_shift: float = 1.0,
    sampled: int = 2048,
    seed: int = 0,
) -> Dataset:
    """Shapes in pieces, see `datasets.pieces`; each shape gives `copies` of them.

    Args:
        source: the name of a data set of clouds, or a file, also of a mesh.
        parts: pieces of all shapes, or the least and the largest number: then even in between.
        n_points: at most so many points of all pieces together.
        copies: of each shape, broken anew.
        noise, max_shift: see `broken_shape`.
        sampled: points of a shape before `n_points` are chosen.
        seed: of everything.

    Raises:
        ValueError: as `broken_shape` and `shapes.recast`; not one or two numbers of parts, or they
            fall.
    """
    ends = np.ravel(np.asarray(parts))
    if len(ends) not in (1, 2) or ends.dtype.kind not in "iu" or ends[0] > ends[-1]:
        raise ValueError(f"parts are one whole number, or two that rise; got {parts=}")

    def broken(shape: Structure, rng: np.random.Generator) -> Structure:
        count = int(rng.integers(ends[0], ends[-1], endpoint=True))
        return broken_shape(
            shape,
            rng,
            n_parts=count,
            places=int(ends[-1]),
            n_points=n_points,
            noise=noise,
            max_shift=max_shift,
        )

    made = recast(broken, source, copies, sampled, seed)
    card = CARD | {"shapes": source}
    return Dataset("broken-shapes", made["train"], made["valid"], made["test"], card)
