"""Acclaim motion capture: a skeleton (ASF), the angles of its joints (AMC), and where they are.

A bone ends in the joint that has its name. With its direction d and length l in the skeleton's
rest pose, the axes C that its angles refer to, and the turn M by its angles,

    R = R_parent C M C⁻¹,    x = x_parent + l R d

both C and M turn about the fixed axes x, y, z, first about the first letter of the bone's `axis`.
Values of a bone in the AMC file come in the order of its `dof`; angles that it does not name are
zero.

References:
    Lander, "Working with motion capture file formats", Game Developer, January 1998.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from geojax.registry import did_you_mean

__all__ = ["Motion", "Skeleton", "joint_positions", "read_motion", "read_skeleton"]

ANGLES = {"deg": math.pi / 180, "rad": 1.0}
DIRECTIVES = {":DEGREES": "deg", ":RADIANS": "rad", ":FULLY-SPECIFIED": ""}
SECTIONS = ("version", "name", "units", "documentation", "root", "bonedata", "hierarchy", "skin")
BONE_KEYS = {"name": 1, "direction": 3, "length": 1, "axis": 4}  # that are read, and their words
NOT_READ = ("id", "bodymass", "cofmass", "limits")
ROOT = "root"

Line = tuple[int, list[str]]  # its number, its words


class Skeleton(NamedTuple):
    """Joints, the root first, and each after its parent.

    Attributes:
        joints: their names; all but the root's are those of the bones that end there.
        parents: the index of each joint's parent; -1 for the root.
        offsets: `[joint, 3]`, l d, in the file's unit of length; of the root its position.
        axes: `[joint, 3, 3]`, C.
        orders: the axes of the turns, such as "xyz": about x first.
        dofs: what the AMC file gives of each joint, such as ("rx", "rz").
        length: so many units of the file are an inch.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    axes: np.ndarray
    orders: tuple[str, ...]
    dofs: tuple[tuple[str, ...], ...]
    length: float


class Motion(NamedTuple):
    """The angles of a skeleton over time.

    Attributes:
        frames: `[frame]`, their numbers, consecutive.
        values: for each joint that moves `[frame, dof]`, angles in radians.
    """

    frames: np.ndarray
    values: Mapping[str, np.ndarray]


def joint_positions(skeleton: Skeleton, motion: Motion) -> np.ndarray:
    """`[frame, joint, 3]` in the file's unit of length, float64."""
    count, places, turns = len(motion.frames), [], []
    for j, name in enumerate(skeleton.joints):
        given = motion.values.get(name, np.zeros((count, 0)))
        by_name = dict(zip(skeleton.dofs[j], given.T, strict=True))
        of_axes = lambda kind, by_name=by_name: np.stack(
            [by_name.get(kind + axis, np.zeros(count)) for axis in "xyz"], -1
        )
        axes, place = skeleton.axes[j], of_axes("t")
        turn = axes @ _turn(of_axes("r"), skeleton.orders[j]) @ axes.T
        if (parent := skeleton.parents[j]) < 0:
            place = place + skeleton.offsets[j]
        else:
            turn = turns[parent] @ turn
            place = places[parent] + turn @ skeleton.offsets[j]
        turns.append(turn)
        places.append(place)
    return np.stack(places, 1)


def _turn(angles: np.ndarray, order: str) -> np.ndarray:
    """Turns `[..., 3, 3]` by angles about x, y and z, that about the first letter done first."""
    turn = np.eye(3)
    for axis in order:
        i = "xyz".index(axis)
        j, k = (i + 1) % 3, (i + 2) % 3
        one = np.zeros((*angles.shape[:-1], 3, 3))
        one[..., i, i] = 1
        one[..., j, j] = one[..., k, k] = np.cos(angles[..., i])
        one[..., k, j] = np.sin(angles[..., i])
        one[..., j, k] = -one[..., k, j]
        turn = one @ turn
    return turn


def read_skeleton(text: str, origin: str) -> Skeleton:
    """The skeleton of an ASF file.

    Args:
        origin: the name of the file, for errors.

    Raises:
        ValueError: it is malformed; the message names the line.
    """
    sections = _sections(text, origin)
    for name in ("units", "root", "bonedata", "hierarchy"):
        if name not in sections:
            _refuse(origin, None, f"a skeleton has a section :{name}", sorted(sections))
    units = {words[0]: (number, words[1:]) for number, words in sections["units"]}
    length, factor = _units(units, origin)
    bones = dict(_bones(sections["bonedata"], factor, origin))
    bones[ROOT] = _root(sections["root"], factor, origin)
    parents = _parents(sections["hierarchy"], bones, origin)
    joints = (ROOT, *parents)
    chosen = [bones[name] for name in joints]
    return Skeleton(
        joints,
        (-1, *(joints.index(parents[name]) for name in joints[1:])),
        np.array([bone.offset for bone in chosen]),
        np.array([bone.axes for bone in chosen]),
        tuple(bone.order for bone in chosen),
        tuple(bone.dof for bone in chosen),
        length,
    )


def read_motion(text: str, skeleton: Skeleton, origin: str) -> Motion:
    """The motion of an AMC file that gives every angle of every frame.

    Args:
        origin: the name of the file, for errors.

    Raises:
        ValueError: it is malformed, or belongs to another skeleton; the message names the line.
    """
    dofs = {n: dof for n, dof in zip(skeleton.joints, skeleton.dofs, strict=True) if dof}
    rows: dict[str, list[list[float]]] = {name: [] for name in dofs}
    frames: list[int] = []
    angle, last = "deg", 0
    for number, words in _lines(text):
        name, last = words[0], number
        if name.startswith(":") and not frames:
            if name not in DIRECTIVES:
                _refuse(origin, number, f"a motion starts with {', '.join(DIRECTIVES)}", name)
            angle = DIRECTIVES[name] or angle
        elif len(words) == 1 and name.isdecimal():
            _check_whole(rows, len(frames), origin, number)
            if frames and int(name) != frames[-1] + 1:
                _refuse(origin, number, f"frames are consecutive, {frames[-1]} came before", name)
            frames.append(int(name))
        elif name not in dofs or not frames:
            near = did_you_mean(name, dofs)
            _refuse(origin, number, "a line is a frame's number or a joint and its values", near)
        elif len(rows[name]) == len(frames):
            _refuse(origin, number, "a joint is there once in a frame", f"{name} again")
        else:
            rows[name].append(_numbers(words[1:], len(dofs[name]), origin, number))
    _check_whole(rows, len(frames), origin, last)
    if not frames:
        _refuse(origin, None, "a motion has frames", "none")
    factors = {
        name: np.array([ANGLES[angle] if d.startswith("r") else 1.0 for d in dof])
        for name, dof in dofs.items()
    }
    values = {name: np.array(found) * factors[name] for name, found in rows.items()}
    return Motion(np.array(frames), values)


def _check_whole(rows: Mapping[str, list], count: int, origin: str, number: int) -> None:
    lacking = [name for name, found in rows.items() if len(found) != count]
    if lacking:
        _refuse(origin, number, "a frame has every joint of the skeleton", f"none of {lacking[0]}")


class _Bone(NamedTuple):
    """What the skeleton file says of one joint."""

    offset: np.ndarray
    axes: np.ndarray
    order: str
    dof: tuple[str, ...]


def _refuse(origin: str, number: int | None, rule: str, got: object) -> NoReturn:
    place = origin if number is None else f"{origin}:{number}"
    raise ValueError(f"{place}: {rule}; got {got}; restore the file")


def _lines(text: str) -> Iterator[Line]:
    """Lines that say something, numbered from 1."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield number, words


def _sections(text: str, origin: str) -> dict[str, list[Line]]:
    """The lines below each heading; what stands beside the heading is the first of them."""
    found: dict[str, list[Line]] = {}
    section = None
    for number, words in _lines(text):
        if words[0].startswith(":"):
            section = words[0][1:].lower()
            if section not in SECTIONS or section in found:
                _refuse(origin, number, f"sections are {', '.join(SECTIONS)}, each once", words[0])
            found[section] = [(number, words[1:])] if words[1:] else []
        elif section is None:
            _refuse(origin, number, "a skeleton begins with a section", " ".join(words))
        else:
            found[section].append((number, words))
    return found


def _numbers(words: Sequence[str], count: int, origin: str, number: int) -> list[float]:
    try:
        found = [float(word) for word in words]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        _refuse(origin, number, f"here are {count} finite numbers", " ".join(words) or "none")
    return found


def _units(units: Mapping[str, Line], origin: str) -> tuple[float, float]:
    for name in ("length", "angle"):
        if name not in units:
            _refuse(origin, None, f"the section :units states the {name}", sorted(units))
    number, words = units["length"]
    (length,) = _numbers(words, 1, origin, number)
    if length <= 0:
        _refuse(origin, number, "a unit of length is positive", length)
    number, words = units["angle"]
    if len(words) != 1 or words[0] not in ANGLES:
        _refuse(origin, number, "angles are in deg or rad", " ".join(words))
    return length, ANGLES[words[0]]


def _order(word: str, origin: str, number: int) -> str:
    if sorted(word.lower()) != ["x", "y", "z"]:
        _refuse(origin, number, "turns are about x, y and z in some order, such as XYZ", word)
    return word.lower()


def _dof(words: Iterable[str], known: Sequence[str], origin: str, number: int) -> tuple[str, ...]:
    dof = tuple(word.lower() for word in words)
    if unknown := [word for word in dof if word not in known]:
        _refuse(origin, number, f"degrees of freedom are {', '.join(known)}", unknown[0])
    if len(set(dof)) != len(dof):
        _refuse(origin, number, "a degree of freedom is there once", " ".join(dof))
    return dof


def _root(lines: Sequence[Line], factor: float, origin: str) -> _Bone:
    found = {words[0].lower(): (number, words[1:]) for number, words in lines}
    wanted = ("order", "axis", "position", "orientation")
    if lacking := [name for name in wanted if name not in found]:
        _refuse(origin, lines[0][0] if lines else None, f"the root has its {lacking[0]}", "none")
    number, words = found["order"]
    dof = _dof(words, ("tx", "ty", "tz", "rx", "ry", "rz"), origin, number)
    number, words = found["axis"]
    order = _order(" ".join(words), origin, number)
    three = lambda name: np.array(_numbers(found[name][1], 3, origin, found[name][0]))
    return _Bone(three("position"), _turn(factor * three("orientation"), order), order, dof)


def _bones(lines: Sequence[Line], factor: float, origin: str) -> Iterator[tuple[str, _Bone]]:
    """Name and bone of each block from `begin` to `end`."""
    block: dict[str, Line] | None = None
    seen, key, start = {ROOT}, "", 0
    for number, words in lines:
        if words == ["begin"] and block is None:
            block, start = {}, number
        elif words == ["end"] and block is not None:
            name, bone = _bone(block, factor, origin, start)
            if name in seen:
                _refuse(origin, start, "a bone has a name of its own", name)
            seen.add(name)
            yield name, bone
            block = None
        elif block is None:
            _refuse(origin, number, "a bone is a block from begin to end", " ".join(words))
        elif not (words[0].startswith("(") and key == "limits"):
            key = words[0].lower()
            if key not in (*BONE_KEYS, *NOT_READ, "dof") or key in block:
                known = ", ".join((*NOT_READ[:1], *BONE_KEYS, "dof", *NOT_READ[1:]))
                _refuse(origin, number, f"a bone has {known}, each once", words[0])
            block[key] = number, words[1:]
    if block is not None:
        _refuse(origin, start, "a block has its end", "none")


def _bone(block: Mapping[str, Line], factor: float, origin: str, start: int) -> tuple[str, _Bone]:
    for key, count in BONE_KEYS.items():
        number, words = block.get(key, (start, []))
        if len(words) != count:
            _refuse(origin, number, f"a bone's {key} is {count} words", " ".join(words) or "none")
    read: Callable[[str, int], np.ndarray] = lambda key, count: np.array(
        _numbers(block[key][1][:count], count, origin, block[key][0])
    )
    direction, length, angles = read("direction", 3), read("length", 1), read("axis", 3)
    if abs(np.linalg.norm(direction) - 1) > 1e-3:
        _refuse(origin, block["direction"][0], "a direction has length 1", direction.tolist())
    if length[0] < 0:
        _refuse(origin, block["length"][0], "a length is not negative", float(length[0]))
    order = _order(block["axis"][1][3], origin, block["axis"][0])
    number, words = block.get("dof", (start, []))
    dof = _dof(words, ("rx", "ry", "rz"), origin, number)
    return block["name"][1][0], _Bone(length * direction, _turn(factor * angles, order), order, dof)


def _parents(lines: Sequence[Line], bones: Mapping[str, _Bone], origin: str) -> dict[str, str]:
    """The parent of each bone, in the order of the file, where parents come before children."""
    found: dict[str, str] = {}
    for number, words in lines:
        if words in (["begin"], ["end"]):
            continue
        parent, *children = words
        if parent != ROOT and parent not in found:
            _refuse(origin, number, "a parent hangs on the root before its children", parent)
        for child in children:
            if child not in bones or child == ROOT or child in found:
                _refuse(origin, number, "a child is one of the bones, with one parent", child)
            found[child] = parent
    if loose := sorted(set(bones) - set(found) - {ROOT}):
        _refuse(origin, None, "every bone has a parent", f"none of {loose[0]}")
    return found
