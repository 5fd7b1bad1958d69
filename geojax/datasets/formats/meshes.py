"""Meshes (`.off`, `.obj`, `.stl`, PLY with faces) as points: a sample of the surface, or corners.

trimesh reads the files. The sample is by area: a triangle is drawn with a chance that is its area,
and a point in it evenly. It is the same for the same seed.
"""

import io
import re
import warnings
from typing import Any

import numpy as np

from geojax.datasets.formats.columns import text_of
from geojax.datasets.formats.fields import Points

__all__ = ["MESHES", "mesh_points", "sample_surface"]

MESHES = (".off", ".obj", ".stl")
GLUED = re.compile(r"(\w*OFF)(\d+)")  # a header and the first count, without the end of the line


def mesh_points(
    data: bytes, kind: str, where: str, points: int | None = None, seed: int = 0
) -> Points:
    """Points on the surface with the normals of their faces; without `points` the corners.

    Args:
        kind: "off", "obj", "stl" or "ply".
        points: how many are sampled.
        seed: of the sample.

    Raises:
        ImportError: trimesh is not installed.
        ValueError: no mesh that can be read; faces of corners that are not there; no area.
    """
    if kind == "off":
        _check_off(data, where)
    vertices, faces = _load(data, kind, where)
    what = f"a mesh of {len(vertices)} corners and {len(faces)} faces"
    if points is None:
        corners = vertices
        if kind == "stl":  # every triangle brings its own
            corners = vertices[np.sort(np.unique(vertices, axis=0, return_index=True)[1])]
        fields = dict(zip("xyz", corners.T, strict=True))
        return Points(fields, "corner", note=f"the {len(corners)} corners of {what}")
    if not np.isfinite(vertices).all():
        raise ValueError(f"{where}: corners of a mesh are finite; some are not; repair the mesh")
    try:
        positions, normals, _ = sample_surface(vertices, faces, points, seed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    fields = dict(zip("xyz", positions.T, strict=True)) | {"normals": normals}
    return Points(fields, "sample", note=f"{points} points on the surface of {what}, seed {seed}")


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, points: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random points on triangles, evenly by area.

    Args:
        vertices: `[corner, 3]`.
        faces: `[face, 3]`, corners of each triangle.

    Returns:
        Positions `[point, 3]`, unit normals `[point, 3]` by the right hand along the corners, and
        the face of each point.

    Raises:
        ValueError: no point is asked for; the triangles have no area.
    """
    if points < 1:
        raise ValueError(f"a sample has one point or more; got points={points}")
    first, second, third = np.moveaxis(vertices[faces], 1, 0)
    cross = np.cross(second - first, third - first)
    double = np.linalg.norm(cross, axis=1)
    if not double.sum() > 0:
        raise ValueError(f"a surface has an area; {len(faces)} faces have none; sample no points")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(faces), points, p=double / double.sum())
    u, v = rng.random((2, points, 1))
    root = np.sqrt(u)  # even in the triangle: Osada et al. 2002
    parts = (1 - root, root * (1 - v), root * v)
    corners = (first[chosen], second[chosen], third[chosen])
    positions = sum(part * corner for part, corner in zip(parts, corners, strict=True))
    return np.asarray(positions), cross[chosen] / double[chosen, None], chosen


def _load(data: bytes, kind: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners and triangles, as trimesh reads them."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("meshes are read by trimesh; pip install 'geojax[points]'") from error
    options: dict[str, Any] = {"process": False, "skip_materials": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # text that is no number is dropped with a warning
            mesh = trimesh.load_mesh(io.BytesIO(data), file_type=kind, **options)
    except Exception as error:  # whatever a parser meets in a damaged file
        raise ValueError(
            f"{where}: trimesh cannot read this as {kind}: {type(error).__name__}: {error}; it is "
            "damaged or of another format"
        ) from error
    vertices = np.asarray(getattr(mesh, "vertices", ()), np.float64).reshape(-1, 3)
    faces = np.asarray(getattr(mesh, "faces", ()), np.int64).reshape(-1, 3)
    if not len(vertices):
        raise ValueError(f"{where}: a mesh has corners and faces; trimesh finds neither in it")
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(
            f"{where}: faces join corners that are there; there are {len(vertices)} and a face "
            f"names {faces.max() if faces.min() >= 0 else faces.min()} (counted from 0)"
        )
    return vertices, faces


def _check_off(data: bytes, where: str) -> None:
    """Refuse an OFF file with fewer rows than its header promises, which trimesh would take."""
    plain = (line.partition("#")[0] for line in text_of(data, where).splitlines())
    words = [row for row in (line.split() for line in plain) if row]
    if words and (glued := GLUED.fullmatch(words[0][0])):  # as ModelNet's are
        words[0][:1] = glued.groups()
    head = words[0] if words else [""]
    if not head[0].endswith("OFF"):
        raise ValueError(f"{where}: an OFF file begins with OFF; got {' '.join(head)[:40]!r}")
    counts, rest = (head[1:], words[1:]) if len(head) > 1 else ((words + [[]])[1], words[2:])
    if len(counts) < 2 or not all(word.isdecimal() for word in counts[:2]):
        raise ValueError(f"{where}: OFF is followed by its counts; got {' '.join(counts)[:40]!r}")
    if sum(map(int, counts[:2])) > len(rest):
        raise ValueError(
            f"{where}: a file holds the rows that its header promises, {counts[0]} corners and "
            f"{counts[1]} faces; there are {len(rest)} rows; it is cut off"
        )
