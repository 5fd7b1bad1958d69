"""Bootstrap: as many structures as there are, drawn with repetition.

Members of an ensemble that see different draws differ by what the data leave open, and not only by
their first parameters.

References:
    Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7, 1 (1979).
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["drawn"]

T = TypeVar("T")


def drawn(rows: Sequence[T], seed: int | None) -> list[T]:
    """The draw of that seed; all of them, once, without a seed."""
    if seed is None:
        return list(rows)
    return [rows[i] for i in np.random.default_rng(seed).integers(len(rows), size=len(rows))]
