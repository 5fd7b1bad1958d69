"""`Dataset`: structures in three splits and a card; data sets by name or from files."""

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geojax.assets import PACKAGE
from geojax.datasets import formats
from geojax.datasets.formats import LabelReport, Reading, read
from geojax.datasets.packed import Chosen, Packed, is_packed, open_packed
from geojax.elements import symbol
from geojax.graphs import Structure, leaves
from geojax.registry import Registry, did_you_mean

__all__ = [
    "DATASETS",
    "Dataset",
    "fingerprint",
    "folder",
    "from_files",
    "isolated_energies",
    "load",
    "split",
    "structure_of",
    "structures_of",
]

T = TypeVar("T")

ISOLATED = ("isolatedatom", "isolated_atom", "isolated atom")

DATASETS: Registry[Callable[..., "Dataset"]] = Registry("dataset")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Structures to train on, to choose by and to test on.

    Attributes:
        name: under which it was loaded.
        train, valid, test: structures; test may be empty where the data bring none. Training
            structures may be read from a file when asked for (see `datasets.packed`).
        card: description, units, licence, citation, level (of theory), published (figures, as
            text), and E0s: atomic number -> energy [eV] of the isolated atom, or None.
        reports: what became of the keys of each file that was read.
    """

    name: str
    train: Sequence[Structure]
    valid: tuple[Structure, ...] = ()
    test: tuple[Structure, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[LabelReport, ...] = ()

    def __post_init__(self):
        if not self.train:
            raise ValueError(f"a data set has training structures; {self.name!r} has none")


def load(name: str, **options: Any) -> Dataset:
    """The data set of that name; its options are the arguments of its function in `DATASETS`.

    Raises:
        KeyError: there is no data set, or no option, of that name.
        FileNotFoundError: the files are not on this machine.
    """
    make = DATASETS[name]
    known = list(inspect.signature(make).parameters)
    for option in options:
        if option not in known:
            raise KeyError(
                f"data set {name!r} has no option {option!r}; {did_you_mean(option, known)}"
            )
    return make(**options)


def is_file(source: str) -> bool:
    """A path, also of a file that is not there: names of data sets have no dot or slash."""
    return Path(source).expanduser().exists() or "." in source or "/" in source


def structures_of(
    source: str,
    split: str = "test",
    **reading: Any,
) -> tuple[Sequence[Structure], Sequence[Structure]]:
    """The structures of a file, or of a split of a data set, and those to fit a baseline on.

    Args:
        source: a file or a pattern, or the name of a data set.
        split: train, valid or test; a file has one.
        reading: how a file is read, see `formats.read`.

    Raises:
        KeyError: there is no data set or split of that name.
        ValueError: as `formats.read`; the split is empty; a data set is told how to be read.
    """
    if is_file(source):
        found = read(source, **reading).structures
        return found, found
    parts = ("train", "valid", "test")
    if split not in parts:
        raise KeyError(f"a data set has no split {split!r}; {did_you_mean(split, parts)}")
    if given := sorted(name for name, value in reading.items() if value):
        raise ValueError(
            f"a data set says itself how it is read; got {', '.join(given)} for {source!r}; leave "
            "them out, or name a file"
        )
    data = load(source)
    if not getattr(data, split):
        there = ", ".join(part for part in parts if getattr(data, part))
        raise ValueError(f"the data set {source!r} has no structures in {split}; there are {there}")
    return getattr(data, split), data.train


def structure_of(
    source: str,
    index: int,
    split: str = "test",
    **reading: Any,
) -> Structure:
    """One of `structures_of`; -1 is the last.

    Raises:
        ValueError: there is none of that index; as `structures_of`.
    """
    found, _ = structures_of(source, split, **reading)
    if not -len(found) <= index < len(found):
        raise ValueError(f"{source} has {len(found)} structures; got index {index}")
    return found[index]


def folder(name: str) -> Path:
    """The folder of a public data set below $GEOJAX_DATA.

    Where the variable is not set, `../shared/data` beside the checkout or the current folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    variable = os.environ.get("GEOJAX_DATA")
    near = [PACKAGE.parent.parent / "shared" / "data", Path.cwd().parent / "shared" / "data"]
    places = [Path(variable).expanduser()] if variable else near
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise FileNotFoundError(
        f"public data sets are read from the folder $GEOJAX_DATA; there is no {name!r} in "
        f"{' or '.join(str(place) for place in dict.fromkeys(places))} (GEOJAX_DATA is "
        f"{variable or 'not set'}); set GEOJAX_DATA to the folder that holds {name!r}"
    )


def existing(path: Path, why: str) -> Path:
    """`path`, which has to be there.

    Raises:
        FileNotFoundError: it is not; the message says `why` it may be missing.
    """
    if not path.exists():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*"))) or "nothing"
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}; {why}; there: {there}")
    return path


def split(
    structures: Sequence[T], sizes: Sequence[int | float], seed: int = 0
) -> tuple[tuple[T, ...], ...]:
    """Random parts of the given sizes, the same ones for the same seed and number of structures.

    Args:
        structures: order within a part is that of this sequence.
        sizes: counts, or fractions between 0 and 1 of all structures (rounded); one of them may be
            -1, which takes the rest.
        seed: of `numpy.random.default_rng`.

    Raises:
        ValueError: a part would be empty that was not asked to be, or the parts exceed the whole.
    """
    n = len(structures)
    counts = [round(s * n) if isinstance(s, float) and 0 <= s <= 1 else int(s) for s in sizes]
    rest = [i for i, count in enumerate(counts) if count == -1]
    if len(rest) == 1:
        counts[rest[0]] = n - sum(counts) - 1
    emptied = [s for s, count in zip(sizes, counts, strict=True) if count <= 0 and s != 0]
    if len(rest) > 1 or emptied or sum(counts) > n:
        raise ValueError(
            f"parts are counts or fractions, not empty, within the whole, and one may be -1 (the "
            f"rest); got {list(sizes)} of {n} structures"
        )
    order = np.random.default_rng(seed).permutation(n)
    edges = np.cumsum([0, *counts])
    parts = [np.sort(order[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return tuple(tuple(structures[i] for i in part) for part in parts)


def fingerprint(structures: Sequence[Structure]) -> str:
    """SHA-256 of all numbers of the structures in order: geometry, species, inputs, labels."""
    digest = hashlib.sha256()
    for structure in structures:
        values = {
            "positions": structure.positions,
            "species": structure.species,
            "pbc": np.array(structure.pbc),
            **({} if structure.cell is None else {"cell": structure.cell}),
            **{f"inputs.{name}": structure.inputs[name] for name in sorted(structure.inputs)},
            **leaves(structure.properties),
        }
        for name, value in values.items():
            array = np.asarray(value, np.float64)
            digest.update(f"{name} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def isolated_energies(structures: Sequence[Structure]) -> dict[int, float]:
    """Energies [eV] of structures of one atom, by atomic number.

    Raises:
        ValueError: one element with two energies, or an atom without one.
    """
    found: dict[int, float] = {}
    for s in structures:
        if len(s) != 1 or s.properties.energy is None:
            raise ValueError(
                f"an isolated atom is one atom with an energy; got {len(s)} atoms, energy "
                f"{s.properties.energy} ({s.info.get('origin', 'no file')})"
            )
        z, energy = int(s.species[0]), float(s.properties.energy)
        if abs(found.setdefault(z, energy) - energy) > 1e-6:
            raise ValueError(
                f"an isolated atom has one energy; {symbol(z)} has {found[z]} and {energy} eV"
            )
    return found


def from_files(
    train: formats.Source,
    valid: formats.Source | int | float = 0.1,
    test: formats.Source | int | float = 0,
    *,
    name: str | None = None,
    E0s: str | Path | None = None,
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    points: int | None = None,
    unit_ball: bool = False,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> Dataset:
    """A data set from files of one's own.

    Structures of one atom that the training file marks by `config_type=IsolatedAtom` give the
    energies of isolated atoms and are not trained on.

    Args:
        train: a file, a pattern or several, see `formats.read`; of one packed file (see
            `datasets.packed`) the training structures stay in the file.
        valid, test: files, or how many (or which fraction) of the training structures to hold out
            at random. Frames of one trajectory resemble each other: hold out a file of other runs
            where there is one.
        name: the name of the training file by default.
        E0s: a file of isolated atoms.
        keys, units, inputs, skip_bad: see `formats.read`; of all files, also that of `E0s`.
        points, unit_ball: of clouds, see `formats.read`.
        classes: see `formats.read`; by default those of the training files, for all files.
        seed: of the random split, and of the points on a mesh.

    Raises:
        ValueError: E0s are no file; and as `formats.read` and `split`.
    """
    options = {"keys": keys, "units": units, "inputs": inputs}
    shapes = {"points": points, "unit_ball": unit_ball, "classes": tuple(classes)}
    readings: dict[str, Reading] = {}
    if isinstance(train, str | Path) and is_packed(train):
        every = open_packed(train, options | shapes)
        shapes["classes"] = shapes["classes"] or every.classes
    else:
        readings["train"] = read(train, **options, **shapes, skip_bad=skip_bad, seed=seed)
        every = readings["train"].structures
        shapes["classes"] = readings["train"].report.classes
    for part, source in (("valid", valid), ("test", test)):
        if not isinstance(source, int | float):
            readings[part] = read(source, **options, **shapes, skip_bad=skip_bad, seed=seed)
    apart = np.array([_is_isolated(s) for s in every])
    alone = [every[int(i)] for i in np.flatnonzero(apart)]
    if E0s is not None:
        if not Path(E0s).suffix and not Path(E0s).exists():
            raise ValueError(
                f"E0s of a data set are a file of isolated atoms; got {str(E0s)!r}; a way to find "
                "them is an argument of train, in a study: [train] E0s = …"
            )
        named = {label: key for label, key in (keys or {}).items() if label == "energy"}
        readings["E0s"] = read(E0s, keys=named, units=units)
        alone = list(readings["E0s"].structures)
    sizes = [size if isinstance(size, int | float) else 0 for size in (valid, test)]
    taken = split(np.flatnonzero(~apart).tolist(), [-1, *sizes], seed)
    parts: dict[str, Any] = {
        part: tuple(every[i] for i in taken[number]) for number, part in ((1, "valid"), (2, "test"))
    }
    stays = isinstance(every, Packed)
    parts["train"] = Chosen(every, taken[0]) if stays else tuple(every[i] for i in taken[0])
    parts |= {key: r.structures for key, r in readings.items() if key in ("valid", "test")}
    source = train if isinstance(train, str | Path) else ", ".join(map(str, train))
    told = {key: list(x) if key == "classes" else x for key, x in shapes.items() if x}
    return Dataset(
        name=name or _name(train),
        **parts,
        card={"source": str(source), "E0s": isolated_energies(alone) or None, **told},
        reports=tuple(reading.report for reading in readings.values()),
    )


def _name(source: formats.Source) -> str:
    """Of the first file, or of the folder that a pattern begins with."""
    parts = Path(source if isinstance(source, str | Path) else source[0]).parts
    plain = list(takewhile(lambda part: not formats.is_pattern(part), parts))
    return plain[-1].split(".")[0] if plain else "data"


def _is_isolated(structure: Structure) -> bool:
    return len(structure) == 1 and str(structure.info.get("config_type")).lower() in ISOLATED


def of_readings(
    name: str, readings: Mapping[str, Reading], card: Mapping[str, Any], **parts: Any
) -> Dataset:
    """A data set whose card gets its E0s from the reading "E0s"; parts default to readings."""
    energies = isolated_energies(readings["E0s"].structures) if "E0s" in readings else None
    found = {k: r.structures for k, r in readings.items() if k in ("train", "valid", "test")}
    reports = tuple(reading.report for reading in readings.values())
    return Dataset(name, **(found | parts), card={**card, "E0s": energies}, reports=reports)
