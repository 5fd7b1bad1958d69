"""PLY, text or binary of either byte order: the points, with every scalar property they have.

A file is a header, which lists elements with their number and the properties of each, and then
their rows. `vertex` is read, strictly: the rows there are and those promised have to be the same.
Faces are the matter of `meshes`.
"""

import re
from typing import NamedTuple

import numpy as np

from geojax.datasets.formats.columns import number_rows, text_of, whole_numbers
from geojax.datasets.formats.fields import Points
from geojax.graphs import Structure

__all__ = ["count_faces", "ply_bytes", "ply_points"]

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
NAMES = {"f8": "double", "i4": "int", "u1": "uchar"}  # of what is written
COLUMNS = {"normals": ("nx", "ny", "nz"), "colors": ("red", "green", "blue")}


class Element(NamedTuple):
    """A kind of row: its name, how many there are, and name and type codes of its properties.

    A list has two codes: that of its length, and that of its items.
    """

    name: str
    count: int
    properties: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def has_lists(self) -> bool:
        return any(len(codes) > 1 for _, codes in self.properties)

    def dtype(self, order: str) -> np.dtype:
        """Of a row; of a row with empty lists, where it has any."""
        return np.dtype([(name, f"{order}{codes[0]}") for name, codes in self.properties])


def ply_points(data: bytes, where: str) -> Points:
    """The vertices of a file.

    Raises:
        ValueError: no PLY file, or one with other rows than its header promises.
    """
    order, elements, body = _header(data, where)
    names = [element.name for element in elements]
    if names.count("vertex") != 1:
        raise ValueError(f"{where}: points are the element vertex; there are: {names}")
    place = names.index("vertex")
    vertex = elements[place]
    if vertex.has_lists:
        raise ValueError(f"{where}: a vertex is made of numbers; it has lists; write them as such")
    read = _binary if order else _text
    fields, lines = read(data, body, order, elements, place, where)
    faces = next((e.count for e in elements if e.name == "face"), 0)
    note = f"the {vertex.count} vertices of a mesh of {faces} faces" if faces else ""
    unused = tuple((e.name, "element", "not used") for e in elements if e.name != "vertex")
    return Points(fields, "vertex", lines, note, unused)


def count_faces(data: bytes, where: str) -> int:
    """How many faces the header promises."""
    return sum(e.count for e in _header(data, where)[1] if e.name == "face")


def _header(data: bytes, where: str) -> tuple[str, list[Element], int]:
    """Byte order (none of text), elements, and where the rows begin."""
    end = re.search(rb"^end_header[ \t]*(?:\r\n|\n|\r|$)", data, re.MULTILINE)
    if not data.startswith(b"ply") or end is None:
        raise ValueError(f"{where}: a PLY file begins with ply and a header up to end_header")
    order, elements = None, []
    for number, line in enumerate(text_of(data[: end.start()], where).splitlines(), 1):
        words = line.split()
        if not words or words[0] in ("ply", "comment", "obj_info"):
            continue
        kind, rest = words[0], words[1:]
        try:
            if kind == "format":
                order = ORDERS[rest[0]]
            elif kind == "element" and rest[1].isdecimal():
                elements.append(Element(rest[0], int(rest[1]), ()))
            elif kind == "property":
                codes = tuple(TYPES[word] for word in rest[1 if rest[0] == "list" else 0 : -1])
                elements[-1] = _with(elements[-1], rest[-1], codes)
            else:
                raise ValueError
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"{where}:{number}: a PLY header has lines format, element NAME COUNT and property "
                f"TYPE NAME (types: {', '.join(TYPES)}); got {line[:60]!r}; no name twice"
            ) from error
    if order is None:
        raise ValueError(f"{where}: a PLY header names its format; got none of {', '.join(ORDERS)}")
    return order, elements, end.end()


def _with(element: Element, name: str, codes: tuple[str, ...]) -> Element:
    if not codes or name in dict(element.properties):
        raise ValueError
    return element._replace(properties=(*element.properties, (name, codes)))


def _binary(
    data: bytes, at: int, order: str, elements: list[Element], place: int, where: str
) -> tuple[dict[str, np.ndarray], None]:
    vertex = elements[place]
    before = elements[:place]
    if any(element.has_lists for element in before):
        raise ValueError(f"{where}: elements with lists come after the vertices; write it again")
    at += sum(element.count * element.dtype(order).itemsize for element in before)
    rest = elements[place:]
    least = sum(element.count * element.dtype(order).itemsize for element in rest)
    there = len(data) - at
    if least > there or (least < there and not any(element.has_lists for element in rest)):
        raise ValueError(
            f"{where}: a file holds the rows that its header promises; {vertex.count} vertices and "
            f"what follows take {least} bytes; there are {max(there, 0)}; it is cut off or damaged"
        )
    table = np.frombuffer(data, vertex.dtype(order), vertex.count, at)
    return {name: table[name] for name in vertex.dtype(order).names or ()}, None


def _text(
    data: bytes, at: int, order: str, elements: list[Element], place: int, where: str
) -> tuple[dict[str, np.ndarray], list[int]]:
    del order
    head = data.count(b"\n", 0, at)
    numbered = enumerate(text_of(data[at:], where).splitlines(), head + 1)
    rows = [(number, row) for number, row in numbered if row.strip()]
    promised = sum(element.count for element in elements)
    if len(rows) != promised:
        raise ValueError(
            f"{where}: a file holds the rows that its header promises, {promised}; there are "
            f"{len(rows)}; it is cut off, or its counts are wrong"
        )
    start = sum(element.count for element in elements[:place])
    vertex = elements[place]
    rows = rows[start : start + vertex.count]
    lines = [number for number, _ in rows]
    table = number_rows([row for _, row in rows], lines, where, None, len(vertex.properties))
    fields = {}
    for column, (name, (code,)) in enumerate(vertex.properties):
        values = table[:, column]
        real = code[0] == "f"
        fields[name] = values if real else whole_numbers(values, code, name, lines, where)
    return fields, lines


def ply_bytes(structure: Structure) -> bytes:
    """The cloud as binary PLY: positions, inputs and labels of nodes, as `ply_points` reads them.

    Colours that are whole 255ths are written as bytes, all else in double precision.
    """
    fields: dict[str, np.ndarray] = dict(zip("xyz", structure.positions.T, strict=True))
    more = {**structure.inputs, **structure.properties.node_targets}
    if len(more) < len(structure.inputs) + len(structure.properties.node_targets):
        raise ValueError(f"inputs and labels of nodes have different names; got {sorted(more)}")
    for name, value in more.items():
        array = np.asarray(value).reshape(len(structure), -1)
        parts = COLUMNS.get(name, ()) if array.shape[1] == 3 else ()
        if np.ndim(value) > 1 and not parts:
            parts = tuple(f"{name}_{i}" for i in range(array.shape[1]))
        if name == "colors" and (np.round(array * 255) / 255 == array).all():
            array = np.round(array * 255).astype(np.uint8)
        fields |= dict(zip(parts or (name,), array.T, strict=True))
    if wrong := [name for name in fields if not re.fullmatch(r"[^\s]+", name)]:
        raise ValueError(f"a property of a PLY file is one word; got {wrong[0]!r}")
    codes = {name: _code(array) for name, array in fields.items()}
    table = np.empty(len(structure), [(name, f"<{code}") for name, code in codes.items()])
    for name, array in fields.items():
        table[name] = array
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(structure)}"]
    head += [f"property {NAMES[code]} {name}" for name, code in codes.items()]
    return ("\n".join([*head, "end_header"]) + "\n").encode() + table.tobytes()


def _code(array: np.ndarray) -> str:
    """The type of a property: whole numbers stay whole where PLY can hold them."""
    if array.dtype == np.uint8:
        return "u1"
    small = array.dtype.kind in "iu" and np.abs(array).max(initial=0) < 1 << 31
    return "i4" if small else "f8"
