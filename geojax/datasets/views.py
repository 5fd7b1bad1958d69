"""Views: every cloud twice in one structure, for learning without labels.

The two views are the parts 0 and 1 of a structure (see `graphs.parts`), each of points drawn by
itself. The label `targets.views` [3, 3] is how the second is turned against the first: not at all
here. The augmentation `{ kind = "rotation", partner = true }` turns the second view anew in every
pass, and the label with it.
"""

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset
from geojax.datasets.shapes import recast
from geojax.graphs import Properties, Structure

__all__ = ["views"]

CARD = {
    "description": "Clouds of points, each twice in a structure, other points in each",
    "licence": "that of the shapes",
    "source": "a recipe: datasets.views",
    "citation": "none",
    "units": {"length": "that of the shapes"},
    "published": "none",
}


@DATASETS.register("views")
def views(
    source: str = "furniture",
    n_points: int = 256,
    copies: int = 1,
    noise: float = 0.0,
    sampled: int = 1024,
    seed: int = 0,
) -> Dataset:
    """Two views of each shape, with the targets that the shape has beside `targets.views`.

    Args:
        source: the name of a data set of clouds, or a file, also of a mesh.
        n_points: of each view, at most.
        copies: of each shape, drawn anew.
        noise: standard deviation of what is added to positions, in their unit.
        sampled: points of a shape that those of its views are among.
        seed: of everything.

    Raises:
        ValueError: as `shapes.recast`; no points, or a negative noise.
    """
    if n_points < 1 or noise < 0:
        raise ValueError(f"a view has points, and noise is zero or more; got {n_points=}, {noise=}")

    def twice(shape: Structure, rng: np.random.Generator) -> Structure:
        rows = [np.sort(rng.permutation(len(shape))[:n_points]) for _ in range(2)]
        both = shape.take(np.concatenate(rows))
        part = np.repeat([0.0, 1.0], [len(r) for r in rows])
        return both.replace(
            positions=both.positions + noise * rng.normal(size=both.positions.shape),
            inputs={**both.inputs, "part": part},
            properties=Properties(targets=dict(shape.properties.targets) | {"views": np.eye(3)}),
        )

    made = recast(twice, source, copies, sampled, seed)
    card = CARD | {"shapes": source}
    return Dataset("views", made["train"], made["valid"], made["test"], card)
