"""Data that do not fit on the device pass through it in chunks of one shape.

The structures are dealt to chunks once, at random by the seed. Every chunk is padded to the same
sizes, so that one compiled epoch serves them all; while one is trained on, the next is put together
and copied. In each pass the chunks come in a new random order and the structures of each are
shuffled among themselves; which structures share a chunk stays. So every structure is seen once in
a pass, and order and shuffle depend on the seed and the pass alone.

Where the samples are kept on disk (`Spool`), so are the chunks, put together once; then the host
holds one chunk at a time.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from geojax.graphs import Sample, Store, store
from geojax.training.order import sort_by_size
from geojax.training.spool import Spool

__all__ = ["Chunks"]


class Chunks:
    """Samples as stores of one shape.

    Args:
        samples: indexable; it may read from a file when indexed.
        limit: bytes of device memory that two chunks may take together; None: one chunk of all.
        dtype: of floating-point arrays on the device.
        by_size: sort each chunk by size, for a stratified order.
        seed: of the dealing.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        limit: float | None = None,
        dtype: Any = np.float32,
        by_size: bool = False,
        seed: int = 0,
    ):
        self.samples, self.dtype, self.by_size, self.seed = samples, dtype, by_size, seed
        folder = getattr(samples, "folder", None)
        self._kept = None if folder is None else Spool(folder)
        self._slots = max(int(s.graph.n_node[0]) for s in samples)
        size = sum(_bytes(s) for s in samples) * (np.dtype(dtype).itemsize / 8)
        count = 1 if limit is None else int(np.ceil(2 * size / limit))
        count = min(max(count, 1), len(samples))
        dealt = np.arange(len(samples))
        if count > 1:
            dealt = np.random.default_rng([seed, 1]).permutation(dealt)
        self.members = [np.sort(part) for part in np.array_split(dealt, count)]
        self._all = self.build(0) if count == 1 else None
        self._rows = None if count == 1 else self._most()

    def __len__(self) -> int:
        return len(self.members)

    def ids(self, chunk: int) -> np.ndarray:
        """The number of each sample of a chunk, in the order of its store."""
        members = self.members[chunk]
        if self.by_size:
            members = members[sort_by_size([self.samples[i] for i in members])]
        return members

    def order(self, turn: int) -> np.ndarray:
        """The chunks in the order of that pass over the data."""
        return np.random.default_rng([self.seed, 2, turn]).permutation(len(self))

    def build(self, chunk: int) -> Store:
        """The store of one chunk, on the host."""
        chosen = [self.samples[i] for i in self.ids(chunk)]
        return store(chosen, self.dtype, hessian_slots=self._slots)

    def __getitem__(self, chunk: int) -> Store:
        """The store of one chunk, padded to the shape that all chunks share."""
        if self._all is not None:
            return self._all
        assert self._rows is not None
        whole = self.build(chunk) if self._kept is None else self._kept[chunk]
        return jax.tree.map(lambda a, rows: _pad(a, rows), whole, self._rows)

    def _most(self) -> Any:
        """The rows that each array needs so that every chunk fits."""
        rows = []
        for i in range(len(self)):
            whole = self.build(i)
            rows.append(jax.tree.map(len, whole))
            if self._kept is not None:
                self._kept.append(whole)
        return jax.tree.map(lambda *n: max(n), *rows)


def _bytes(sample: Sample) -> int:
    return sum(np.asarray(a).nbytes for a in jax.tree.leaves(sample))


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
