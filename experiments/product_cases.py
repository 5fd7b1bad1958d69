"""What is multiplied in the study of products: the same numbers for every library.

Imported by the interpreters of the peers too, so it needs numpy alone.

    A  features of edges times harmonics, a weight for each edge, path and channel, paths kept apart
    B  two sets of features of a single channel, no weights, paths summed (where a library can)
    C  a convolution: gather from senders, A with harmonics of the edge vectors, sum at receivers
"""

from typing import NamedTuple

import numpy as np

NODES = 256  # of table C; its edges are spread evenly over the receivers


class Case(NamedTuple):
    """A row of a table: all degrees up to lmax on both sides and in the result."""

    table: str
    lmax: int
    channels: int
    edges: int  # of table B: the batch

    @property
    def name(self) -> str:
        return f"L={self.lmax} channels={self.channels} edges={self.edges}"


def case_of(table: str, name: str) -> Case:
    """The inverse of `Case.name`."""
    return Case(table, *(int(part.split("=")[1]) for part in name.split()))


def paths(lmax: int) -> list[tuple[int, int, int]]:
    """Couplings l1, l2 -> l3 of natural parity, all up to lmax."""
    degrees = range(lmax + 1)
    return [
        (l1, l2, l3)
        for l1 in degrees
        for l2 in degrees
        for l3 in degrees
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]


def kept_rows(lmax: int) -> int:
    """Rows of the result where paths are kept apart."""
    return sum(2 * l3 + 1 for _, _, l3 in paths(lmax))


class Numbers(NamedTuple):
    """Random operands in float32; features are `[..., (lmax+1)**2, channel]`, degree by degree.

    Attributes:
        x: features, of edges or (table C) of nodes.
        y: of table B the other factor.
        vectors: `[edge, 3]`, of edges; their harmonics are the other factor of A and C.
        weights: `[edge, path, channel]`.
        senders, receivers: `[edge]`, of table C; receivers are sorted.
    """

    x: np.ndarray
    y: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray


def numbers(case: Case) -> Numbers:
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    rows, edges = (case.lmax + 1) ** 2, case.edges
    return Numbers(
        x=normal(NODES if case.table == "C" else edges, rows, case.channels),
        y=normal(edges if case.table == "B" else 0, rows, case.channels),
        vectors=normal(edges, 3),
        weights=normal(0 if case.table == "B" else edges, len(paths(case.lmax)), case.channels),
        senders=rng.integers(0, NODES, edges, np.int32),
        receivers=(np.arange(edges) * NODES // edges).astype(np.int32),
    )
