"""Files of arrays: npz in the manner of MD17, and HDF5 with one group per molecule.

npz: species `z`, `nuclear_charges`, `species` or `numbers` [node]; positions `R`, `coords`,
`coordinates` or `positions` [frame, node, 3]; energies `E` or `energies` [frame]; forces `F` or
`forces` [frame, node, 3]; optionally `cell` or `lattice` [3, 3] or
[frame, 3, 3] and `pbc` [3] (all three repeat where there is a cell and no `pbc`).

HDF5: every group that holds `species` [node] (symbols or atomic numbers) and `coordinates`
[frame, node, 3] is a molecule; beside them `energies` [frame], `forces` [frame, node, 3], `cell`,
`pbc`. Groups may be nested to any depth.

Other names are given by `keys`: {"positions": "xyz", "energy": "wb97x_dz.energy"}. Arrays that
begin with an axis as long as the positions' are read frame by frame.
"""

import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geojax.datasets.formats.labels import Entry, Precedence, Record
from geojax.elements import atomic_number

__all__ = ["ARRAY_KEYS", "GEOMETRY", "hdf5_records", "npz_records"]

ARRAY_KEYS: Precedence = {
    "energy": (("REF_energy",), ("E", "energies", "energy")),
    "forces": (("REF_forces",), ("F", "forces")),
    "stress": (("REF_stress",), ("stress",)),
}
GEOMETRY = {
    "species": ("z", "nuclear_charges", "species", "numbers", "atomic_numbers"),
    "positions": ("R", "coords", "coordinates", "positions"),
    "cell": ("cell", "lattice"),
    "pbc": ("pbc",),
}


def npz_records(path: Path, keys: Mapping[str, str]) -> Generator[Record, None, None]:
    """The frames of an npz file; `keys` may name species, positions, cell and pbc.

    Raises:
        ValueError: no npz file, pickled objects in it, or arrays that do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise ValueError(
            f"{path}: this is no npz file of plain arrays; {error}; pickled objects are not read, "
            "save plain arrays"
        ) from error
    yield from _frames(str(path), found, keys)


def hdf5_records(path: Path, keys: Mapping[str, str]) -> Generator[Record, None, None]:
    """The frames of all groups of an HDF5 file; `keys` may name species, positions, cell and pbc.

    Raises:
        ImportError: h5py is not installed.
        ValueError: no HDF5 file, or no group of the layout.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py; pip install 'geojax[data]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path}: this is no HDF5 file; {error}; it is damaged or of another format"
        ) from error
    with file:
        some = False
        for name, group in _groups(file, h5py.Group):
            found = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
            if _key("species", found, keys) and _key("positions", found, keys):
                some = True
                yield from _frames(f"{path}:{name}", found, keys)
        if not some:
            raise ValueError(
                f"{path}: a molecule is a group with `species` and `coordinates`; there is none "
                f"among {[name for name, _ in _groups(file, h5py.Group)][:10]}; name the keys, as "
                "keys={'species': 'atomic_numbers', 'positions': 'xyz'}"
            )


def _groups(group: Any, kind: type) -> Iterator[tuple[str, Any]]:
    yield group.name, group
    for child in group.values():
        if isinstance(child, kind):
            yield from _groups(child, kind)


def _key(what: str, found: Mapping[str, Any], keys: Mapping[str, str]) -> str | None:
    """The key that holds the species, positions, cell or pbc."""
    names = (keys[what],) if what in keys else GEOMETRY[what]
    return next((name for name in names if name in found), None)


def _frames(where: str, found: dict[str, np.ndarray], keys: Mapping[str, str]) -> Iterator[Record]:
    at = {what: _key(what, found, keys) for what in GEOMETRY}
    for what in GEOMETRY:
        if at[what] is None and (what in ("species", "positions") or what in keys):
            names = keys.get(what) or " or ".join(GEOMETRY[what])
            raise ValueError(
                f"{where}: {what} are read from {names}; there are: {', '.join(sorted(found))}"
            )
    value = lambda what: found[at[what] or ""] if at[what] else None
    species, positions = _species(where, value("species")), np.asarray(value("positions"))
    single = positions.ndim == 2
    positions = positions[None] if single else positions
    if positions.ndim != 3 or positions.shape[2] != 3 or species.shape[-1] != positions.shape[1]:
        raise ValueError(
            f"{where}: positions have shape [frame, node, 3] and species [node]; got "
            f"{list(positions.shape)} and {list(species.shape)}"
        )
    cell = None if value("cell") is None else np.asarray(value("cell"))
    pbc = np.asarray(cell is not None if value("pbc") is None else value("pbc"))
    others = {key: array for key, array in found.items() if key not in at.values()}
    for i in range(len(positions)):
        entries = [
            Entry(key, "array", array if single else _of_frame(array, i, len(positions)))
            for key, array in others.items()
        ]
        yield Record(
            f"{where}: frame {i}",
            positions[i],
            species[i] if species.ndim == 2 else species,
            cell[i] if cell is not None and cell.ndim == 3 else cell,
            pbc[i] if pbc.ndim == 2 else pbc,
            tuple(entries),
        )


def _of_frame(array: Any, frame: int, count: int) -> Any:
    return array[frame] if np.ndim(array) > 0 and len(array) == count else array


def _species(where: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "f" and (array == np.round(array)).all():
        return array.astype(int)
    try:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in array.ravel()]
        return np.array([atomic_number(name) for name in names]).reshape(array.shape)
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]}") from error
