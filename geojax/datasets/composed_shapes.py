"""Shapes composed of boxes, cylinders and balls, whose points know their part and their normal.

Four kinds of things, every one with proportions of its own, the upright axis +z: the smallest data
for part segmentation and normal estimation whose labels are exact. Points are uniform on the
surface of the union; what lies inside another primitive is left out.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from geojax.datasets.dataset import DATASETS, Dataset
from geojax.graphs import Properties, Structure

__all__ = ["KINDS", "PARTS", "Primitive", "composed_shapes"]

CARD = {
    "description": "Tables, chairs, lamps and planes composed of boxes, cylinders and balls, with "
    "parts and outward normals of points",
    "licence": "Apache-2.0, generated",
    "source": "a recipe: datasets.composed_shapes",
    "citation": "the tasks of Yi et al., A scalable active framework for region annotation in 3D "
    "shape collections, SIGGRAPH Asia 2016 (ShapeNetPart), on made shapes",
    "units": {"length": "radius of the shape"},
    "published": "none",
}
PARTS = (
    *("table top", "table leg", "chair seat", "chair back", "chair leg"),
    *("lamp base", "lamp pole", "lamp shade", "fuselage", "wing", "tail"),
)
OUTSIDE = 1e-9  # of a primitive with size one: a point this far inside is covered


class Primitive(NamedTuple):
    """A convex body along the axes.

    Attributes:
        shape: "box", "cylinder" or "ellipsoid".
        part: in PARTS.
        centre: `[3]`.
        half: `[3]`, half of its extents; cylinders are round and stand along z.
    """

    shape: str
    part: str
    centre: Sequence[float]
    half: Sequence[float]


def table(rng: np.random.Generator) -> list[Primitive]:
    """A top on four legs, or on one."""
    x, y, thick, height = rng.uniform((0.6, 0.4, 0.02, 0.3), (1.2, 0.8, 0.06, 0.6))
    top = Primitive("box", "table top", (0, 0, height), (x, y, thick))
    if rng.random() < 0.3:
        width = rng.uniform(0.06, 0.15)
        foot = Primitive("cylinder", "table leg", (0, 0, -height), (0.5 * y, 0.5 * y, 0.03))
        return [top, Primitive("cylinder", "table leg", (0, 0, 0), (width, width, height)), foot]
    return [top, *_legs(rng, "table leg", x, y, 0.0, height)]


def chair(rng: np.random.Generator) -> list[Primitive]:
    """A seat, a back and four legs."""
    x, y, thick, height, back = rng.uniform((0.4, 0.4, 0.03, 0.3, 0.4), (0.6, 0.6, 0.08, 0.5, 0.8))
    return [
        Primitive("box", "chair seat", (0, 0, height), (x, y, thick)),
        Primitive("box", "chair back", (0, -y + 0.04, height + thick + back), (x, 0.04, back)),
        *_legs(rng, "chair leg", x, y, 0.0, height),
    ]


def lamp(rng: np.random.Generator) -> list[Primitive]:
    """A base, a pole and a round shade."""
    width, height, radius = rng.uniform((0.25, 0.5, 0.25), (0.45, 0.9, 0.45))
    pole = rng.uniform(0.02, 0.05)
    shade = "ellipsoid" if rng.random() < 0.5 else "cylinder"
    return [
        Primitive("cylinder", "lamp base", (0, 0, -height), (width, width, 0.05)),
        Primitive("cylinder", "lamp pole", (0, 0, 0), (pole, pole, height)),
        Primitive(shade, "lamp shade", (0, 0, height), (radius, radius, 0.6 * radius)),
    ]


def plane(rng: np.random.Generator) -> list[Primitive]:
    """A long body with two wings and a tail."""
    length, radius, span, chord = rng.uniform((0.8, 0.08, 0.6, 0.12), (1.1, 0.16, 1.1, 0.25))
    along = rng.uniform(-0.1, 0.2) * length
    return [
        Primitive("ellipsoid", "fuselage", (0, 0, 0), (length, radius, radius)),
        Primitive("box", "wing", (along, 0, 0), (chord, span, 0.02)),
        Primitive("box", "tail", (-0.85 * length, 0, 0), (0.5 * chord, 0.35 * span, 0.015)),
        Primitive("box", "tail", (-0.85 * length, 0, 0.16), (0.5 * chord, 0.015, 0.16)),
    ]


def _legs(
    rng: np.random.Generator, part: str, x: float, y: float, middle: float, height: float
) -> list[Primitive]:
    width = rng.uniform(0.03, 0.07)
    shape = "box" if rng.random() < 0.5 else "cylinder"
    at = [(i * (x - width), j * (y - width), middle) for i in (-1, 1) for j in (-1, 1)]
    return [Primitive(shape, part, centre, (width, width, height)) for centre in at]


KINDS: dict[str, Callable[[np.random.Generator], list[Primitive]]] = {
    "table": table,
    "chair": chair,
    "lamp": lamp,
    "plane": plane,
}


@DATASETS.register("composed-shapes")
def composed_shapes(
    n_train: int = 200, n_valid: int = 40, n_test: int = 80, n_points: int = 512, seed: int = 0
) -> Dataset:
    """Bare points (species 0), centred, farthest point at radius 1, the kinds in turn.

    Labels: `node_targets.label` [node], 0 to 10, of PARTS; `node_targets.normal` [node, 3], unit,
    outward; `targets.label`, 0 to 3, of KINDS.

    Args:
        n_train, n_valid, n_test: shapes.
        n_points: of each.
        seed: of everything.

    Raises:
        ValueError: `n_points` or `n_train` is not positive, or a number is negative.
    """
    if n_points < 1 or n_train < 1 or min(n_valid, n_test) < 0:
        raise ValueError(
            "at least one shape to train on and one point each; got "
            f"{n_train=}, {n_valid=}, {n_test=}, {n_points=}"
        )

    def drawn(number: int, stream: int) -> tuple[Structure, ...]:
        generators = [np.random.default_rng([seed, stream, i]) for i in range(number)]
        return tuple(_shape(i % len(KINDS), n_points, rng) for i, rng in enumerate(generators))

    card = CARD | {"classes": list(PARTS), "kinds": list(KINDS)}
    train, valid, test = drawn(n_train, 0), drawn(n_valid, 1), drawn(n_test, 2)
    return Dataset("composed-shapes", train, valid, test, card)


def _shape(kind: int, n_points: int, rng: np.random.Generator) -> Structure:
    body = list(KINDS.values())[kind](rng)
    x, normals, part = _surface(body, n_points, rng)
    x = x - x.mean(0)
    return Structure(
        x / np.linalg.norm(x, axis=1).max(),
        np.zeros(n_points, np.int32),
        properties=Properties(
            targets={"label": np.int32(kind)},
            node_targets={"label": part.astype(np.int32), "normal": normals},
        ),
    )


def _surface(
    body: Sequence[Primitive], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and parts, uniform on the surface of the union."""
    areas = np.array([_area(p) for p in body])
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while sum(len(part) for *_, part in found) < count:
        numbers = rng.multinomial(2 * count, areas / areas.sum())
        for i, (primitive, number) in enumerate(zip(body, numbers, strict=True)):
            x, normals = _on(primitive, int(number), rng)
            covered = [_inside(other, x) for j, other in enumerate(body) if j != i]
            free = ~np.any(covered, axis=0) if covered else np.ones(len(x), bool)
            part = np.full(free.sum(), PARTS.index(primitive.part))
            found.append((x[free], normals[free], part))
    x, normals, part = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    chosen = rng.choice(len(x), count, replace=False)
    return x[chosen], normals[chosen], part[chosen]


def _inside(p: Primitive, x: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, "point"]:
    u = np.abs(x - np.asarray(p.centre)) / np.asarray(p.half)
    across = np.linalg.norm(u[:, :2], axis=1)
    size = {
        "box": u.max(1),
        "cylinder": np.maximum(across, u[:, 2]),
        "ellipsoid": np.linalg.norm(u, axis=1),
    }
    return size[p.shape] < 1 - OUTSIDE


def _area(p: Primitive) -> float:
    a, b, c = p.half
    if p.shape == "box":
        return 8 * (a * b + b * c + c * a)
    if p.shape == "cylinder":
        return 2 * np.pi * a * (a + 2 * c)
    k = 1.6075  # Thomsen's formula, within 1.1 %; exact for balls
    return 4 * np.pi * (((a * b) ** k + (b * c) ** k + (c * a) ** k) / 3) ** (1 / k)


def _on(
    p: Primitive, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point 3"]]:
    """Uniform points of a surface and their outward normals."""
    half = np.asarray(p.half, np.float64)
    u, out = {"box": _on_box, "cylinder": _on_cylinder, "ellipsoid": _on_ellipsoid}[p.shape](
        half, count, rng
    )
    return np.asarray(p.centre) + u * half, out / np.linalg.norm(out, axis=1, keepdims=True)


def _on_box(half: np.ndarray, count: int, rng: np.random.Generator) -> tuple:
    area = half.prod() / half
    face = rng.choice(3, count, p=area / area.sum())
    side = rng.choice((-1.0, 1.0), count)
    u = rng.uniform(-1, 1, (count, 3))
    u[np.arange(count), face] = side
    return u, np.eye(3)[face] * side[:, None]


def _on_cylinder(half: np.ndarray, count: int, rng: np.random.Generator) -> tuple:
    radius, _, height = half
    on_wall = rng.random(count) < 2 * height / (2 * height + radius)
    angle, side = rng.uniform(0, 2 * np.pi, count), rng.choice((-1.0, 1.0), count)
    flat = np.stack([np.cos(angle), np.sin(angle)], 1)
    r = np.where(on_wall, 1, np.sqrt(rng.random(count)))
    u = np.column_stack([flat * r[:, None], np.where(on_wall, rng.uniform(-1, 1, count), side)])
    out = np.where(on_wall[:, None], np.insert(flat, 2, 0, 1), [[0, 0, 1]] * side[:, None])
    return u, out


def _on_ellipsoid(half: np.ndarray, count: int, rng: np.random.Generator) -> tuple:
    """Points of the ball, kept with a chance in proportion to how much area stretches there."""
    u = np.empty((0, 3))
    while len(u) < count:
        more = rng.normal(size=(4 * count + 8, 3))
        more /= np.linalg.norm(more, axis=1, keepdims=True)
        stretch = np.linalg.norm(more / half, axis=1) * half.min()
        u = np.concatenate([u, more[rng.random(len(more)) < stretch]])
    return u[:count], u[:count] / half
