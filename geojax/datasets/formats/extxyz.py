"""Extended xyz, strictly: every complaint names the file and the line.

A frame is the number of atoms, a line of key=value pairs, and one line per atom with the columns
that `Properties=name:type:count:…` lists. Written files are read by ASE, and the other way round;
numbers are written so that they come back bit for bit. Unlike ASE the reader goes on after an empty
line, and refuses a key that is there twice with different values.
"""

import gzip
import json
import re
import zlib
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geojax.datasets.formats.labels import Entry, Record
from geojax.elements import atomic_number, symbol
from geojax.graphs import Structure

__all__ = ["frame_text", "records"]

PLAIN_COLUMNS = "species:S:1:pos:R:3"
TRUTH = {"T": True, "F": False, "True": True, "False": False, "true": True, "false": False}
VALUE = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[(?:[^][]|\[[^][]*\])*\]|[^\s"']+"""
PAIR = re.compile(rf"""\s*("(?:[^"\\]|\\.)*"|[^\s="']+)(?:\s*=\s*({VALUE}))?(?=\s|$)""")
BRACKETS = {'"': '"', "'": "'", "{": "}", "[": "]"}


class Column(NamedTuple):
    """One entry of `Properties`: its name, its type R, I, S or L, and where it stands."""

    name: str
    type: str
    start: int
    stop: int


def records(path: Path) -> Generator[Record | ValueError, None, None]:
    """The frames of a file; an error in place of each frame that cannot be read.

    Raises:
        ValueError: the file is not text, or it cannot be told where the next frame begins.
    """
    opened = (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8")
    )
    try:
        with opened as stream:
            yield from _frames(path, enumerate(stream, 1))
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: extended xyz is text (gzipped if the name ends in .gz); {error}; "
            "the file is damaged or of another format"
        ) from error


def _frames(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Record | ValueError]:
    frame, before = 0, ""
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}:{number} (frame {frame})"
        count = _count(line, where, before)
        header = next(lines, (number, ""))[1]
        rows = list(islice(lines, count))
        try:
            if len(rows) < count:
                raise ValueError(
                    f"{where}: the frame says {count} atoms and the file ends after {len(rows)}; "
                    "it was cut off; restore it, or give skip_bad=True to leave the frame out"
                )
            yield _record(where, f"{path}", number + 1, header, [row for _, row in rows])
        except ValueError as error:
            yield error
        frame, before = frame + 1, f"; the frame above, of line {number}, says {count} atoms"


def _count(line: str, where: str, before: str) -> int:
    text = line.strip()
    if not text.isdecimal():
        raise ValueError(
            f"{where}: a frame begins with its number of atoms; got {text[:40]!r}{before}; correct "
            "the number that does not fit its lines"
        )
    return int(text)


def _record(where: str, path: str, number: int, header: str, rows: list[str]) -> Record:
    found = _pairs(header.strip(), f"{path}:{number}")
    columns = _columns(str(found.pop("Properties", PLAIN_COLUMNS)), f"{path}:{number}")
    tokens = [row.split() for row in rows]
    width = columns[-1].stop
    for i, row in enumerate(tokens):
        if len(row) != width:
            raise ValueError(
                f"{path}:{number + 1 + i}: an atom has {width} columns "
                f"({', '.join(column.name for column in columns)}); got {len(row)}: "
                f"{rows[i].strip()[:60]!r}; the frame of line {number - 1} says {len(rows)} atoms; "
                "correct the line, or the number"
            )
    arrays = {c.name: _array(c, tokens, f"{path}:{number + 1}", number + 1) for c in columns}
    cell = found.pop("Lattice", None)
    if cell is not None and (not isinstance(cell, np.ndarray) or cell.size != 9):
        raise ValueError(f"{path}:{number}: a Lattice is 9 numbers; got {cell!r}")
    pbc = found.pop("pbc", cell is not None)  # with a Lattice alone all three repeat
    if np.asarray(pbc).dtype.kind not in "bi" or np.size(pbc) not in (1, 3):
        raise ValueError(f'{path}:{number}: pbc is three of T and F, such as "T T F"; got {pbc!r}')
    species = _species(arrays, path, number + 1)
    if "pos" not in arrays or arrays["pos"].shape != (len(rows), 3):
        raise ValueError(
            f"{path}:{number}: Properties need the positions; got {', '.join(arrays)}; write them "
            "as pos:R:3"
        )
    info = [Entry(key, "info", value) for key, value in found.items()]
    more = [Entry(key, "array", a) for key, a in arrays.items() if key not in OWN_COLUMNS]
    cell = None if cell is None else cell.reshape(3, 3)
    return Record(where, arrays["pos"], species, cell, pbc, (*info, *more))


OWN_COLUMNS = ("species", "pos", "Z")


def _species(arrays: dict[str, np.ndarray], path: str, first: int) -> np.ndarray:
    if "species" in arrays:
        numbers = []
        for i, name in enumerate(arrays["species"]):
            try:
                numbers.append(atomic_number(name.capitalize()))
            except KeyError as error:
                raise ValueError(f"{path}:{first + i}: {error.args[0]}") from error
        return np.array(numbers, np.int32)
    if "Z" in arrays:
        return arrays["Z"]
    raise ValueError(f"{path}:{first - 1}: Properties need the elements, as species:S:1 or Z:I:1")


def _columns(text: str, where: str) -> list[Column]:
    parts = text.split(":")
    names, types, counts = parts[::3], parts[1::3], parts[2::3]
    sound = len(parts) % 3 == 0 and all(t in "RISL" and len(t) == 1 for t in types)
    if not sound or not all(c.isdecimal() and int(c) for c in counts):
        raise ValueError(
            f"{where}: Properties are name:type:count with type R, I, S or L, again and again; "
            f"got {text!r}"
        )
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ValueError(
            f"{where}: a column is there once; Properties have {sorted(double)} twice; rename one"
        )
    stops = np.cumsum([int(c) for c in counts]).tolist()
    starts = [0, *stops[:-1]]
    return [Column(*column) for column in zip(names, types, starts, stops, strict=True)]


def _array(column: Column, tokens: list[list[str]], where: str, first: int) -> np.ndarray:
    """The column of all atoms, `[node]` or `[node, count]`."""
    name, kind, start, stop = column
    picked = [row[start:stop] for row in tokens]
    try:
        if kind == "S":
            array = np.array(picked, dtype=object)
        elif kind == "L":
            array = np.array([[TRUTH[text] for text in row] for row in picked], dtype=bool)
        else:
            array = np.array(picked, dtype=float if kind == "R" else int)
    except (ValueError, KeyError, OverflowError) as error:
        raise _wrong_number(column, tokens, where, first) from error
    array = array.reshape(len(tokens), stop - start)
    return array[:, 0] if stop - start == 1 else array


def _wrong_number(column: Column, tokens: list[list[str]], where: str, first: int) -> ValueError:
    read = {"R": float, "I": int, "L": TRUTH.__getitem__}[column.type]
    what = {"R": "a real number", "I": "a whole number", "L": "T or F"}[column.type]
    path = where.rpartition(":")[0]
    for i, row in enumerate(tokens):
        for text in row[column.start : column.stop]:
            try:
                read(text)
            except (ValueError, KeyError):
                return ValueError(
                    f"{path}:{first + i}: {column.name} is {what}; got {text!r} (atom {i}); write "
                    "1.0E+00 for 1.0D+00, and repair what an overflowing format left as ****"
                )
    return ValueError(f"{where}: {column.name} must be {what} throughout")


def _pairs(text: str, where: str) -> dict[str, Any]:
    """The key=value pairs of a comment line; a line that has none is a plain remark."""
    if "=" not in text:
        return {"comment": text} if text else {}
    found: dict[str, Any] = {}
    at = 0
    while at < len(text):
        match = PAIR.match(text, at)
        if match is None and "Properties=" not in text:
            return {"comment": text}
        if match is None:
            raise ValueError(
                f"{where}: a comment line is key=value pairs; cannot read {text[at : at + 60]!r} "
                "(is a quote or bracket missing?)"
            )
        try:
            key, value = _bare(match[1]), True if match[2] is None else _value(_bare(match[2]))
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: {match[0].strip()!r} is no JSON; {error}") from error
        if key in found and not _same(found[key], value):
            raise ValueError(
                f"{where}: a key has one value; {key!r} is there with {found[key]!r} and "
                f"{value!r}; keep one of them"
            )
        found[key] = value
        at = match.end()
    return found


def _bare(text: str) -> str:
    if len(text) > 1 and BRACKETS.get(text[0]) == text[-1]:
        nested = text[0] == "[" and "[" in text[1:]
        return f"_JSON {text}" if nested else re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _value(text: str) -> Any:
    """Whole numbers, real numbers, truth values, JSON after "_JSON ", or the text itself."""
    if text.startswith("_JSON "):
        value = json.loads(text.removeprefix("_JSON "))
        array = None if isinstance(value, str) or value is None else np.array(value)
        return value if array is None or array.dtype.kind not in "ifb" else array[()]
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    if not parts or "_" in text:
        return text
    for read in (int, float, TRUTH.__getitem__):
        try:
            values = [read(part) for part in parts]
        except (ValueError, KeyError):
            continue
        return values[0] if len(values) == 1 else np.array(values)
    return text


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and np.array_equal(first, second)


def frame_text(
    structure: Structure, columns: Mapping[str, np.ndarray], pairs: Mapping[str, Any]
) -> str:
    """One frame as text; `columns` have one row per atom, `pairs` go to the comment line."""
    blocks = {"pos": structure.positions, **columns}
    flat = {name: array.reshape(len(structure), -1) for name, array in blocks.items()}
    layout = [f"{name}:{_type(array)}:{array.shape[1]}" for name, array in flat.items()]
    text = "" if structure.cell is None else f'Lattice="{_numbers(structure.cell)}" '
    text += f"Properties={':'.join(['species:S:1', *layout])}"
    for key, value in pairs.items():
        text += f" {_quoted(key)}={_quoted(_text(value))}"
    text += f' pbc="{_numbers(np.array(structure.pbc))}"'
    rows = [symbol(int(z)) for z in structure.species]
    for array in flat.values():
        rows = [f"{row} {_numbers(part)}" for row, part in zip(rows, array, strict=True)]
    return "\n".join([str(len(structure)), text, *rows]) + "\n"


def _type(array: np.ndarray) -> str:
    return {"f": "R", "i": "I", "u": "I", "b": "L"}[array.dtype.kind]


def _numbers(array: np.ndarray) -> str:
    """Shortest decimal forms that come back bit for bit."""
    flat = np.asarray(array).ravel()
    if flat.dtype.kind == "b":
        return " ".join("FT"[int(value)] for value in flat)
    return " ".join(repr(value) for value in flat.tolist())


def _text(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind in "fiub" and array.ndim < 2 and array.size:
        text = _numbers(array)
    else:
        text = str(value) if isinstance(value, str) else f"_JSON {json.dumps(array.tolist())}"
    same = _same(_value(text), value) if isinstance(value, str) else True
    return text if same else f"_JSON {json.dumps(value)}"


def _quoted(text: str) -> str:
    if re.fullmatch(r"""[^\s"'{}\[\]=\\,]+""", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
