"""Partial overlap: synthetic registration pairs of any clouds, which share as much as is asked."""

from collections.abc import Sequence

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset
from geojax.datasets.pairs import partial_pair
from geojax.datasets.shapes import recast
from geojax.graphs import Structure

__all__ = ["partial_overlap"]

CARD = {
    "description": "Pairs of crops of one shape by half-spaces, other points of the surface in "
    "each, in random poses",
    "licence": "that of the shapes",
    "source": "a recipe: datasets.pairs.partial_pair",
    "citation": "in the manner of Yew, Lee, RPM-Net, CVPR 2020, and Huang et al., PREDATOR, CVPR "
    "2021, who crop ModelNet",
    "units": {"length": "that of the shapes"},
    "published": "none",
}


@DATASETS.register("partial-overlap")
def partial_overlap(
    source: str = "furniture",
    overlap: float | Sequence[float] = (0.3, 1.0),
    n_points: int | None = None,
    copies: int = 1,
    noise: float = 0.01,
    max_angle: float = 180.0,
    max_shift: float = 0.5,
    sampled: int = 2048,
    seed: int = 0,
) -> Dataset:
    """Registration pairs, see `datasets.pairs`; each shape gives `copies` of them.

    Args:
        source: the name of a data set of clouds, or a file, also of a mesh.
        overlap: of all pairs, or the least and the largest: then even in between.
        n_points: at most so many points in each cloud.
        copies: pairs of each shape.
        noise, max_angle, max_shift: see `partial_pair`.
        sampled: points of a shape before it is halved and cropped.
        seed: of everything.

    Raises:
        ValueError: as `partial_pair` and `shapes.recast`; not one or two overlaps.
    """
    ends = np.ravel(np.asarray(overlap, np.float64))
    if len(ends) not in (1, 2):
        raise ValueError(f"an overlap is one number or two; got {overlap=}")

    def pair(shape: Structure, rng: np.random.Generator) -> Structure:
        share = float(rng.uniform(ends[0], ends[-1]))
        return partial_pair(
            shape,
            rng,
            overlap=share,
            n_points=n_points,
            noise=noise,
            max_angle=max_angle,
            max_shift=max_shift,
        )

    made = recast(pair, source, copies, sampled, seed)
    card = CARD | {"shapes": source}
    return Dataset("partial-overlap", made["train"], made["valid"], made["test"], card)
