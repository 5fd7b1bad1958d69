"""PCD, the format of the Point Cloud Library: text, binary, and binary compressed by LZF.

A header names the fields with size, type and count; compressed data come field by field. The colour
`rgb` is three bytes in the place of a float. LZF is a byte code: a run of bytes as they are, or a
copy of bytes that came before.

References:
    https://pointclouds.org/documentation/tutorials/pcd_file_format.html; Lehmann, liblzf.
"""

import math

import numpy as np

from geojax.datasets.formats.columns import number_rows, text_of, whole_numbers
from geojax.datasets.formats.fields import Points

__all__ = ["lzf_decompress", "pcd_points"]

KEYS = ("VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT")
MOST_GAIN = 90  # three bytes of LZF are 264 bytes at most
PADDING = "_"


def pcd_points(data: bytes, where: str) -> Points:
    """The points of a file; its viewpoint (origin and quaternion) is a value of the cloud.

    Raises:
        ValueError: no PCD file, or one with other points than its header promises.
    """
    head, at, line = _header(data, where)
    row, count = _row(head, where), _count(head, where)
    body, kind = data[at:], head["DATA"][0].lower()
    lines = None
    if kind == "ascii":
        table, lines = _text(body, row, count, line, where)
    elif kind in ("binary", "binary_compressed"):
        packed = kind == "binary_compressed"
        table = _compressed(body, row, count, where) if packed else _binary(body, row, count, where)
    else:
        raise ValueError(
            f"{where}:{line}: DATA are ascii, binary or binary_compressed; got {kind!r}"
        )
    fields = {name: table[name] for name in row.names or () if not name.startswith(PADDING)}
    packed = {n: _bytes(a) for n, a in fields.items() if n in ("rgb", "rgba") and a.ndim == 1}
    values = {}
    if view := head.get("VIEWPOINT"):
        values["viewpoint"] = number_rows([" ".join(view)], [line], where, None, 7)[0]
    return Points(fields | packed, "field", lines, values=values)


def _header(data: bytes, where: str) -> tuple[dict[str, list[str]], int, int]:
    """The entries, where the points begin, and the line of DATA."""
    found: dict[str, list[str]] = {}
    at, number = 0, 0
    while "DATA" not in found:
        end = data.find(b"\n", at)
        number += 1
        if end < 0:
            raise ValueError(f"{where}: a PCD header ends with a line DATA; there is none")
        words = text_of(data[at:end], f"{where}:{number}").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            if words[0] not in (*KEYS, "POINTS", "DATA") or not words[1:] or words[0] in found:
                raise ValueError(
                    f"{where}:{number}: a PCD header has lines {', '.join(KEYS)}, POINTS, DATA, "
                    f"each once, with values; got {' '.join(words)[:60]!r}"
                )
            found[words[0]] = words[1:]
    return found, at, number


def _row(head: dict[str, list[str]], where: str) -> np.dtype:
    """The layout of a point."""
    names = head.get("FIELDS") or head.get("COLUMNS") or []
    counts = head.get("COUNT") or ["1"] * len(names)
    kinds, sizes = head.get("TYPE", []), head.get("SIZE", [])
    if not names or not len(names) == len(kinds) == len(sizes) == len(counts):
        raise ValueError(
            f"{where}: FIELDS, SIZE, TYPE and COUNT have one entry for each field; got "
            f"{len(names)}, {len(sizes)}, {len(kinds)}, {len(counts)}"
        )
    names = [PADDING + str(i) if n == PADDING else n for i, n in enumerate(names)]
    try:
        parts = [f"<{kind.lower()}{int(size)}" for kind, size in zip(kinds, sizes, strict=True)]
        shapes = [() if int(count) == 1 else (int(count),) for count in counts]
        row = np.dtype(list(zip(names, parts, shapes, strict=True)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: fields have different names, TYPE F, I or U, SIZE 1 to 8 and COUNT 1 or "
            f"more; got {names}, {kinds}, {sizes}, {counts}"
        ) from error
    if any(row[name].base.kind not in "fiu" or row[name].itemsize == 0 for name in names):
        raise ValueError(f"{where}: TYPE is F, I or U and COUNT 1 or more; got {kinds}, {counts}")
    return row


def _count(head: dict[str, list[str]], where: str) -> int:
    """The number of points, which width and height have to give too."""
    found = [head.get(key, ["1" if key == "HEIGHT" else ""])[0] for key in ("WIDTH", "HEIGHT")]
    points = head.get("POINTS", [""])[0]
    if not all(text.isdecimal() for text in (*found, points or found[0])):
        raise ValueError(f"{where}: WIDTH, HEIGHT, POINTS are whole numbers; got {found}, {points}")
    count = math.prod(map(int, found))
    if points and int(points) != count:
        raise ValueError(
            f"{where}: POINTS are WIDTH × HEIGHT; got {points} and {' × '.join(found)}; correct "
            "the header"
        )
    return count


def _wrong(where: str, count: int, promised: object, there: object) -> ValueError:
    return ValueError(
        f"{where}: a file holds the points that its header promises; {count} points take "
        f"{promised}; there are {there}; it is cut off, or its counts are wrong"
    )


def _text(
    body: bytes, row: np.dtype, count: int, line: int, where: str
) -> tuple[np.ndarray, list[int]]:
    numbered = enumerate(text_of(body, where).splitlines(), line + 1)
    rows = [(number, text) for number, text in numbered if text.strip()]
    if len(rows) != count:
        raise _wrong(where, count, f"{count} lines", len(rows))
    lines = [number for number, _ in rows]
    widths = [math.prod(row[name].shape) for name in row.names or ()]
    values = number_rows([text for _, text in rows], lines, where, None, sum(widths))
    table = np.empty(count, row)
    starts = np.cumsum([0, *widths])
    for name, start, width in zip(row.names or (), starts, widths, strict=False):
        part = values[:, start : start + width].reshape(count, *row[name].shape)
        real = row[name].base.kind == "f"
        table[name] = part if real else whole_numbers(part, row[name].base, name, lines, where)
    return table, lines


def _binary(body: bytes, row: np.dtype, count: int, where: str) -> np.ndarray:
    if not 0 <= len(body) - count * row.itemsize < row.itemsize:
        raise _wrong(where, count, f"{count * row.itemsize} bytes", len(body))
    return np.frombuffer(body, row, count)


def _compressed(body: bytes, row: np.dtype, count: int, where: str) -> np.ndarray:
    if len(body) < 8:
        raise _wrong(where, count, "eight bytes of sizes", len(body))
    packed, unpacked = (int(size) for size in np.frombuffer(body, "<u4", 2))
    if unpacked != count * row.itemsize or packed > len(body) - 8 or unpacked > MOST_GAIN * packed:
        raise _wrong(
            where,
            count,
            f"{count * row.itemsize} bytes",
            f"{unpacked} said to be packed in {packed}, of which {len(body) - 8} are in the file",
        )
    plain = lzf_decompress(body[8 : 8 + packed], unpacked, where)
    table, at = np.empty(count, row), 0
    for name in row.names or ():
        size = count * row[name].itemsize
        part = np.frombuffer(plain[at : at + size], row[name].base)
        table[name] = part.reshape(count, *row[name].shape)
        at += size
    return table


def lzf_decompress(packed: bytes, size: int, where: str = "LZF") -> bytes:
    """The `size` bytes that LZF has packed.

    Raises:
        ValueError: the code is damaged, or stands for another number of bytes.
    """
    out, at = bytearray(), 0
    try:
        while at < len(packed) and len(out) <= size:
            control = packed[at]
            at += 1
            if control < 32:
                run = packed[at : at + control + 1]
                if len(run) <= control:
                    raise IndexError
                out += run
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - packed[at] - 1
            at += 1
            length += 2
            if start < 0:
                raise IndexError
            piece = bytes(out[start : start + length])  # a copy may run into what it writes
            out += (piece * -(-length // len(piece)))[:length]
    except IndexError as error:
        raise ValueError(f"{where}: the LZF code is damaged at byte {at}") from error
    if len(out) != size:
        raise ValueError(f"{where}: the LZF code stands for {size} bytes; it gives {len(out)}")
    return bytes(out)


def _bytes(packed: np.ndarray) -> np.ndarray:
    """Red, green and blue of a packed colour, `[node, 3]`."""
    if packed.dtype.itemsize != 4:
        return packed
    bits = packed.view(np.uint32)
    return np.stack([bits >> 16, bits >> 8, bits], -1).astype(np.uint8)
