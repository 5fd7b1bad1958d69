"""Trees of arrays kept in a file that nobody else sees and that disappears with the process."""

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["Spool"]


class Spool(Sequence[Any]):
    """A sequence of trees on disk; what was appended comes back bit for bit.

    A record is the number of its kind (structure, dtypes and ranks, kept in memory: there are few),
    the shapes of its arrays, and their bytes.

    Args:
        folder: on the disk that holds the file.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._starts = [0]
        self._kinds: dict[Any, int] = {}

    def append(self, tree: Any) -> None:
        """Put a tree of arrays behind the others.

        Raises:
            OSError: the disk is full.
        """
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        kind = structure, tuple((a.dtype.str, a.ndim) for a in arrays)
        number = self._kinds.setdefault(kind, len(self._kinds))
        head = np.array([number, *(n for a in arrays for n in a.shape)], np.int64)
        record = b"".join([head.tobytes(), *(a.tobytes() for a in arrays)])
        try:
            self._file.write(record)
            self._file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"data in {self.folder} cannot be written ({error.strerror}); training data that "
                "are read from a packed file need as much room again, and their edges; make room",
            ) from error
        self._starts.append(self._starts[-1] + len(record))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} records; got index {index}")
        start, end = self._starts[index % len(self)], self._starts[index % len(self) + 1]
        record = memoryview(self._read(start, end))
        number = int(np.frombuffer(record[:8], np.int64)[0])
        structure, kinds = list(self._kinds)[number]
        ranks = sum(ndim for _, ndim in kinds)
        shapes = np.frombuffer(record[8 : 8 * (1 + ranks)], np.int64).tolist()
        at, leaves = 8 * (1 + ranks), []
        for dtype, ndim in kinds:
            shape, shapes = shapes[:ndim], shapes[ndim:]
            size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(record[at : at + size], dtype).reshape(shape)
            leaves.append(array.copy())  # so that one that is kept does not keep the record
            at += size
        return jax.tree.unflatten(structure, leaves)

    def _read(self, start: int, end: int) -> bytes:
        parts, at = [], start
        while at < end:  # one read returns 2 GiB at most
            parts.append(os.pread(self._file.fileno(), end - at, at))
            at += len(parts[-1])
        return b"".join(parts)
