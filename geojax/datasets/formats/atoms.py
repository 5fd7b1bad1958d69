"""ASE: `Atoms` to `Structure` and back, and ASE databases."""

import gzip
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geojax.datasets.formats.labels import Entry, Record, build, rules
from geojax.graphs import Structure, is_per_node, leaves

__all__ = ["database_records", "from_ase", "label_keys", "record_of_atoms", "to_ase"]

OWN_ARRAYS = ("numbers", "positions")


def from_ase(
    atoms: Any,
    *,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    labels: bool = True,
    where: str = "ase.Atoms",
) -> Structure:
    """The structure of an `ase.Atoms`.

    Args:
        atoms: labels are looked for in `info`, `arrays` and `calc.results` as `read` does.
        keys: label -> key, see `read`.
        units: where they are not ASE's own, see `read`.
        inputs: input -> name in `atoms.arrays`, or of one number in `atoms.info`.
        labels: False leaves labels and info out.
        where: the beginning of error messages.

    Raises:
        ValueError: as `read`; the results of the calculator belong to other positions.
    """
    record = record_of_atoms(atoms, where, results=labels)
    if labels:
        there = {entry.key for entry in record.entries}
        for label, key in (keys or {}).items():
            if not {key, key.removeprefix("-")} & there:
                raise ValueError(_missing(where, label, key, record))
        structure, _ = build(record, rules(keys, units, inputs))
        return structure
    named = {*(inputs or {}).values()}
    kept = (e for e in record.entries if e.kind == "array" or e.key in named)
    bare = record._replace(entries=tuple(kept))
    structure, _ = build(bare, rules(None, units, inputs, precedence={}))
    return structure.replace(info={})


def _missing(where: str, label: str, key: str, record: Record) -> str:
    there = ", ".join(sorted({entry.key for entry in record.entries})) or "none"
    return f"{where}: the key {key!r} was named for {label!r} and is not there; there are: {there}"


def record_of_atoms(atoms: Any, where: str, results: bool = True) -> Record:
    """What an `ase.Atoms` holds; the results of its calculator where they are up to date."""
    entries = [Entry(key, "info", value) for key, value in atoms.info.items()]
    entries += [Entry(k, "array", a) for k, a in atoms.arrays.items() if k not in OWN_ARRAYS]
    calculator = atoms.calc if results else None
    if calculator is not None and getattr(calculator, "results", None):
        changed = calculator.check_state(atoms)
        if changed:
            raise ValueError(
                f"{where}: a calculator's results are labels of the atoms it saw; changed since: "
                f"{', '.join(changed)}; compute again, or set atoms.calc = None"
            )
        entries += [Entry(key, "result", value) for key, value in calculator.results.items()]
    cell = np.asarray(atoms.cell[:])
    return Record(
        where,
        atoms.positions,
        atoms.numbers,
        cell if cell.any() else None,
        atoms.pbc,
        tuple(entries),
    )


def to_ase(structure: Structure) -> Any:
    """An `ase.Atoms` with labels as `REF_energy`, `REF_forces`, … in `info` and `arrays`.

    `from_ase` makes the same structure of it. No calculator is attached.

    Raises:
        ImportError: ase is not installed.
    """
    Atoms = _ase("ase").Atoms
    atoms = Atoms(
        numbers=structure.species,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        info=dict(structure.info),
    )
    for name, value in structure.inputs.items():
        atoms.set_array(name, value)
    for name, value in leaves(structure.properties).items():
        key = label_keys([name], "REF_")[name]
        if is_per_node(name):
            atoms.set_array(key, value)
        else:
            atoms.info[key] = float(value) if name == "energy" else value
    return atoms


def label_keys(names: Any, prefix: str) -> dict[str, str]:
    """The key that each property is written under: "targets.mu" is "REF_mu" with prefix "REF_".

    Raises:
        ValueError: two properties would have one key.
    """
    keys = {name: prefix + name.rpartition(".")[2] for name in names}
    if len(set(keys.values())) < len(keys):
        raise ValueError(f"two properties of one name cannot be written; got {sorted(keys)}")
    return keys


def database_records(path: Path) -> Generator[Record, None, None]:
    """The rows of an ASE database, with calculator results and `row.data`.

    Args:
        path: `.db` or `.db.gz` (SQLite), or `.aselmdb`.

    Raises:
        ImportError: ase is not installed, or ase-db-backends for LMDB.
        ValueError: the file is no database.
    """
    with tempfile.TemporaryDirectory() as scratch:
        plain = path
        try:
            if path.suffix == ".gz":
                plain = Path(scratch) / "unpacked.db"
                with gzip.open(path) as packed, plain.open("wb") as target:
                    shutil.copyfileobj(packed, target)
            for row in _database(plain).select():
                atoms = row.toatoms()
                where = f"{path}: row {row.id}"
                record = record_of_atoms(atoms, where)
                more = [Entry(k, "info", v) for k, v in row.key_value_pairs.items()]
                more += [Entry(k, "data", v) for k, v in row.data.items()]
                yield record._replace(entries=(*record.entries, *more))
        except (sqlite3.Error, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _no_database(path, error) from error


def _database(path: Path) -> Any:
    """Opened to be read: nothing is written into it or beside it."""
    connect = _ase("ase.db").connect
    if path.suffix != ".aselmdb":
        return connect(path, type="db", use_lock_file=False)
    try:
        import lmdb

        lmdb.open(str(path), subdir=False, readonly=True, lock=False).close()  # the error, if any
        return connect(path, type="aselmdb", use_lock_file=False, readonly=True)
    except ImportError as error:
        raise ImportError(
            "ASE's databases on LMDB need ase-db-backends; pip install 'geojax[lmdb]'"
        ) from error
    except lmdb.Error as error:
        raise _no_database(path, error) from error


def _no_database(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: this is no ASE database; {error}; it is damaged or of another format"
    )


def _ase(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "ASE's objects and files need ase; pip install 'geojax[atoms]'"
        ) from error
