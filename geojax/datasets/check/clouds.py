"""Clouds of points: scales that do not fit together, copies, points that are none, classes.

A cloud is known again, however it is moved, turned, mirrored and numbered, by the sorted distances
of its points from their mean and to their nearest neighbours.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from geojax.datasets.check.findings import Finding
from geojax.datasets.check.leaks import add_pairs
from geojax.graphs import Structure, leaves

__all__ = ["cloud_findings"]

Names = Callable[[np.ndarray], tuple[str, ...]]

SAME = 1e-4  # of the radius: one cloud
MEASURES = 16  # of a fingerprint, of each kind
SCALES = 30.0  # between clouds: other units, or shapes that have their real sizes
SPLITS = 3.0  # between the medians of splits
AWAY = 20.0  # median distances from the middle: a point that does not belong to the cloud
TWICE = 0.01  # of the points of a cloud are at the place of another
UNIT = 0.05  # of the length of normals
BOTH_SIDES = (0.35, 0.65)  # the share of normals that point outwards where sides are arbitrary
RARE = 20.0  # a class against the largest


class Shape(NamedTuple):
    """What of a cloud is looked at."""

    radius: float  # the median distance from the mean
    farthest: float  # in radii
    twice: float  # share of points
    marks: np.ndarray  # the fingerprint: distances in radii, and the logarithm of the radius


def cloud_findings(
    structures: Sequence[Structure], part: Sequence[str], names: Names
) -> list[Finding]:
    """What is wrong or odd in clouds.

    Args:
        structures: of all splits.
        part: of each the split, such as "train".
        names: a mask over the structures -> their names.
    """
    shapes = [_shape(s.positions) for s in structures]
    return [
        *_sizes(shapes, part, names),
        *_points(shapes, names),
        *_copies(structures, shapes, part, names),
        *_normals(structures, names),
        *_classes(structures, part),
    ]


def _shape(x: np.ndarray) -> Shape:
    distance = np.linalg.norm(x - x.mean(0), axis=1)
    radius = float(np.median(distance))
    if len(x) < 2 or not radius > 0:
        return Shape(radius, 1.0, float(len(x) > 1), np.zeros(2 * MEASURES + 1))
    gap = KDTree(x).query(x, k=2)[0][:, 1]
    at = np.linspace(0, len(x) - 1, MEASURES).astype(int)
    quantiles = np.concatenate([np.sort(distance)[at], np.sort(gap)[at]]) / radius
    marks = np.append(quantiles, np.log(radius))
    return Shape(radius, float(distance.max()) / radius, float(np.mean(gap == 0)), marks)


def _sizes(shapes: list[Shape], part: Sequence[str], names: Names) -> list[Finding]:
    radius = np.array([shape.radius for shape in shapes])
    found = []
    if (radius == 0).any():
        text = f"{int((radius == 0).sum())} clouds have all or half of their points at one place"
        fix = "take them out, or read the right columns"
        found.append(Finding("no extent", "error", text, names(radius == 0), fix))
    sound = radius > 0
    if not sound.any():
        return found
    middle = float(np.median(radius[sound]))
    far = sound & ((radius > SCALES * middle) | (radius < middle / SCALES))
    if far.any():
        text = f"{int(far.sum())} clouds are {SCALES:g} times larger or smaller than most"
        fix = "one unit of length for all, or scale each: unit_ball = true"
        found.append(Finding("scale", "warning", text, names(far), fix))
    medians = {
        split: float(np.median(radius[sound & (np.array(part) == split)]))
        for split in dict.fromkeys(part)
        if (sound & (np.array(part) == split)).any()
    }
    low, high = min(medians.values()), max(medians.values())
    if high > SPLITS * low:
        told = ", ".join(f"{split} {size:.3g}" for split, size in medians.items())
        text = f"the splits differ in scale: median distance of a point from the middle {told}"
        fix = "read all of them in one unit, or scale each cloud: unit_ball = true"
        found.append(Finding("scale of splits", "error", text, (), fix))
    return found


def _points(shapes: list[Shape], names: Names) -> list[Finding]:
    found = []
    away = np.array([shape.farthest > AWAY for shape in shapes])
    if away.any():
        text = f"{int(away.sum())} clouds have points {AWAY:g} times as far out as half of them"
        fix = "remove such points: they rule the scale of unit_ball, and voxels"
        found.append(Finding("points far away", "warning", text, names(away), fix))
    twice = np.array([shape.twice > TWICE and shape.radius > 0 for shape in shapes])
    if twice.any():
        most = max(shape.twice for shape in shapes)
        text = f"{int(twice.sum())} clouds have points twice, up to {most:.0%} of them"
        fix = "padding by repetition, or scans that were joined? keep one of each"
        found.append(Finding("points twice", "note", text, names(twice), fix))
    return found


def _copies(
    structures: Sequence[Structure], shapes: list[Shape], part: Sequence[str], names: Names
) -> list[Finding]:
    """Clouds that are there before, in their split or in another, or with another label."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        if shape.radius > 0:
            groups[len(structures[i])].append(i)
    pairs = []
    for group in groups.values():
        tree = KDTree([shapes[i].marks for i in group])
        near = tree.query_pairs(SAME, p=np.inf, output_type="ndarray")
        pairs += [tuple(sorted((group[a], group[b]))) for a, b in near]
    result: list[Finding] = []
    add = partial(add_pairs, result, part, names)
    add(
        [(i, j) for i, j in pairs if part[i] == part[j]],
        "duplicates",
        "warning",
        "{} clouds are there before in the same split, up to motion, mirror and numbering",
        "keep one of each: they weigh twice, and a random split would leak them",
    )
    add(
        [(i, j) for i, j in pairs if part[i] != part[j]],
        "leak",
        "error",
        "{} clouds of a later split are in an earlier one, up to motion, mirror and numbering",
        "take them out of the later split: errors on them say nothing",
    )
    add(
        [(i, j) for i, j in pairs if _contradict(structures[i], structures[j])],
        "contradicting labels",
        "error",
        "{} clouds are there before with another label, up to motion, mirror and numbering",
        "correct one of them, or take both out",
    )
    return result


def _contradict(a: Structure, b: Structure) -> bool:
    first, second = (s.properties.targets for s in (a, b))
    classes = [name for name in first if name in second and np.size(first[name]) == 1]
    return any(np.any(first[name] != second[name]) for name in classes)


def _normals(structures: Sequence[Structure], names: Names) -> list[Finding]:
    there = np.array(["normals" in s.inputs for s in structures])
    if not there.any():
        return []
    wrong, outward = np.zeros(len(structures), bool), []
    for i, s in enumerate(structures):
        if not there[i]:
            continue
        normals, arms = s.inputs["normals"], s.positions - s.positions.mean(0)
        length = np.linalg.norm(normals, axis=1)
        wrong[i] = bool(np.mean(np.abs(length - 1) > UNIT) > TWICE)
        outward.append(float(np.mean((normals * arms).sum(1) > 0)))
    found = []
    if wrong.any():
        text = f"normals of {int(wrong.sum())} clouds are not of length one"
        fix = (
            "divide them by their length; where it is zero, estimate them: points.estimate_normals"
        )
        found.append(Finding("normals", "warning", text, names(wrong), fix))
    share = float(np.median(outward))
    if BOTH_SIDES[0] < share < BOTH_SIDES[1]:
        text = f"{share:.0%} of the normals point away from the middle of their cloud"
        fix = "their sides seem arbitrary: turn them by points.orient, or use what is blind to it"
        found.append(Finding("sides of normals", "note", text, (), fix))
    return found


def _classes(structures: Sequence[Structure], part: Sequence[str]) -> list[Finding]:
    """Labels that are classes: of clouds and of their points."""
    found = []
    counts: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for s, split in zip(structures, part, strict=True):
        for name, value in leaves(s.properties).items():
            array = np.asarray(value)
            per_node = name.startswith("node_targets.") and array.ndim == 1
            if array.dtype.kind in "iu" and (array.ndim == 0 or per_node):
                values, numbers = np.unique(array, return_counts=True)
                counts[name][split].update(
                    dict(zip(values.tolist(), numbers.tolist(), strict=True))
                )
    for name, splits in counts.items():
        train, every = splits.get("train", Counter()), sum(splits.values(), Counter())
        for split, others in splits.items():
            if strange := sorted(set(others) - set(train)) if train else []:
                text = f"{name}: classes {strange} are in {split} and not in train"
                fix = "they cannot be learned: split each class, or take them out"
                found.append(Finding("class not trained", "error", text, (), fix))
        absent = sorted(set(range(max(every) + 1)) - set(every))
        if min(every) < 0 or absent:
            gaps = f", without {absent}" if absent else ""
            text = f"{name}: classes are numbered {min(every)} to {max(every)}{gaps}"
            fix = "number them from 0 without gaps, or name them all: classes=[…]"
            found.append(Finding("numbers of classes", "note", text, (), fix))
        most, least = max(train.values(), default=0), min(train.values(), default=0)
        if least and most > RARE * least:
            rare = [k for k, n in sorted(train.items()) if most > RARE * n]
            text = f"{name}: classes {rare} are {RARE:g} times rarer in train than the largest"
            fix = "look at miou or errors by class, not at the accuracy alone"
            found.append(Finding("rare classes", "note", text, (), fix))
    return found
