"""Which files are clouds of points, and the records in them.

PLY, PCD, legacy VTK, LAS and LAZ, OFF, OBJ, STL, text of columns, and arrays; all but the arrays
also with `.gz`. `.xyz` and `.npz` may be atoms too: that is told by what is in them. Extended xyz
begins with a number of atoms, and arrays of atoms have species, energies or forces.
"""

import gzip
import io
import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import numpy as np

from geojax.datasets.formats import columns, las, meshes, pcd, ply, vtk
from geojax.datasets.formats.arrays import ARRAY_KEYS, GEOMETRY
from geojax.datasets.formats.fields import POSITIONS, Points, record
from geojax.datasets.formats.labels import Record
from geojax.graphs import Structure

__all__ = ["CLOUDS", "WRITTEN", "cloud_bytes", "cloud_records", "is_cloud"]

TEXTS = (".csv", ".txt", ".asc")
CLOUDS = (".ply", ".pcd", ".vtk", ".las", ".laz", *meshes.MESHES, *TEXTS, ".npy")
WRITTEN = (".ply", ".npy")
OF_ATOMS = {name.lower() for name in GEOMETRY["species"]} | {
    name.lower() for keys in ARRAY_KEYS.values() for names in keys for name in names
}
CHUNK = 1 << 24
START = 1 << 16


def is_cloud(path: Path, keys: Mapping[str, str]) -> bool:
    """Whether a file holds points, by the end of its name and, of `.xyz` and `.npz`, its content.

    Args:
        keys: of `formats.read`; who names the species means atoms.

    Raises:
        ValueError: `.gz` that is none.
    """
    kind = _kind(path)
    if kind == ".xyz" and path.stat().st_size:
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rb") as stream:
                return columns.are_columns(stream.read(START).decode("utf-8-sig", "replace"))
        except (OSError, EOFError, zlib.error):
            return False  # the reader of atoms says what is wrong
    if kind == ".npz" and "species" not in keys:
        try:
            with np.load(path, allow_pickle=False) as file:
                names = {name.lower() for name in file.files}
        except (ValueError, OSError, EOFError, zlib.error, AttributeError):
            return False
        return bool(names & set(POSITIONS)) and not names & OF_ATOMS
    return kind in CLOUDS


def cloud_records(
    path: Path,
    *,
    points: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    unit_ball: bool = False,
) -> Generator[Record, None, None]:
    """The clouds of a file.

    Args:
        points: of a mesh: sample so many on its surface in place of its corners.
        seed: of the sample.
        skip_bad: leave out points whose numbers are not finite.
        unit_ball: the mean of the points is moved to the origin, the farthest to radius 1.

    Raises:
        ImportError: trimesh, laspy or lazrs is needed and not installed.
        ValueError: the file cannot be read, or breaks a promise of its header; points are to be
            sampled and there is no surface. The message begins with the file.
    """
    data, where = _content(path), str(path)
    for i, found in enumerate(_read(data, _kind(path), where, points, seed)):
        place = where if _kind(path) not in (".npy", ".npz") or i == 0 else f"{where}: cloud {i}"
        cloud = record(place, found, skip_bad=skip_bad)
        yield _in_unit_ball(cloud) if unit_ball else cloud


def _in_unit_ball(cloud: Record) -> Record:
    positions = cloud.positions - cloud.positions.mean(0)
    radius = float(np.linalg.norm(positions, axis=1).max())
    note = "moved and scaled: the mean at the origin, the farthest point at radius 1"
    scaled = positions / radius if radius > 0 else positions
    return cloud._replace(positions=scaled, notes=(*cloud.notes, note))


def _read(data: bytes, kind: str, where: str, points: int | None, seed: int) -> Iterator[Points]:
    faces = ply.count_faces(data, where) if kind == ".ply" else 0
    if points is not None and kind not in meshes.MESHES and not faces:
        raise ValueError(
            f"{where}: points are sampled on the faces of a mesh; this file has none; leave out "
            f"points={points}"
        )
    if kind in meshes.MESHES or points is not None:
        if kind == ".ply":
            ply.ply_points(data, where)  # strictly, before trimesh reads it
        yield meshes.mesh_points(data, kind[1:], where, points, seed)
    elif kind in (".npy", ".npz"):
        yield from (columns.npy_points if kind == ".npy" else columns.npz_points)(data, where)
    elif kind in (".las", ".laz"):
        yield las.las_points(data, where)
    else:
        readers = {".ply": ply.ply_points, ".pcd": pcd.pcd_points, ".vtk": vtk.vtk_points}
        yield readers.get(kind, columns.text_points)(data, where)


def _kind(path: Path) -> str:
    """The end of the name, without `.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked."""
    if path.suffix.lower() != ".gz":
        data = path.read_bytes()
    else:
        pieces, size = [], 0
        try:
            with gzip.open(path) as stream:
                while piece := stream.read(CHUNK):
                    pieces.append(piece)
                    size += len(piece)
                    if size > columns.MOST_BYTES:
                        raise ValueError(
                            f"{path}: more than {columns.MOST_BYTES >> 30} GiB are packed in it"
                        )
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: the end of the name says gzip; {error}; damaged") from error
        data = b"".join(pieces)
    if not data.strip():
        raise ValueError(f"{path}: a cloud has one point or more; the file is empty")
    return data


def cloud_bytes(structure: Structure, kind: str) -> bytes:
    """A cloud as the bytes of a file, ".ply" or ".npy".

    PLY holds positions, inputs and labels of nodes. An array holds positions, and normals beside
    them if they are the only input.

    Raises:
        ValueError: what the kind of file cannot hold.
    """
    if structure.species.any() or structure.cell is not None:
        raise ValueError(f"{kind} holds points; the structure has elements or a cell: write .xyz")
    if kind == ".ply":
        return ply.ply_bytes(structure)
    if set(structure.inputs) - {"normals"} or structure.properties.node_targets:
        names = [*structure.inputs, *structure.properties.node_targets]
        raise ValueError(f".npy holds positions and normals; got {names}; write .ply")
    stream = io.BytesIO()
    np.save(stream, np.hstack([structure.positions, *structure.inputs.values()]))
    return stream.getvalue()
