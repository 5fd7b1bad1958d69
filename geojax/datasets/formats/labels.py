"""From what a file holds to a `Structure`: which key is which label, in which unit.

Rules. `REF_energy` goes before `energy`, likewise forces and stress. `virials` are -V·stress. A key
that is named explicitly must be in the file. The same label twice with different values is refused.
Nothing is invented: what is not in the file stays None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geojax.graphs import Properties, Structure, replace_leaves
from geojax.registry import did_you_mean
from geojax.units import convert

__all__ = ["Entry", "Record", "Rules", "Use", "build", "full_stress", "rules"]

# Which keys are taken for a label without being asked, in falling precedence. Keys of one tuple
# say the same thing and have to agree.
Precedence = Mapping[str, tuple[tuple[str, ...], ...]]
ASE_KEYS: Precedence = {
    "energy": (("REF_energy",), ("energy",)),
    "forces": (("REF_forces",), ("forces",)),
    "stress": (
        ("REF_stress", "REF_virials", "REF_virial"),
        ("stress", "virials", "virial"),
    ),
}
VIRIALS = ("REF_virials", "REF_virial", "virials", "virial")
OWN_UNITS = {  # what geojax computes in
    "positions": "Å",
    "energy": "eV",
    "energies": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å³",
    "virials": "eV",
}
KEPT = "kept in info"  # the remark on a key that is no label
PLAIN_LABELS = ("energy", "forces", "stress", "virials", "energies", "hessian")
GROUPS = ("targets", "node_targets")


@dataclass(frozen=True, eq=False)
class Entry:
    """One key of a frame: where it stood ("info", "array", "result", "data"), value, a remark."""

    key: str
    kind: str
    value: Any
    remark: str = ""


class Record(NamedTuple):
    """A frame as the file gives it, before labels are chosen.

    Attributes:
        where: file and line or frame, the beginning of every error message.
        positions: `[node, 3]`, in the unit of the file, as are the others.
        species: `[node]`.
        cell: `[3, 3]` or None.
        pbc: as in `Structure`.
        entries: all else.
        inputs: input -> key, of what is an input without being named so: the fields of a cloud.
        notes: how the file was read, where it could have been read in another way.
    """

    where: str
    positions: Any
    species: Any
    cell: Any
    pbc: Any
    entries: tuple[Entry, ...]
    inputs: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()


class Use(NamedTuple):
    """What became of one key of a frame: the label or input it was used as, or a remark why not."""

    key: str
    kind: str
    label: str | None
    remark: str = ""


@dataclass(frozen=True)
class Rules:
    """How the keys of a file are read; made by `rules`."""

    keys: Mapping[str, str] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    precedence: Precedence = field(default_factory=lambda: ASE_KEYS)
    classes: Sequence[str] = ()


def rules(
    keys: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    precedence: Precedence = ASE_KEYS,
    classes: Sequence[str] = (),
) -> Rules:
    """Checked rules.

    Args:
        keys: label -> key of the file; labels are energy, forces, stress, virials, energies,
            hessian, targets.NAME and node_targets.NAME. "-gradient" is minus the value of the key
            `gradient`.
        units: of "positions" and labels, where they are not eV, Å and what follows from them.
        inputs: input of the structure -> key of the file, per node or one number of the whole
            structure (its charge, its spin), which every node gets.
        precedence: which keys are labels without being named.
        classes: what the numbers of a target stand for; a file holds the words or the numbers.

    Raises:
        KeyError: an unknown label or unit.
        ValueError: a unit of another dimension than its label; a class twice.
    """
    if len(set(classes)) != len(classes):
        raise ValueError(f"a class is named once; got {list(classes)}")
    for label in keys or {}:
        group, dot, name = label.partition(".")
        if not (label in PLAIN_LABELS or (dot and name and group in GROUPS)):
            known = [*PLAIN_LABELS, *(f"{group}.NAME" for group in GROUPS)]
            raise KeyError(f"there is no label {label!r}; {did_you_mean(label, known)}")
    factors = {}
    for label, unit in (units or {}).items():
        if label not in OWN_UNITS:
            raise KeyError(
                f"units are stated of positions and of labels with a unit; got {label!r}; "
                f"{did_you_mean(label, OWN_UNITS)}"
            )
        factors[label] = convert(1.0, unit, OWN_UNITS[label])
    return Rules(dict(keys or {}), factors, dict(inputs or {}), precedence, tuple(classes))


def build(record: Record, rules: Rules) -> tuple[Structure, list[Use]]:
    """The structure of a frame, and what became of each of its keys.

    Raises:
        ValueError: the frame is not a structure, or one of its labels is wrong; the message begins
            with `record.where` and names the key.
    """
    try:
        return _build(record, rules)
    except (ValueError, TypeError, KeyError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(f"{record.where}: {text}") from error


def _build(record: Record, rules: Rules) -> tuple[Structure, list[Use]]:
    bare = _bare(record, rules)
    uses: dict[Entry, Use] = {}
    labels = _labels(record, rules, bare, uses)
    inputs = _inputs(record, rules, uses)
    info = {"origin": record.where}
    for entry in record.entries:
        use = uses.setdefault(entry, Use(entry.key, entry.kind, None, entry.remark))
        if use.label is None and entry.kind == "info" and _is_small(entry.value):
            info[entry.key] = entry.value
            uses[entry] = use if use.remark else use._replace(remark=KEPT)
    properties = replace_leaves(Properties(), labels)
    return bare.replace(inputs=inputs, properties=properties, info=info), list(uses.values())


def _bare(record: Record, rules: Rules) -> Structure:
    """Positions, species and cell alone."""
    length = rules.factors.get("positions", 1.0)
    x, y, z = np.broadcast_to(np.asarray(record.pbc, bool), 3).tolist()
    bare = Structure(
        np.asarray(record.positions, np.float64) * length,
        np.asarray(record.species),
        cell=None if record.cell is None else np.asarray(record.cell, np.float64) * length,
        pbc=(x, y, z),
    )
    if len(bare) == 0:
        raise ValueError(
            "a structure has at least one atom; this one has none; take the frame out, or give "
            "skip_bad=True to leave such frames out"
        )
    return bare


def _labels(record: Record, rules: Rules, bare: Structure, uses: dict) -> dict[str, np.ndarray]:
    labels: dict[str, np.ndarray] = {}
    for label, key in rules.keys.items():
        value = _explicit(label, key, record, rules, bare, uses)
        if value is not None:
            name = "stress" if label == "virials" else label
            _agree(name, labels.get(name, value), value, "the keys that were named")
            labels[name] = value
    named = {"stress" if label == "virials" else label for label in rules.keys}
    for label in rules.precedence:
        if label not in named:
            value = _automatic(label, record, rules, bare, uses)
            labels |= {} if value is None else {label: value}
    return labels


def _inputs(record: Record, rules: Rules, uses: dict) -> dict[str, np.ndarray]:
    inputs = {}
    named = {*rules.keys.values(), *rules.inputs.values()}
    own = {name: key for name, key in record.inputs.items() if key not in named}
    for name, key in (own | dict(rules.inputs)).items():
        found = [entry for entry in record.entries if entry.key == key]
        if not found:
            there = ", ".join(sorted({entry.key for entry in record.entries})) or "none"
            raise ValueError(f"the input {name!r} is read from {key!r}; there are: {there}")
        label = f"inputs.{name}"
        uses |= {entry: Use(entry.key, entry.kind, label, entry.remark) for entry in found}
        value = _numbers(key, found[0].value)
        value = value.astype(np.float64) if own.get(name) == key else value
        # One number of the whole structure, such as its charge: every node gets it.
        inputs[name] = np.full(len(record.positions), value) if value.ndim == 0 else value
    return inputs


def _explicit(
    label: str, key: str, record: Record, rules: Rules, bare: Structure, uses: dict
) -> np.ndarray | None:
    """The value of a key that was named; None where this frame does not have it."""
    sign, name = 1.0, key
    if key.startswith("-") and all(entry.key != key for entry in record.entries):
        sign, name = -1.0, key[1:]
    found = [entry for entry in record.entries if entry.key == name]
    return _one(label, found, rules, bare, uses, sign)


def _automatic(
    label: str, record: Record, rules: Rules, bare: Structure, uses: dict
) -> np.ndarray | None:
    value = None
    winner = ""
    for names in rules.precedence[label]:
        found = [entry for entry in record.entries if entry.key in names]
        if found and value is None:
            value = _one(label, found, rules, bare, uses)
            winner = found[0].key
        elif found:
            remark = f"not used: {winner} goes before it"
            uses |= {entry: Use(entry.key, entry.kind, None, remark) for entry in found}
    return value


def _one(
    label: str,
    found: Sequence[Entry],
    rules: Rules,
    bare: Structure,
    uses: dict,
    sign: float = 1.0,
) -> np.ndarray | None:
    """The one value that all `found` entries give for the label."""
    value = None
    for entry in found:
        how = "virials" if label == "stress" and entry.key in VIRIALS else label
        if how in ("stress", "virials") and not all(bare.pbc):
            remark = "not used: stress needs three lattice vectors that repeat"
            uses[entry] = Use(entry.key, entry.kind, None, remark)
            continue
        new = _checked(how, entry.key, entry.value, bare, rules.classes)
        factor = sign * rules.factors.get(how, 1.0)
        factor = -factor / bare.volume if how == "virials" else factor
        new = new if factor == 1.0 else np.asarray(new * factor)  # an integer stays one
        _agree(label, new if value is None else value, new, " and ".join(e.key for e in found))
        value = new if value is None else value
        uses[entry] = Use(entry.key, entry.kind, label)
    return value


def _agree(label: str, first: np.ndarray, second: np.ndarray, keys: str) -> None:
    scale = max(float(np.abs(first).max(initial=0)), 1e-3)
    if first.shape != second.shape or np.abs(first - second).max(initial=0) > 1e-4 * scale:
        raise ValueError(
            f"one label has one value; {label} is there twice ({keys}) and differs; "
            f"{_sketch(first)} against {_sketch(second)}; name the right key: "
            f"keys={{'{label}': …}}"
        )


def _checked(
    label: str, key: str, value: Any, bare: Structure, classes: Sequence[str]
) -> np.ndarray:
    """The value as an array of the label's shape, finite."""
    if label.partition(".")[0] in GROUPS:
        value = _of_classes(key, value, classes)
    array = _numbers(key, value)
    n = len(bare)
    if label == "energy":
        if array.size != 1:
            raise ValueError(
                f"an energy is one number; {key} has shape {list(array.shape)}; name the key of "
                "the total energy: keys={'energy': …}"
            )
        array = array.reshape(())
    elif label == "forces" and array.shape != (n, 3):
        raise ValueError(
            f"forces have shape [{n}, 3]; {key} has {list(array.shape)}; write three components "
            "for each atom, or name another key: keys={'forces': …}"
        )
    elif label in ("stress", "virials"):
        array = full_stress(array.astype(np.float64), key)
    elif label == "hessian":
        if array.size != 9 * n * n:
            raise ValueError(f"a hessian has shape [{n}, 3, {n}, 3]; {key}: {list(array.shape)}")
        array = array.reshape(n, 3, n, 3)
    elif (label == "energies" or label.startswith("node_")) and array.shape[:1] != (n,):
        raise ValueError(f"{label} has one row per atom ({n}); {key} has {list(array.shape)}")
    if label in PLAIN_LABELS:
        array = array.astype(np.float64)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        place = f" at {where}" if where else ""
        place += f" (atom {where[0]}, axis {'xyz'[where[1]]})" if label == "forces" else ""
        raise ValueError(
            f"a label is finite; {key} has {array[tuple(where)]}{place}; take the frame out, or "
            "give skip_bad=True to leave such frames out"
        )
    return array


def _of_classes(key: str, value: Any, classes: Sequence[str]) -> Any:
    """The numbers of classes, which may be given by their names; without classes the value."""
    words = np.asarray(value)
    if words.dtype.kind != "U":
        if not classes:
            return value
        if (words != np.floor(words)).any() or words.min() < 0 or words.max() >= len(classes):
            raise ValueError(
                f"{key} is a class, one of {len(classes)} from 0 to {len(classes) - 1}; got "
                f"{_sketch(words)} from {words.min():g} to {words.max():g}"
            )
        return words.astype(np.int64)
    if not classes:
        raise ValueError(
            f"classes have numbers; {key} has words, such as {str(words.flat[0])[:60]!r}; state "
            "all of them in the order of their numbers: classes=[…]"
        )
    number = {name: i for i, name in enumerate(classes)}
    if unknown := sorted(set(words.ravel().tolist()) - set(number)):
        raise ValueError(f"{key} is a class; {did_you_mean(unknown[0], number)}")
    return np.vectorize(number.__getitem__, otypes=[np.int64])(words)


def _numbers(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{key} must be numbers; got {str(value)[:60]!r}; write 1.0E+00 for 1.0D+00, and "
            "repair what an overflowing format left as ****"
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def full_stress(value: Float[np.ndarray, "*shape"], key: str = "stress") -> Float[Any, "3 3"]:
    """The symmetric tensor of 3 × 3 or 9 numbers, or of 6 in the order xx yy zz yz xz xy.

    Raises:
        ValueError: another shape, or not symmetric to a thousandth of the largest entry.
    """
    if value.shape == (6,):
        xx, yy, zz, yz, xz, xy = value
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if value.shape not in ((9,), (3, 3)):
        raise ValueError(
            "a stress is 6 numbers (xx yy zz yz xz xy), 9 numbers or a 3 × 3 matrix; "
            f"{key} has shape {list(value.shape)}; write it in one of these forms"
        )
    tensor = value.reshape(3, 3)
    skew = np.abs(tensor - tensor.T).max()
    if skew > 1e-3 * np.abs(tensor).max() + 1e-8:
        raise ValueError(
            f"a stress is symmetric; {key} differs from its transpose by {skew:.3g}; "
            f"got {tensor.tolist()}; check the order of its entries"
        )
    return (tensor + tensor.T) / 2


def _sketch(value: np.ndarray) -> str:
    return f"{float(value):.10g}" if value.ndim == 0 else f"{np.round(value.ravel()[:3], 6)}…"


def _is_small(value: Any) -> bool:
    """Whether a remark is worth keeping with the structure: scalars, short vectors and texts."""
    if isinstance(value, str | bool | int | float | np.generic):
        return len(str(value)) <= 1000
    return isinstance(value, np.ndarray | list | tuple) and np.size(value) <= 16
