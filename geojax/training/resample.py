"""Bootstrap: as many structures as there are, drawn with repetition.

Members of an ensemble that see different draws differ by what the data leave open, and not only by
their first parameters.

References:
    Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7, 1 (1979).
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from geojax.datasets.packed import Chosen

__all__ = ["drawn"]

T = TypeVar("T")


def drawn(rows: Sequence[T], seed: int | None) -> Sequence[T]:
    """The draw of that seed; all of them, once, without a seed. Rows in a file stay there."""
    if seed is None:
        return rows
    draw = Chosen(rows, np.random.default_rng(seed).integers(len(rows), size=len(rows)))
    return draw if draw.folder is not None else list(draw)
