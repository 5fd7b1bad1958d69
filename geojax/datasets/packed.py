"""Structures end to end in one HDF5 file, read a block at a time: for data larger than memory.

n_node [structure], species [node], positions [node, 3] [Å], cell [structure, 3, 3] (NaN without
one), pbc [structure, 3]; inputs/NAME [node, …]; labels/NAME [node, …] or [structure, …] in geojax's
units, and known/NAME [structure], False where a structure lacks the label; info [structure], JSON.
Attributes: format, and the names of classes, JSON.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geojax.files import replacing
from geojax.graphs import Properties, Structure, leaves, replace_leaves
from geojax.graphs.structure import is_per_node

__all__ = ["Chosen", "Packed", "is_packed", "open_packed", "pack"]

T = TypeVar("T")

FORMAT = "geojax structures 1"
BLOCK = 256  # structures that are read or written at once
ROWS = 65536  # of an array that are copied at once
GEOMETRY = ("species", "positions", "cell", "pbc")


class Packed(Sequence[Structure]):
    """The structures of a packed file; one block of them is in memory at a time.

    Attributes:
        classes: what the numbers of targets stand for, in the order of their numbers; may be none.

    Raises:
        ImportError: h5py is not installed.
        ValueError: another kind of file, or one whose arrays do not fit together.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._file = _h5py().File(self.path, "r")
        if self._file.attrs.get("format") != FORMAT:
            raise ValueError(
                f"{self.path}: a packed file says that its format is {FORMAT!r}; this one says "
                f"{self._file.attrs.get('format')!r}; write it with geojax convert"
            )
        self.classes: tuple[str, ...] = tuple(json.loads(self._file.attrs.get("classes", "[]")))
        self._ends = np.cumsum([0, *self._file["n_node"][()]])
        self._block, self._held = -1, []
        for name, rows in _arrays(self._file):
            wanted = self._ends[-1] if _is_node(name) else len(self)
            if len(rows) != wanted:
                raise ValueError(
                    f"{self.path}: the arrays of a packed file have a row for each node or "
                    f"structure; {name} has {len(rows)} for {wanted}; write it again"
                )

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} structures; got index {index}")
        block, place = divmod(int(index) % len(self), BLOCK)
        if block != self._block:
            self._held, self._block = list(self._read(block)), block
        return self._held[place]

    def _read(self, block: int) -> Iterator[Structure]:
        first, last = block * BLOCK, min((block + 1) * BLOCK, len(self))
        ends = self._ends[first : last + 1]
        rows = {
            name: array[ends[0] : ends[-1]] if _is_node(name) else array[first:last]
            for name, array in _arrays(self._file)
        }
        ends = ends - ends[0]
        for i in range(last - first):
            part = lambda name, i=i: (
                rows[name][ends[i] : ends[i + 1]] if _is_node(name) else rows[name][i]
            )
            labels = {
                name[7:]: part(name)[()]
                for name in rows
                if name.startswith("labels/") and rows[f"known/{name[7:]}"][i]
            }
            cell, pbc = part("cell"), part("pbc")
            yield Structure(
                part("positions"),
                part("species"),
                None if np.isnan(cell).all() else cell,
                (bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
                {name[7:]: part(name) for name in rows if name.startswith("inputs/")},
                replace_leaves(Properties(), labels),
                json.loads(part("info")),
            )


class Chosen(Sequence[T]):
    """Some of the rows of a sequence, in the order given, read when asked for."""

    def __init__(self, rows: Sequence[T], indices: Sequence[int] | np.ndarray):
        self.rows, self.indices = rows, np.asarray(indices, np.int64)

    @property
    def folder(self) -> Any:
        """Where the rows are kept, if they are kept in files."""
        return getattr(self.rows, "folder", None)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Chosen(self.rows, self.indices[index])
        return self.rows[int(self.indices[index])]


def open_packed(path: str | Path, told: Mapping[str, Any]) -> Packed:
    """The structures of a packed file.

    Args:
        told: keys, units, inputs, …: of which there must be none; classes where they are the same,
            or the file has no names of its own.

    Raises:
        ImportError, ValueError: as `Packed`; something is told of what the file says itself.
    """
    found = Packed(path)
    given = tuple(told.get("classes", ()))
    if given and found.classes not in ((), given):
        raise ValueError(
            f"{path}: classes have the same numbers in all files; here they are "
            f"{', '.join(found.classes)}, and {', '.join(given)} elsewhere; convert it again with "
            "the classes of the others"
        )
    if wrong := sorted(name for name, value in told.items() if value and name != "classes"):
        raise ValueError(
            f"{path}: a packed file has its names and units; got {', '.join(wrong)}; state them "
            "where it is written, with geojax convert"
        )
    return found


def is_packed(path: str | Path) -> bool:
    """Whether a file is an HDF5 file of this layout."""
    path = Path(path).expanduser()
    if path.suffix not in (".h5", ".hdf5") or not path.is_file():
        return False
    try:
        with _h5py().File(path, "r") as file:
            return file.attrs.get("format") == FORMAT
    except OSError:
        return False


def pack(path: str | Path, structures: Iterable[Structure], *, classes: Sequence[str] = ()) -> int:
    """Write structures to a packed file, a block at a time; how many. It appears when complete.

    Args:
        classes: of targets that are classes: their names in the order of their numbers.

    Raises:
        ImportError: h5py is not installed.
        ValueError: no structures; structures differ in their inputs, or in the shape of an array;
            a Hessian, which has no place here; another ending than .h5 or .hdf5.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".h5", ".hdf5"):
        raise ValueError(f"a packed file ends in .h5 or .hdf5; got {path.name}")
    count, block = 0, []
    with replacing(path) as (unfinished,), _h5py().File(unfinished, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["classes"] = json.dumps(list(classes))
        for structure in structures:
            block.append(structure)
            count += 1
            if len(block) == BLOCK:
                _append(file, block)
                block = []
        if block:
            _append(file, block)
        if not count:
            raise ValueError(f"{path}: a packed file holds at least one structure; got none")
    return count


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py; pip install 'geojax[data]'") from error
    return h5py


def _arrays(file: Any) -> Iterator[tuple[str, Any]]:
    for name in (*GEOMETRY, "info"):
        yield name, file[name]
    for group in ("inputs", "labels", "known"):
        for name in file.get(group, ()):
            yield f"{group}/{name}", file[f"{group}/{name}"]


def _is_node(name: str) -> bool:
    group, _, label = name.partition("/")
    return (
        name in ("species", "positions")
        or group == "inputs"
        or (group == "labels" and is_per_node(label))
    )


def _append(file: Any, block: Sequence[Structure]) -> None:
    """Write a block behind what is there; labels that are new are unknown before."""
    before = (len(file["n_node"]), len(file["species"])) if "n_node" in file else (0, 0)
    sizes = np.array([len(s) for s in block], np.int64)
    none = np.full((3, 3), np.nan)
    info = [json.dumps({k: v for k, v in s.info.items() if _is_plain(v)}) for s in block]
    _extend(file, "n_node", sizes, 0)
    _extend(file, "species", np.concatenate([s.species for s in block]), 0)
    _extend(file, "positions", np.concatenate([s.positions for s in block]), 0)
    _extend(file, "cell", np.array([none if s.cell is None else s.cell for s in block]), 0)
    _extend(file, "pbc", np.array([s.pbc for s in block]), 0)
    _extend(file, "info", np.array(info, _h5py().string_dtype()), 0)
    inputs = {frozenset(s.inputs) for s in block}
    inputs |= {frozenset(file["inputs"] if "inputs" in file else ())} if before[0] else set()
    if len(inputs) > 1:
        raise ValueError(
            "structures of one file have the same inputs; got both "
            f"{' and '.join(str(sorted(names)) for names in sorted(inputs, key=sorted)[:2])}"
        )
    for name in block[0].inputs:
        _extend(file, f"inputs/{name}", _joined(name, [s.inputs[name] for s in block]), 0)
    labels = [leaves(s.properties) for s in block]
    names = set(file["labels"] if "labels" in file else ()).union(*labels)
    if "hessian" in names:
        raise ValueError("a packed file has no place for Hessians; train on them from other files")
    for name in sorted(names):
        like = np.asarray(next((found[name] for found in labels if name in found), np.nan))
        if f"labels/{name}" in file:
            tail, kind = file[f"labels/{name}"].shape[1:], file[f"labels/{name}"].dtype
        else:
            tail, kind = like.shape[1:] if is_per_node(name) else like.shape, like.dtype
        nodes = is_per_node(name)
        empty = lambda n, tail=tail, kind=kind, nodes=nodes: np.zeros(
            (int(n), *tail) if nodes else tail, kind
        )
        values = [found.get(name, empty(n)) for found, n in zip(labels, sizes, strict=True)]
        values = values if nodes else [np.asarray(v)[None] for v in values]
        _extend(file, f"labels/{name}", _joined(name, values), before[1] if nodes else before[0])
        _extend(file, f"known/{name}", np.array([name in found for found in labels]), before[0])


def _joined(name: str, rows: Sequence[Any]) -> np.ndarray:
    shapes = {np.shape(row)[1:] for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"structures of one file give {name} in one shape; got rows of {sorted(shapes)[:2]}"
        )
    return np.concatenate([np.asarray(row) for row in rows])


def _extend(file: Any, name: str, rows: np.ndarray, before: int) -> None:
    """Rows behind those that are there; of a new array the first `before` are zero."""
    if name not in file:
        tail = rows.shape[1:]
        file.create_dataset(name, (before, *tail), rows.dtype, maxshape=(None, *tail), chunks=True)
    array = _wide_enough(file, name, rows.dtype)
    if array.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f"structures of one file give {name} in one shape; got rows of {rows.shape[1:]} where "
            f"{array.shape[1:]} were before"
        )
    first = len(array)
    array.resize(first + len(rows), axis=0)
    array[first:] = rows


def _wide_enough(file: Any, name: str, dtype: np.dtype) -> Any:
    """The array, written anew where its kind of number does not hold those of the other."""
    array = file[name]
    wide = np.result_type(array.dtype, dtype)
    if wide == array.dtype:
        return array
    file.move(name, narrow := f"{name} before")
    array = file.create_dataset(name, array.shape, wide, maxshape=array.maxshape, chunks=True)
    for first in range(0, len(array), ROWS):
        array[first : first + ROWS] = file[narrow][first : first + ROWS]
    del file[narrow]
    return array


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
