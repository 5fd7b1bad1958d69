"""Legacy VTK files, text or binary: the points and what is given per point.

A file is `# vtk DataFile`, a title, ASCII or BINARY, `DATASET kind`, `POINTS n type` and, after
`POINT_DATA n`, arrays: SCALARS, VECTORS, NORMALS, COLOR_SCALARS, TENSORS, FIELD. Binary numbers are
big endian. Cells, lines and their data are left aside.
"""

import numpy as np

from geojax.datasets.formats.columns import number_rows, text_of
from geojax.datasets.formats.fields import Points

__all__ = ["vtk_points"]

TYPES = {
    **{"unsigned_char": "u1", "char": "i1", "unsigned_short": "u2", "short": "i2"},
    **{"unsigned_int": "u4", "int": "i4", "unsigned_long": "u8", "long": "i8"},
    **{"vtkidtype": "i8", "vtktypeint64": "i8", "float": "f4", "double": "f8"},
}
CELLS = ("VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS", "CELLS", "CELL_TYPES")
SHAPES = {"VECTORS": 3, "NORMALS": 3, "TENSORS": 9}  # components


class Reader:
    """A place in the file, from which lines and arrays of numbers are taken."""

    def __init__(self, data: bytes, where: str):
        self.data, self.where, self.at, self.binary = data, where, 0, False

    def line(self) -> str | None:
        """The next line that is not blank; None at the end."""
        while self.at < len(self.data):
            end = self.data.find(b"\n", self.at)
            end = len(self.data) if end < 0 else end
            text, self.at = self.data[self.at : end].strip(), end + 1
            if text:
                return text_of(text, self.where)
        return None

    def numbers(self, count: int, kind: str, what: str) -> np.ndarray:
        """`count` numbers of a VTK type."""
        if kind.lower() not in TYPES:
            raise self.wrong(f"{what} are of one of the types {', '.join(TYPES)}; got {kind!r}")
        if count == 0:
            return np.zeros(0)
        dtype = np.dtype(">" + TYPES[kind.lower()])
        size = count * (dtype.itemsize if self.binary else 2)  # a digit and a space at least
        there = len(self.data) - self.at
        if size > there + 1:
            raise self.wrong(f"{what} are {count} numbers; the file ends before; it is cut off")
        if self.binary:
            array = np.frombuffer(self.data, dtype, count, self.at)
            self.at += size
            return array
        cells = self.data[self.at :].split(None, count)
        if len(cells) < count:
            raise self.wrong(f"{what} are {count} numbers; there are {len(cells)}; it is cut off")
        self.at = len(self.data) - (len(cells[count]) if len(cells) > count else 0)
        row = b" ".join(cells[:count])
        number = self.data.count(b"\n", 0, self.at)
        return number_rows([text_of(row, self.where)], [number], self.where, None, count)[0]

    def wrong(self, text: str) -> ValueError:
        """An error that names the line."""
        return ValueError(f"{self.where}:{self.data.count(chr(10).encode(), 0, self.at)}: {text}")


def vtk_points(data: bytes, where: str) -> Points:
    """The points of a file with their point data.

    Raises:
        ValueError: no legacy VTK file, or one that ends before what its header promises.
    """
    reader = Reader(data, where)
    first, _, coding = reader.line(), reader.line(), reader.line()
    if not (first or "").startswith("# vtk DataFile") or coding not in ("ASCII", "BINARY"):
        raise ValueError(
            f"{where}: a legacy VTK file begins with `# vtk DataFile`, a title, and ASCII or "
            f"BINARY; got {first!r}, {coding!r}; the XML formats of VTK are not read"
        )
    reader.binary = coding == "BINARY"
    points: np.ndarray | None = None
    found: dict[str, np.ndarray] = {}
    unused: list[tuple[str, str, str]] = []
    owner, kept = 0, True  # how many rows the arrays that follow have, and whether they are points'
    while (line := reader.line()) is not None:
        words = line.split()
        key = words[0].upper()
        if key == "POINTS":
            count = _whole(reader, words, 1)
            array = reader.numbers(3 * count, words[-1], "POINTS")
            points = array.reshape(count, 3).astype(np.float64)
        elif key in CELLS:
            unused.append((key, "section", "not used"))
            _skip(reader, key, words)
        elif key in ("POINT_DATA", "CELL_DATA"):
            owner, kept = _whole(reader, words, 1), key == "POINT_DATA"
            if kept and (points is None or owner != len(points)):
                raise reader.wrong(f"POINT_DATA are of the points before it; got {line!r}")
        elif owner:
            for name, value in _arrays(reader, key, words, owner).items():
                if not kept or name in ("x", "y", "z", *found):
                    why = "of cells" if not kept else "the name is taken"
                    unused.append((name, "array", f"not used: {why}"))
                else:
                    found[name] = value
    if points is None:
        raise ValueError(f"{where}: a cloud is in the section POINTS; there is none")
    fields = dict(zip("xyz", points.T, strict=True)) | found
    return Points(fields, "array", note="the section POINTS", unused=tuple(unused))


def _whole(reader: Reader, words: list[str], place: int) -> int:
    if len(words) <= place or not words[place].isdecimal():
        raise reader.wrong(f"{words[0]} is followed by counts; got {' '.join(words)[:60]!r}")
    return int(words[place])


def _skip(reader: Reader, key: str, words: list[str]) -> None:
    """Pass over cells: counts and corners in one list, or, since VTK 5, in two."""
    if reader.data[reader.at : reader.at + 9].lstrip()[:7] != b"OFFSETS":
        reader.numbers(_whole(reader, words, 1 if key == "CELL_TYPES" else 2), "int", key)
        return
    for place in (1, 2):
        _, kind = ((reader.line() or "").split() + ["", ""])[:2]
        reader.numbers(_whole(reader, words, place), kind, key)


def _arrays(reader: Reader, key: str, words: list[str], owner: int) -> dict[str, np.ndarray]:
    """The arrays that a line of POINT_DATA opens, by name; none for a line of another kind."""
    color = "unsigned_char" if reader.binary else "float"
    if key == "FIELD":
        found = {}
        for _ in range(_whole(reader, words, 2)):
            name, width, rows, kind = ((reader.line() or "").split() + [""] * 4)[:4]
            if not (width.isdecimal() and rows.isdecimal()):
                raise reader.wrong(f"an array of FIELD is NAME COMPONENTS TUPLES TYPE; got {name}")
            array = reader.numbers(int(width) * int(rows), kind, name)
            if int(rows) == owner:
                found[name] = _shaped(array, owner)
        return found
    if key == "SCALARS" and len(words) > 2:
        width = int(words[3]) if len(words) > 3 and words[3].isdecimal() else 1
        before = reader.at
        if not (reader.line() or "").upper().startswith("LOOKUP_TABLE"):
            reader.at = before
        return {words[1]: _shaped(reader.numbers(width * owner, words[2], words[1]), owner)}
    if key == "COLOR_SCALARS":
        width = _whole(reader, words, 2)
        array = reader.numbers(width * owner, color, words[1])
        return {"colors" if width in (3, 4) else words[1]: _shaped(array, owner)}
    if key in SHAPES and len(words) > 2:
        name = "normals" if key == "NORMALS" else words[1]
        return {name: _shaped(reader.numbers(SHAPES[key] * owner, words[2], name), owner)}
    if key == "LOOKUP_TABLE":
        reader.numbers(4 * _whole(reader, words, 2), color, key)
        return {}
    if key == "METADATA":
        end = reader.data.find(b"\n\n", reader.at)  # a blank line ends it
        reader.at = len(reader.data) if end < 0 else end + 2
        return {}
    raise reader.wrong(f"point data are SCALARS, VECTORS, NORMALS, FIELD …; got {key[:40]!r}")


def _shaped(array: np.ndarray, rows: int) -> np.ndarray:
    """Rows of components, in the byte order of the machine."""
    array = array.astype(array.dtype.newbyteorder("="))
    return array if array.size == rows else array.reshape(rows, -1)
