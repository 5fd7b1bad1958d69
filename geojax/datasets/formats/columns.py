"""Points as rows of numbers: text (`.xyz`, `.csv`, `.txt`, `.asc`), and arrays (`.npy`, `.npz`).

Columns that have names are read by them. Columns without names are read by their place: positions
first; then three that make rows of length one are normals, three that are from 0 to 1 or whole
numbers to 255 are colours; others are called column_4, column_5, … after their place.
"""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from geojax.datasets.formats.fields import POSITIONS, Points, role

__all__ = [
    "are_columns",
    "npy_points",
    "npz_points",
    "number_rows",
    "text_of",
    "text_points",
    "whole_numbers",
]

COMMENT = ("#", "//", "%")
MOST_BYTES = 4 * 2**30  # of what is packed; more is taken for a trap
UNIT = 1e-2  # normals are written with few digits


def are_columns(start: str) -> bool:
    """Whether text begins like rows of points; extended xyz begins with a number of atoms."""
    for line in start.splitlines():
        if line.strip() and not line.lstrip().startswith(COMMENT):
            cells = _cells(line, _delimiter(line))
            named = role([cell.strip("\"'") for cell in cells], "positions") is not None
            return len(cells) >= 3 and (named or all(map(_is_number, cells[:3])))
    return False


def text_points(data: bytes, where: str) -> Points:
    """The points of a text file, one in each line, with or without a line of names.

    Raises:
        ValueError: no text, ragged rows, cells that are no numbers; the message names the line.
    """
    rows, lines, remark = [], [], ""
    for number, line in enumerate(text_of(data, where).splitlines(), 1):
        if line.lstrip().startswith(COMMENT):
            remark = line.strip().lstrip("/#% ")
        elif line.strip():
            rows.append(line)
            lines.append(number)
    if not rows:
        raise ValueError(f"{where}: a cloud has one point or more; the file has no rows")
    delimiter = _delimiter(rows[0])
    names: list[str] | None = None
    first = [cell.strip("\"'") for cell in _cells(rows[0], delimiter)]
    if not any(map(_is_number, first)):
        names, rows, lines = first, rows[1:], lines[1:]
    else:  # names may stand in the comment above, as CloudCompare writes them
        above = [cell.strip("\"'") for cell in _cells(remark, _delimiter(remark))]
        names = above if len(above) == len(first) and role(above, "positions") else None
    if names and len(set(names)) < len(names):
        raise ValueError(f"{where}: a column is there once; got {', '.join(names)}")
    table = number_rows(rows, lines, where, delimiter, len(names) if names else None)
    if not rows:
        raise ValueError(f"{where}: a cloud has one point or more; the file has only names")
    columns = _whole_as_written(table, _cells(rows[0], delimiter))
    if names:
        fields = dict(zip(names, columns, strict=True))
        return Points(fields, "column", lines, "columns by their names")
    fields, note = _by_place(table, where)
    fields |= {f"column_{i}": x for i, x in enumerate(columns, 1) if f"column_{i}" in fields}
    return Points(fields, "column", lines, f"columns by their place: {note}")


def _whole_as_written(table: np.ndarray, first: Sequence[str]) -> list[np.ndarray]:
    """The columns; of whole numbers where all are whole and the first is written as one."""
    whole = [re.fullmatch(r"[+-]?\d{1,15}", cell.strip()) is not None for cell in first]
    return [
        x.astype(np.int64) if ok and np.isfinite(x).all() and (x == np.floor(x)).all() else x
        for ok, x in zip(whole, table.T, strict=True)
    ]


def text_of(data: bytes, where: str) -> str:
    """The bytes as text.

    Raises:
        ValueError: they are none.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: this kind of file is text; {error}; it is damaged or of another format"
        ) from error


def number_rows(
    rows: Sequence[str],
    lines: Sequence[int],
    where: str,
    delimiter: str | None = None,
    width: int | None = None,
) -> np.ndarray:
    """A table of real numbers, `[row, column]`.

    Args:
        lines: the line of each row.
        where: the file.
        delimiter: between cells; white space if None.
        width: how many cells a row has; as many as the first one if None.

    Raises:
        ValueError: a row has more or fewer cells, or a cell is no number; the message names both.
    """
    if not rows:
        return np.zeros((0, width or 0))
    width = width or len(_cells(rows[0], delimiter))
    try:
        table = np.loadtxt(rows, np.float64, comments=None, delimiter=delimiter, ndmin=2)
        if table.shape == (len(rows), width):
            return table
    except ValueError:
        pass  # which row and why: below, at a tenth of the speed
    for row, line in zip(rows, lines, strict=True):
        cells = _cells(row, delimiter)
        if len(cells) != width:
            raise ValueError(
                f"{where}:{line}: every point has {width} numbers; got {len(cells)}: "
                f"{row.strip()[:60]!r}; the line is cut off, or of another kind"
            )
        for place, cell in enumerate(cells, 1):
            if not _is_number(cell):
                raise ValueError(
                    f"{where}:{line}: points are numbers; got {cell[:40]!r} in column {place}; "
                    "write a decimal point, and 1.0E+00 for 1.0D+00"
                )
    raise ValueError(f"{where}: points are rows of {width} numbers; these cannot be read")


def whole_numbers(
    values: np.ndarray, dtype: Any, name: str, lines: Sequence[int], where: str
) -> np.ndarray:
    """Numbers of a text as the whole numbers that the header says they are, `[row, …]`.

    Raises:
        ValueError: one is not, or is out of range; the message names the line.
    """
    limits = np.iinfo(dtype)
    good = (values == np.floor(values)) & (values >= limits.min) & (values <= limits.max)
    if not good.all():
        first = int(np.argmin(good.reshape(len(values), -1).all(1)))
        raise ValueError(
            f"{where}:{lines[first]}: {name} is a whole number from {limits.min} to {limits.max}; "
            f"got {values[first]}; correct it, or the type in the header"
        )
    return values.astype(dtype)


def npy_points(data: bytes, where: str) -> Iterator[Points]:
    """The clouds of an array `[node, column]` or `[cloud, node, column]`, or of a table of records.

    Raises:
        ValueError: no array file, another shape, or fewer numbers than its header says.
    """
    array = _array(io.BytesIO(data), len(data), where)
    if array.dtype.names and array.ndim == 1:
        yield Points({name: array[name] for name in array.dtype.names}, "column")
        return
    if array.ndim not in (2, 3) or array.shape[-1] < 3 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{where}: points are an array [node, 3 or more] of numbers, or [cloud, node, 3 or "
            f"more]; got shape {list(array.shape)} of {array.dtype}"
        )
    for part in array if array.ndim == 3 else array[None]:
        fields, note = _by_place(part.astype(np.float64), where)
        yield Points(fields, "column", note=f"columns by their place: {note}")


def npz_points(data: bytes, where: str) -> Iterator[Points]:
    """The clouds of named arrays: points `[node, 3]` or `[cloud, node, 3]`, and what is beside.

    Arrays `[node, …]` (`[cloud, node, …]`) are fields, arrays `[cloud]` values of the whole cloud.

    Raises:
        ValueError: no npz file, arrays that do not fit, or fewer numbers than a header says.
    """
    found = _archive(data, where)
    (name,) = role([n for n in found if n.lower() in POSITIONS], "positions") or (None,)
    points = np.asarray(found.get(name or ""))
    if name is None or points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(
            f"{where}: points are an array [node, 3] or [cloud, node, 3], called "
            f"{' or '.join(POSITIONS)}; there are: "
            f"{', '.join(f'{n} {list(a.shape)}' for n, a in found.items())}"
        )
    many = points.ndim == 3
    at = points.shape[:-1]
    fields = {n: a for n, a in found.items() if a.shape[: len(at)] == at}
    values = {n: a for n, a in found.items() if n not in fields and a.shape == at[:1] * many}
    unused = tuple((n, "array", "") for n in found if n not in fields | values)
    for i in range(len(points) if many else 1):
        pick = lambda arrays, i=i: {n: a[i] if many else a for n, a in arrays.items()}
        note = f"named arrays of {len(points)} clouds" if many else "named arrays"
        yield Points(pick(fields), "array", None, note, unused, pick(values))


def _archive(data: bytes, where: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"{where}: more than {MOST_BYTES >> 30} GiB are packed in it")
            return {
                member.filename.removesuffix(".npy"): _array(
                    archive.open(member), member.file_size, f"{where}: {member.filename}"
                )
                for member in members
            }
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise ValueError(f"{where}: this is no npz file of plain arrays; {error}") from error


def _array(stream: Any, size: int, where: str) -> np.ndarray:
    """An array whose header promises no more than there is."""
    npy = np.lib.format
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
        promised, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
        if promised > there:
            raise ValueError(f"the header says {promised} bytes, {list(shape)}; there are {there}")
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{where}: this is no array file that can be read; {error}; it is cut off, damaged or "
            "of pickled objects, which are not read"
        ) from error


def _by_place(table: np.ndarray, where: str) -> tuple[dict[str, np.ndarray], str]:
    """Fields of columns without names, and what they were taken for."""
    if table.shape[1] < 3:
        raise ValueError(f"{where}: a point has three coordinates; rows have {table.shape[1]}")
    fields = dict(zip("xyz", table.T[:3], strict=True))
    told, at = ["1-3 positions"], 3
    open_roles = {"normals": ("nx", "ny", "nz"), "colors": ("r", "g", "b")}
    while table.shape[1] - at >= 3 and (what := _triple(table[:, at : at + 3], open_roles)):
        fields |= dict(zip(open_roles.pop(what), table.T[at : at + 3], strict=True))
        told.append(f"{at + 1}-{at + 3} {what}")
        at += 3
    for column in range(at, table.shape[1]):
        fields[f"column_{column + 1}"] = table[:, column]
        told.append(f"{column + 1} column_{column + 1}")
    return fields, ", ".join(told)


def _triple(values: np.ndarray, roles: Any) -> str | None:
    """Whether three columns look like normals or colours that are still to be found."""
    finite = values[np.isfinite(values).all(1)]
    length = np.linalg.norm(finite, axis=1)
    if "normals" in roles and len(finite) and (np.abs(length - 1) < UNIT).all():
        return "normals"
    low, high = finite.min(initial=0), finite.max(initial=0)
    whole = high <= 255 and (finite == np.round(finite)).all()
    return "colors" if "colors" in roles and low >= 0 and (high <= 1 or whole) else None


def _delimiter(line: str) -> str | None:
    return next((mark for mark in ";," if mark in line), None)


def _cells(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip() for cell in line.split(delimiter)]


def _is_number(text: str) -> bool:
    return re.fullmatch(NUMBER, text.strip()) is not None


NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|infinity|NaN|NAN|Inf|INF)"
