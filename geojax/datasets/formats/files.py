"""`read`, `iread` and `write`: structures from and to files."""

import gzip
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from geojax.datasets.formats import arrays, atoms, clouds, extxyz
from geojax.datasets.formats.labels import ASE_KEYS, Entry, Record, Rules, Use, build, rules
from geojax.datasets.formats.paths import ANY, File, Source, called, files_of
from geojax.datasets.formats.report import LabelReport, tally
from geojax.datasets.packed import is_packed, open_packed
from geojax.files import replacing, write_whole
from geojax.graphs import Properties, Structure, is_per_node, leaves
from geojax.registry import did_you_mean

__all__ = ["Reading", "append", "iread", "read", "write"]

XYZ = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")
DATABASES = (".db", ".db.gz", ".aselmdb")
ARRAYS = (".npz", ".h5", ".hdf5")
UNIT_EXAMPLES = {
    "positions": "Å",
    "energy": "kcal/mol",
    "forces": "kcal/mol/Å",
    "stress": "GPa",
    "virials": "eV",
    "energies": "eV",
}


class Reading(NamedTuple):
    """The structures of a file, or of several, and the account of their keys."""

    structures: tuple[Structure, ...]
    report: LabelReport


class Ways(NamedTuple):
    """How files are read; the arguments of `read`."""

    keys: Mapping[str, str]
    units: Mapping[str, str] | None
    inputs: Mapping[str, str] | None
    classes: tuple[str, ...] = ()
    points: int | None = None
    unit_ball: bool = False
    seed: int = 0

    def named(self, files: Sequence[File]) -> "Ways":
        """With the classes of packed files, or that wildcards stand for, where none are given."""
        if self.classes:
            return self
        packed = [open_packed(f.path, {}).classes for f in files if is_packed(f.path)]
        known = next((classes for classes in packed if classes), ())
        if not known and ANY in self.keys.values():
            known = tuple(sorted({f.wildcard for f in files if f.wildcard}))
        return self._replace(classes=known)


def read(
    path: Source,
    *,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    points: int | None = None,
    unit_ball: bool = False,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> Reading:
    """All structures of a file, or of several, with their labels.

    A cloud of points has species 0, its own unit of length, and every field of the file as an input
    under its name; normals, colors (from 0 to 1) and intensity are called so.

    Args:
        path: a file, a pattern such as "shapes/*/train/*.off", or several of either. Extended xyz
            (`.xyz`, `.extxyz`), an ASE database (`.db`), either also with `.gz`, or
            one on LMDB (`.aselmdb`, as OMat24 and OMol25 come); arrays in `.npz`, `.h5` or `.hdf5`
            (layouts: see `formats.arrays` and `datasets.packed`); points in `.ply`, `.pcd`, `.vtk`,
            `.las`, `.laz`, `.off`, `.obj`, `.stl`, `.csv`, `.txt`, `.asc`, `.npy`, and in `.xyz`
            and `.npz` that hold no elements (see `formats.clouds`).
        keys: label -> key of the file, for labels that are not called `REF_energy`, `energy`,
            `REF_forces`, `forces`, `REF_stress`, `stress` or `virials`; also for `targets.NAME`
            and `node_targets.NAME`. A key that is named must be in the file; frames that lack it
            have no such label. "-gradient" is minus the value of `gradient`. "*" is what the first
            wildcard of a pattern stands for, such as the folder that is called like a class.
        units: unit of "positions" and of labels. Extended xyz and databases are in ASE's units
            unless said otherwise; files of arrays have no convention: there the unit of everything
            that is read has to be stated.
        inputs: input of the structure -> key, per node or one number of the whole structure (its
            charge, its spin), which every node gets; every frame must have it.
        skip_bad: leave out frames, and of several files those, that cannot be read, and list them
            in the report; of a cloud the points that are not finite.
        points: of a mesh: sample so many on its surface; without it the corners are the points.
        unit_ball: of clouds: moved and scaled, so that the mean of the points is the origin and the
            farthest is at radius 1; labels and other inputs stay as they are.
        classes: of targets that are classes: their names in the order of their numbers. A file may
            hold either. By default what "*" stands for, in alphabetical order.
        seed: of the points on a mesh.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown kind of file; no structures; a frame that cannot be read or has a
            label that is not finite; a named key that is nowhere; a class that is not one of
            `classes`. Messages begin with file and line or frame.
        KeyError: an unknown label or unit.
        ImportError: ase, ase-db-backends, h5py, trimesh, laspy or lazrs is needed and not
            installed.
    """
    files = files_of(path)
    ways = Ways(keys or {}, units, inputs, tuple(classes), points, unit_ball, seed).named(files)
    rejected: list[str] = []
    kept = _frames(files, ways, rejected if skip_bad else None)
    structures, uses, notes = zip(*kept, strict=True)
    lines = [line for frame in notes for line in frame]
    report = tally(called(path), structures, uses, rejected, lines)
    return Reading(structures, replace(report, classes=ways.classes))


def classes_of(
    path: Source, keys: Mapping[str, str] | None = None, classes: Sequence[str] = ()
) -> tuple[str, ...]:
    """The names of the classes that files are read with, in the order of their numbers; see `read`.

    Raises:
        As `read`.
    """
    return Ways(keys or {}, None, None, tuple(classes)).named(files_of(path)).classes


def iread(
    path: Source,
    *,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    points: int | None = None,
    unit_ball: bool = False,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> Iterator[Structure]:
    """The structures of a file one by one, for files larger than memory; see `read`.

    Databases, extended xyz and packed files are read as they are asked for; what is wrong with the
    file as a whole, such as a named key that no frame has, is found at its end.

    Raises:
        As `read`.
    """
    files = files_of(path)
    ways = Ways(keys or {}, units, inputs, tuple(classes), points, unit_ball, seed).named(files)
    for frame in _frames(files, ways, None):
        yield frame.structure


class _Frame(NamedTuple):
    structure: Structure
    uses: list[Use]
    notes: Sequence[str]


def _frames(files: Sequence[File], ways: Ways, rejected: list[str] | None) -> Iterator[_Frame]:
    """What `read` reads; bad frames are left out and their errors added to `rejected`, if given."""
    count, seen, named = 0, set[str](), dict[str, str]()
    for file in files:
        if is_packed(file.path):
            told = ways._asdict() | {"seed": 0}
            for structure in open_packed(file.path, told):
                count += 1
                yield _Frame(structure, _of_packed(structure), ())
            continue
        records, chosen, unit_needed = _opened(file, ways, rejected is not None)
        if len(files) > 1:
            records = _guarded(_with(records, Entry("file", "info", str(file.path))))
        named |= chosen.keys
        labels = set[str | None]()
        with closing(records):  # also where a frame is bad: a database is not opened twice
            for record in records:
                try:
                    if isinstance(record, ValueError):
                        raise record
                    seen |= {entry.key for entry in record.entries}
                    structure, uses = build(record, chosen)
                except ValueError as error:
                    if rejected is None:
                        raise
                    rejected.append(str(error))
                    continue
                count += 1
                if new := {use.label for use in uses} - labels:
                    labels |= new
                    if unit_needed:
                        _check_units(file.path, labels, chosen)
                yield _Frame(structure, uses, record.notes)
    where = files[0].path if len(files) == 1 else f"{len(files)} files from {files[0].path} on"
    _check_named(where, named, seen)
    if not count:
        reasons = f"; all {len(rejected)} were left out: {rejected[0]}" if rejected else ""
        raise ValueError(
            f"{where}: a file holds at least one structure; it has none{reasons}; write it again"
        )


def _opened(
    file: File, ways: Ways, skip_bad: bool
) -> tuple[Generator[Record | ValueError, None, None], Rules, bool]:
    """The records of a file, how to read them, and whether units have to be stated."""
    path, keys = file.path, dict(ways.keys)
    cloud = clouds.is_cloud(path, keys)
    if cloud:
        _check_cloud(path, ways.units)
        records = clouds.cloud_records(
            path, points=ways.points, seed=ways.seed, skip_bad=skip_bad, unit_ball=ways.unit_ball
        )
        chosen = rules(keys, None, ways.inputs, {}, ways.classes)
    elif ways.points is not None or ways.unit_ball:
        raise ValueError(
            f"{path}: points are sampled on a mesh, and clouds scaled into a ball; this file is of "
            f"atoms; got points={ways.points}, unit_ball={ways.unit_ball}"
        )
    else:
        records, chosen = _open(path, keys, ways)
    if file.wildcard and ANY in keys.values():
        records = _with(records, Entry(ANY, "path", file.wildcard))
    return records, chosen, path.name.lower().endswith(ARRAYS) and not cloud


def _with(
    records: Generator[Record | ValueError, None, None], more: Entry
) -> Generator[Record | ValueError, None, None]:
    """Records with one more entry, where they have none of its key."""
    with closing(records):
        for record in records:
            if isinstance(record, Record) and all(e.key != more.key for e in record.entries):
                record = record._replace(entries=(*record.entries, more))
            yield record


def _guarded(
    records: Generator[Record | ValueError, None, None],
) -> Generator[Record | ValueError, None, None]:
    """Records, and in place of what cannot be read the error: one file of many may be damaged."""
    with closing(records):
        try:
            yield from records
        except ValueError as error:
            yield error


def _of_packed(structure: Structure) -> list[Use]:
    names = [*leaves(structure.properties), *(f"inputs.{name}" for name in structure.inputs)]
    return [Use(name, "array", name) for name in names]


def _open(
    path: Path, keys: dict[str, str], ways: Ways
) -> tuple[Generator[Record | ValueError, None, None], Rules]:
    name = path.name.lower()
    if name.endswith(XYZ):
        return extxyz.records(path), rules(keys, ways.units, ways.inputs, ASE_KEYS, ways.classes)
    if name.endswith(DATABASES):
        chosen = rules(keys, ways.units, ways.inputs, ASE_KEYS, ways.classes)
        return atoms.database_records(path), chosen
    if name.endswith(ARRAYS):
        geometry = {key: keys.pop(key) for key in arrays.GEOMETRY if key in keys}
        chosen = rules(keys, ways.units, ways.inputs, arrays.ARRAY_KEYS, ways.classes)
        reader = arrays.npz_records if name.endswith(".npz") else arrays.hdf5_records
        return reader(path, geometry), chosen
    known = [*XYZ, *DATABASES, *ARRAYS, *clouds.CLOUDS]
    raise ValueError(
        f"{path}: the kind of file is told by the end of its name; "
        f"{did_you_mean(''.join(path.suffixes[-2:]), known)}"
    )


def _check_cloud(path: Path, units: Mapping[str, str] | None) -> None:
    if units:
        raise ValueError(
            f"{path}: a cloud keeps its own unit of length; got {units=}; leave it out"
        )


def _check_named(where: Any, named: Mapping[str, str], seen: set[str]) -> None:
    for label, key in named.items():
        if key not in seen and key.removeprefix("-") not in seen:
            raise ValueError(
                f"{where}: the key {key!r} was named for {label!r} and no frame has it; "
                f"{did_you_mean(key, seen)}"
            )


def _check_units(path: Path, labels: set[str | None], chosen: Rules) -> None:
    named = {"virials" if label == "stress" else label for label in labels}
    labels = named if "virials" in chosen.keys else labels
    needed = {"positions", *(label for label in labels if label in UNIT_EXAMPLES)}
    missing = needed - set(chosen.factors)
    if missing:
        example = {name: UNIT_EXAMPLES[name] for name in sorted(missing)}
        raise ValueError(
            f"{path}: files of arrays do not say their units and none is guessed; state those of "
            f"{', '.join(example)}, such as units={example}"
        )


def write(
    path: str | Path,
    structures: Iterable[Structure],
    predictions: Sequence[Properties] | None = None,
) -> None:
    """Write extended xyz, `.xyz` or `.extxyz`, also with `.gz`; one cloud as `.ply` or `.npy`.

    Labels are written as `REF_energy`, `REF_forces`, `REF_stress`, predictions as
    `geojax_energy`, …, and neither takes the place of the other. Numbers come back bit for bit. The
    file appears when it is complete. What files of clouds hold: see `formats.clouds`.

    Raises:
        ValueError: another kind of file; more than it holds; not one prediction per structure; two
            things of one name.
    """
    path = Path(path).expanduser()
    structures = tuple(structures)
    if path.suffix.lower() in clouds.WRITTEN:
        return _write_cloud(path, structures, predictions)
    if not path.name.lower().endswith(XYZ):
        kinds = ", ".join((*XYZ, *clouds.WRITTEN))
        raise ValueError(f"structures are written as one of {kinds}; got {path.name}")
    if predictions is not None and len(predictions) != len(structures):
        raise ValueError(
            f"each structure has one prediction; got {len(predictions)} for {len(structures)}"
        )
    opened = gzip.open if path.suffix == ".gz" else open
    with replacing(path) as (unfinished,), opened(unfinished, "wt", encoding="utf-8") as stream:
        for i, structure in enumerate(structures):
            predicted = Properties() if predictions is None else predictions[i]
            stream.write(extxyz.frame_text(structure, *_places(structure, predicted)))


def _write_cloud(
    path: Path, structures: Sequence[Structure], predictions: Sequence[Properties] | None
) -> None:
    if len(structures) != 1 or predictions is not None:
        raise ValueError(
            f"{path.suffix} holds one cloud and no predictions; got {len(structures)} structures"
            f"{' with predictions' if predictions is not None else ''}; write .xyz"
        )
    write_whole({path: clouds.cloud_bytes(structures[0], path.suffix.lower())})


def append(path: str | Path, structure: Structure, predicted: Properties | None = None) -> None:
    """Add one frame to an extended-xyz file, in the form of `write`; for trajectories."""
    text = extxyz.frame_text(structure, *_places(structure, predicted or Properties()))
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(text)


def _places(structure: Structure, predicted: Properties) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes into columns and what into the comment line, by key."""
    values: dict[str, tuple[bool, Any]] = {
        name: (True, array) for name, array in structure.inputs.items()
    }
    for prefix, properties in (("REF_", structure.properties), ("geojax_", predicted)):
        found = leaves(properties)
        for name, key in atoms.label_keys(found, prefix).items():
            if key in values or key in ("species", "pos", "Z"):
                raise ValueError(f"a key has one value; {key!r} would be written twice")
            per_node = is_per_node(name) or name == "hessian"
            values[key] = (per_node, found[name])
    for key, value in structure.info.items():
        if key != "origin" and key not in values:
            values[key] = (False, value)
    columns = {key: value for key, (per_node, value) in values.items() if per_node}
    pairs = {key: value for key, (per_node, value) in values.items() if not per_node}
    return columns, pairs
