"""Finite groups of rotations, and grids of orientations that such a group leaves as they are.

A network with values at fixed orientations, or at fixed rotations, is equivariant exactly under the
rotations that permute them, and approximately under all others.

A grid is made of orbits of the largest group that can: those of its axes (the corners, faces and
edges of a regular solid), and free ones, which repel each other like charges until they rest. So 6,
8, 12 and 20 orientations are the corners of the octahedron, cube, icosahedron and dodecahedron, 16
are the resting charges of Thomson's problem (4 corners of a tetrahedron and an orbit of 12), and a
number that no group has is n charges at rest.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float

__all__ = ["grid_symmetries", "orientation_grid", "rotation_group"]

GOLDEN = (1 + math.sqrt(5)) / 2


def _turn(axis: tuple[float, ...], angle: float) -> Float[np.ndarray, "3 3"]:
    """The rotation about an axis (Rodrigues)."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


CYCLE = _turn((1.0, 1.0, 1.0), 2 * math.pi / 3)
HALF_X, HALF_Z = np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1])
GENERATORS = {
    1: (),
    4: (HALF_X, HALF_Z),  # half-turns about x, y and z
    12: (CYCLE, HALF_Z),  # tetrahedral
    24: (CYCLE, _turn((0.0, 0.0, 1.0), math.pi / 2)),  # octahedral
    60: (CYCLE, HALF_Z, _turn((0.0, 1.0, GOLDEN), 2 * math.pi / 5)),  # icosahedral
}
# One axis of each kind; its orbit is smaller than the group.
AXES = {
    60: ((0, 1, GOLDEN), (1, 1, 1), (0, 0, 1)),  # 12, 20, 30 orientations
    24: ((0, 0, 1), (1, 1, 1), (0, 1, 1)),  # 6, 8, 12
    12: ((1, 1, 1), (-1, -1, -1), (0, 0, 1)),  # 4, 4, 6
}


@cache
def rotation_group(order: int) -> Float[np.ndarray, "rotation 3 3"]:
    """The rotations of a finite group, the identity first.

    Args:
        order: 1, 4 (half-turns), 12 (tetrahedral), 24 (octahedral) or 60 (icosahedral). Those of 1,
            4, 12, 24 and of 1, 4, 12, 60 contain each other.

    Raises:
        ValueError: another order.
    """
    if order not in GENERATORS:
        raise ValueError(
            f"the groups have {', '.join(map(str, GENERATORS))} rotations; got {order}; take one "
            "of these"
        )
    found = {_key(np.eye(3)): np.eye(3)}
    reached = list(found.values())
    while reached:
        steps = [step @ matrix for matrix in reached for step in GENERATORS[order]]
        fresh = {_key(m): m for m in steps if _key(m) not in found}
        found |= fresh
        reached = list(fresh.values())
    return np.stack(list(found.values()))


def _key(x: np.ndarray) -> tuple[float, ...]:
    """Equal for arrays that differ by rounding."""
    return tuple((np.round(x, 6) + 0.0).ravel().tolist())


@cache
def orientation_grid(n: int) -> Float[np.ndarray, "orientation xyz"]:
    """n unit vectors spread evenly over the sphere, the same ones at every call.

    Raises:
        ValueError: fewer than four, which do not span space evenly.
    """
    if n < 4:
        raise ValueError(f"a grid has 4 orientations or more; got {n}; take 12, 16 or 20")
    for order in (60, 24, 12):
        grids = list(_symmetric_grids(n, order))
        if grids:
            return min(grids, key=_energy)
    return _at_rest(_spiral(n), np.zeros((0, 3)), rotation_group(1))


@cache
def grid_symmetries(n: int) -> Float[np.ndarray, "symmetry 3 3"]:
    """Rotations and reflections that permute `orientation_grid(n)`, the identity first.

    Those of cube and icosahedron are tried: a grid of charges at rest may have others.
    """
    points = orientation_grid(n)
    turns = np.concatenate([rotation_group(60), rotation_group(24)])
    candidates = {_key(m): m for m in np.concatenate([turns, -turns])}.values()
    permutes = lambda m: np.all((points @ m.T @ points.T).max(-1) > 1 - 1e-9)
    return np.stack([m for m in candidates if permutes(m)])


def _symmetric_grids(n: int, order: int) -> Iterator[np.ndarray]:
    """Grids of n orientations that are orbits of a group: of axes, and of free orientations."""
    group = rotation_group(order)
    orbits = [_orbit(group, np.array(axis) / np.linalg.norm(axis)) for axis in AXES[order]]
    for chosen in product((True, False), repeat=len(orbits)):
        axes = [o for o, taken in zip(orbits, chosen, strict=True) if taken] + [np.zeros((0, 3))]
        fixed = np.concatenate(axes)
        free, rest = divmod(n - len(fixed), order)
        if rest == 0 and free == 0:
            yield fixed
        elif rest == 0 and free > 0:
            starts = _spiral(8 * free).reshape(8, free, 3)  # it may come to rest in several ways
            yield min((_at_rest(start, fixed, group) for start in starts), key=_energy)


def _orbit(group: np.ndarray, point: np.ndarray) -> Float[np.ndarray, "orientation xyz"]:
    return np.stack(list({_key(p): p for p in group @ point}.values()))


def _spiral(n: int) -> Float[np.ndarray, "orientation xyz"]:
    """n points on a spiral with the golden angle."""
    height = 1 - (2 * np.arange(n) + 1) / n
    azimuth = np.arange(n) * 2 * math.pi / GOLDEN
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], -1)


def _energy(points: np.ndarray) -> float:
    """Of unit charges; equal for mirror images, so that the first of them is taken."""
    distance = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(len(points), 1)]
    return round(float((1 / distance).sum()), 6)


def _at_rest(
    free: np.ndarray, fixed: np.ndarray, group: np.ndarray
) -> Float[np.ndarray, "orientation xyz"]:
    """Fixed charges and the orbits of free ones, moved along the forces until these vanish."""
    everything = lambda x: np.concatenate([fixed, (x @ group.transpose(0, 2, 1)).reshape(-1, 3)])

    def force(x: np.ndarray) -> np.ndarray:
        apart = x[:, None] - everything(x)
        square = (apart**2).sum(-1)
        other = square > 1e-12
        pull = np.where(other, np.where(other, square, 1) ** -1.5, 0)
        total = (apart * pull[..., None]).sum(1)
        return total - (total * x).sum(-1, keepdims=True) * x

    x, f, step = free, force(free), 1e-3
    for _ in range(3000):
        longest = np.linalg.norm(f, axis=-1).max()
        if longest < 1e-12:
            break
        moved = x + min(step, 0.1 / longest) * f
        moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
        after = force(moved)
        change = ((moved - x) * (f - after)).sum()
        step = ((moved - x) ** 2).sum() / change if change > 0 else 2 * step  # Barzilai, Borwein
        x, f = moved, after
    return everything(x)
