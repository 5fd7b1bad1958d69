"""From the named fields of a file of points to a `Record`: positions, normals, colours, the rest.

Names are those that programs of the field write: x y z; nx ny nz or normal_x … (PCL); red green
blue, r g b or a packed rgb; intensity or reflectance. Columns called name_0, name_1, … or name:0,
name:1, … are one field of several components. Every other field keeps its name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from geojax.datasets.formats.labels import Entry, Record

__all__ = ["POSITIONS", "Points", "record", "role"]

POSITIONS = ("points", "xyz", "positions", "pos", "coords", "coordinates", "vertices")
ROLES: Mapping[
    str, tuple[tuple[str, ...], ...]
] = {  # of one column each, or of one array [node, 3]
    "positions": (("x", "y", "z"), *((name,) for name in POSITIONS)),
    "normals": (
        ("nx", "ny", "nz"),
        ("normal_x", "normal_y", "normal_z"),
        ("normals",),
        ("normal",),
    ),
    "colors": (
        ("red", "green", "blue"),
        ("r", "g", "b"),
        ("diffuse_red", "diffuse_green", "diffuse_blue"),
        ("rgb",),
        ("rgba",),
        ("colors",),
        ("color",),
    ),
    "intensity": (("intensity",), ("reflectance",)),
}
TAKEN = ("positions", "species")  # what a graph has of its own
FLOAT = {"f": np.float64}  # whole numbers stay: they may be classes
COMPONENT = re.compile(r"(.+)[_:](\d+)")


class Points(NamedTuple):
    """The points of one cloud as a file gives them.

    Attributes:
        fields: by the file's own name, `[node]` or `[node, component]`.
        kind: what a field is called in this format, for the account.
        lines: the line of each point of a text file, for messages.
        note: how the file was read, where it could have been read in another way.
        unused: (name, kind, remark) of what was left aside.
        values: of the whole cloud.
    """

    fields: Mapping[str, np.ndarray]
    kind: str
    lines: Sequence[int] | None = None
    note: str = ""
    unused: tuple[tuple[str, str, str], ...] = ()
    values: Mapping[str, Any] = {}


def role(names: Sequence[str], what: str) -> tuple[str, ...] | None:
    """Those of the names that hold the positions, normals, colors or intensity; case aside."""
    at = {name.lower(): name for name in names}
    for parts in ROLES[what]:
        if all(part in at for part in parts):
            return tuple(at[part] for part in parts)
    return None


def record(where: str, points: Points, *, skip_bad: bool = False) -> Record:
    """The cloud as a `Record` whose fields are inputs unless they are named as something else.

    Args:
        where: the beginning of every message.
        skip_bad: leave out points that have a number which is not finite.

    Raises:
        ValueError: no positions, no points, numbers that are not finite, colours out of range.
    """
    fields = _joined(points.fields)
    unused = list(points.unused)
    there = role(list(fields), "positions")
    if there is None:
        raise ValueError(
            f"{where}: a cloud has fields x, y, z (or an array called {' or '.join(POSITIONS)}); "
            f"there are: {', '.join(fields) or 'none'}"
        )
    positions = _stack(fields, there).astype(np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise ValueError(
            f"{where}: a cloud has one point or more with three coordinates; got shape "
            f"{list(positions.shape)}; write it again"
        )
    rest = {name: fields[name] for name in fields if name not in there}
    values: dict[str, tuple[str, np.ndarray, str]] = {}  # input -> key, value, remark
    for what in ("normals", "colors", "intensity"):
        if parts := role(list(rest), what):
            array, remark = _as(what, _stack(rest, parts), f"{where}: {' '.join(parts)}")
            values[what] = (" ".join(parts), array, remark)
            rest = {name: rest[name] for name in rest if name not in parts}
    for name, array in rest.items():
        if name in TAKEN or array.dtype.kind not in "fiub":
            why = "the name is taken" if name in TAKEN else "no numbers"
            unused.append((name, points.kind, f"not used: {why}"))
        else:
            values.setdefault(name, (name, array.astype(FLOAT.get(array.dtype.kind, int)), ""))
    keep, note = _finite(where, points, {"positions": positions} | _arrays(values), skip_bad)
    told = points.note or f"points of the {points.kind} fields {' '.join(there)}"
    entries = [Entry(k, points.kind, array[keep], remark) for k, array, remark in values.values()]
    entries += [Entry(name, kind, None, remark) for name, kind, remark in unused]
    entries += [Entry(name, "info", value) for name, value in points.values.items()]
    return Record(
        where,
        positions[keep],
        np.zeros(int(keep.sum()), np.int32),
        None,
        False,
        tuple(entries),
        inputs={name: key for name, (key, *_) in values.items()},
        notes=(told, note) if note else (told,),
    )


def _joined(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """name_0, name_1, … as one array `[node, component]`, where all of them are there."""
    stems: dict[str, dict[int, str]] = {}
    for name, array in fields.items():
        if (match := COMPONENT.fullmatch(name)) and array.ndim == 1:
            stems.setdefault(match[1], {})[int(match[2])] = name
    whole = {
        stem: [parts[i] for i in range(len(parts))]
        for stem, parts in stems.items()
        if len(parts) > 1 and set(parts) == set(range(len(parts))) and stem not in fields
    }
    inside = {name for names in whole.values() for name in names}
    single = {name: array for name, array in fields.items() if name not in inside}
    return single | {stem: _stack(fields, names) for stem, names in whole.items()}


def _stack(fields: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    arrays = [np.asarray(fields[name]) for name in names]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, -1)


def _arrays(values: Mapping[str, tuple[str, np.ndarray, str]]) -> dict[str, np.ndarray]:
    return {key: array for key, array, _ in values.values()}


def _as(what: str, array: np.ndarray, where: str) -> tuple[np.ndarray, str]:
    """Normals, colours or intensities in their unit, and a remark on what was done."""
    if array.ndim == 2 and array.shape[1] == 4 and what == "colors":
        array = array[:, :3]  # the fourth is the opacity
    shape = (len(array),) if what == "intensity" else (len(array), 3)
    if array.shape != shape:
        raise ValueError(f"{where}: {what} have shape {list(shape)}; got {list(array.shape)}")
    if what == "colors":
        return _colors(array, where)
    return array.astype(np.float64), ""


def _colors(array: np.ndarray, where: str) -> tuple[np.ndarray, str]:
    """Colours from 0 to 1: bytes are divided by 255, words by 65535, larger reals by 255."""
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if low < 0 or high > 65535 or (array.dtype.kind == "f" and high > 255):
        raise ValueError(
            f"{where}: colours are from 0 to 1, or from 0 to 255 (65535 in words); got {low:g} to "
            f"{high:g}; rename the field if it is none"
        )
    if array.dtype == np.uint8 or 1 < high <= 255:
        return values / 255, "divided by 255"
    return (values / 65535, "divided by 65535") if high > 1 else (values, "")


def _finite(
    where: str, points: Points, arrays: Mapping[str, np.ndarray], skip_bad: bool
) -> tuple[np.ndarray, str]:
    """Which points are kept, and a note on those that are not."""
    size = len(arrays["positions"])
    keep = np.ones(size, bool)
    for name, array in arrays.items():
        if len(array) != size:
            raise ValueError(
                f"{where}: a field has one row for each of {size} points; {name!r} has {len(array)}"
            )
        good = np.isfinite(array).reshape(size, -1).all(1)
        if not good.all() and not skip_bad:
            first = int(np.argmin(good))
            place = f"line {points.lines[first]}" if points.lines is not None else f"point {first}"
            raise ValueError(
                f"{where}: points are finite; {int((~good).sum())} of {size} have NaN or infinite "
                f"{name}, the first at {place}; repair them, or leave them out by skip_bad=True"
            )
        keep &= good
    if not keep.any():
        raise ValueError(f"{where}: points are finite; none of the {size} points is")
    lost = size - int(keep.sum())
    return keep, f"{lost} of {size} points are not finite and were left out" if lost else ""
