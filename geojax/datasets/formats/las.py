"""LAS and LAZ, the formats of airborne laser scans, read by laspy."""

import io
from typing import Any

import numpy as np

from geojax.datasets.formats.columns import MOST_BYTES
from geojax.datasets.formats.fields import Points

__all__ = ["las_points"]

RAW = ("X", "Y", "Z")  # whole numbers; x, y, z are these times the scale plus the offset


def las_points(data: bytes, where: str) -> Points:
    """The points of a file; dimensions that are zero throughout are left aside.

    Raises:
        ImportError: laspy, or lazrs for LAZ, is not installed.
        ValueError: no LAS file, or one with fewer points than its header says.
    """
    try:
        import laspy
    except ImportError as error:
        raise ImportError("LAS files are read by laspy; pip install 'geojax[points]'") from error
    try:
        with laspy.open(io.BytesIO(data)) as file:
            header = file.header
            size = header.point_count * header.point_format.size
            limit = MOST_BYTES if header.are_points_compressed else len(data)
            if size > limit:
                raise ValueError(
                    f"{header.point_count} points take {size} bytes; {limit} are the most"
                )
            table = file.read()
            if len(table) != header.point_count:
                raise ValueError(
                    f"{header.point_count} points are promised; {len(table)} are there"
                )
    except Exception as error:  # laspy, lazrs and struct have each their own
        if "backend" in str(error).lower():
            raise ImportError("LAZ files need lazrs; pip install 'geojax[points]'") from error
        raise ValueError(
            f"{where}: laspy cannot read this: {error}; it is cut off, damaged or of another format"
        ) from error
    fields, unused = _dimensions(table)
    return Points(fields, "dimension", unused=tuple(unused))


def _dimensions(table: Any) -> tuple[dict[str, np.ndarray], list[tuple[str, str, str]]]:
    fields = {name: np.asarray(getattr(table, name), np.float64) for name in "xyz"}
    unused = []
    for name in table.point_format.dimension_names:
        array = np.asarray(table[name])
        if name in RAW:
            continue
        if array.any():
            fields[name] = array
        else:
            unused.append((name, "dimension", "not used: zero throughout"))
    return fields, unused
