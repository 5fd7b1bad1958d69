"""Pairs of clouds to register, as structures.

A pair is one `Structure`. Its node input `part` is 0 for points of the source and 1 for points of
the target, which follow. `targets.rotation` R [3, 3] and `targets.translation` t [3] take the
source to the target: x -> R x + t; `node_targets.place` is where each point is in the frame of the
target, the label of descriptors (`training.descriptors`). The mean of all nodes is the origin,
because batches are centred so (`graphs.sample`) and t depends on the origin; `info["centre"]` was
taken away.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from geojax.graphs import Properties, Structure
from geojax.graphs.parts import PART, check_parts

__all__ = ["partial_pair", "parts_of", "random_rotation_matrix", "registration_pair"]

WIDEST = 60.0  # [degree], of the second cut's direction from the opposite of the first
CUTS = np.linspace(0.3, 1, 1401)  # shares of a shape that a crop may keep
CLOSE = 0.005  # near enough to try no other directions
TRIES = 30
NEAR = 0.03  # how far the overlap may be from what was asked for
ORTHOGONAL = 1e-5


def registration_pair(
    source: Structure,
    target: Structure,
    rotation: Float[np.ndarray, "3 3"],
    translation: Float[np.ndarray, "3"],
    *,
    shared: Int[np.ndarray, "node"] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Structure:
    """Two clouds as one structure, with the pose that takes the first to the second.

    Args:
        source, target: clouds; inputs that both have are kept.
        rotation, translation: x_target = R x_source + t, in the coordinates of the clouds.
        shared: of all nodes, whether a point is in the overlap; becomes `node_targets.shared`.
        info: remarks.

    Raises:
        ValueError: atoms; R is no proper rotation to 1e-5.
    """
    if source.species.any() or target.species.any():
        raise ValueError("a registration pair is made of clouds of points; got atoms")
    off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if off > ORTHOGONAL or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"a pose has a proper rotation; R Rᵀ differs from 1 by {off:.2g}, the determinant is "
            f"{np.linalg.det(rotation):.6g}; give a 3 × 3 rotation matrix that acts on columns"
        )
    positions = np.concatenate([source.positions, target.positions]).astype(np.float64)
    centre = positions.mean(0)
    common = [
        name
        for name, value in source.inputs.items()
        if name in target.inputs and target.inputs[name].shape[1:] == value.shape[1:]
    ]
    inputs = {name: np.concatenate([source.inputs[name], target.inputs[name]]) for name in common}
    inputs["part"] = np.repeat([0.0, 1.0], [len(source), len(target)])
    targets = {"rotation": rotation, "translation": translation + rotation @ centre - centre}
    places = np.concatenate([source.positions @ rotation.T + translation, target.positions])
    of_nodes = {"place": places - centre} | ({} if shared is None else {"shared": shared})
    return Structure(
        positions - centre,
        np.zeros(len(positions), np.int32),
        inputs=inputs,
        properties=Properties(targets=targets, node_targets=of_nodes),
        info={**(info or {}), "centre": centre},
    )


def parts_of(structure: Structure) -> tuple[Structure, ...]:
    """The clouds that the input `part` numbers, without labels of the whole.

    Raises:
        ValueError: there is no such input; as `graphs.parts.check_parts`.
    """
    if PART not in structure.inputs:
        raise ValueError(
            f"parts are numbered from 0 by the node input `{PART}`; there are inputs "
            f"{', '.join(structure.inputs) or 'none'}"
        )
    part = np.asarray(structure.inputs[PART])
    check_parts(part)
    return tuple(
        Structure(
            structure.positions[part == i],
            structure.species[part == i],
            inputs={name: value[part == i] for name, value in structure.inputs.items()},
            properties=Properties(
                node_targets={
                    name: value[part == i]
                    for name, value in structure.properties.node_targets.items()
                }
            ),
        )
        for i in range(int(part.max()) + 1)
    )


def partial_pair(
    shape: Structure,
    rng: np.random.Generator,
    *,
    overlap: float,
    n_points: int | None = None,
    noise: float = 0.0,
    max_angle: float = 180.0,
    max_shift: float = 0.5,
) -> Structure:
    """A registration pair of two crops of one shape, each of other points of its surface.

    The points are halved at random. A half-space is cut from each half, the second from about the
    other side (its direction is within 60 degrees of that), and the planes are moved until the
    crops share what is asked for: the mean of the shares of points of each that are inside the
    other's half-space, which `info["overlap"]` gives as it is and `node_targets.shared` by point.
    Then both are turned at random, and the target is moved by a random pose.

    Args:
        shape: a cloud; its `normals` are kept and turned.
        overlap: from 0.1 to 1.
        n_points: at most so many of each crop, chosen at random.
        noise: standard deviation of each coordinate of both, in the unit of the positions.
        max_angle: [degree], of the rotation from source to target, about a random axis and evenly
            from zero; 180 and more is any rotation (even in SO(3)).
        max_shift: the longest translation, in the unit of the positions.

    Raises:
        ValueError: the overlap is out of range, or is missed by more than 3 %: too few points.
    """
    if not 0.1 <= overlap <= 1 or noise < 0 or (n_points is not None and n_points < 1):
        raise ValueError(
            f"an overlap is from 0.1 to 1, noise not negative, n_points positive; got {overlap=}, "
            f"{noise=}, {n_points=}"
        )
    order = rng.permutation(len(shape))
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    inside, share = _crops(shape.positions.astype(np.float64), halves, overlap, rng)
    if abs(share - overlap) > NEAR:
        raise ValueError(
            f"two crops of {len(shape)} points were to share {overlap:.0%} and share {share:.0%}; "
            "give a shape of more points"
        )
    kept = [half[mask[half]] for half, mask in zip(halves, inside, strict=True)]
    kept = [rows if n_points is None else rows[:n_points] for rows in kept]
    first = random_rotation_matrix(rng)
    rotation = random_rotation_matrix(rng, max_angle)
    direction = rng.normal(size=3)
    translation = direction / np.linalg.norm(direction) * rng.uniform(0, max_shift)
    source = _moved(shape, kept[0], first, np.zeros(3), noise, rng)
    target = _moved(shape, kept[1], rotation @ first, translation, noise, rng)
    shared = np.concatenate([inside[1][kept[0]], inside[0][kept[1]]])
    names = {key: shape.info[key] for key in ("name", "library", "creator") if key in shape.info}
    info = names | {"overlap": share}
    return registration_pair(
        source, target, rotation, translation, shared=shared.astype(np.int32), info=info
    )


def _crops(
    x: np.ndarray, halves: tuple[np.ndarray, np.ndarray], overlap: float, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Which points are inside the half-space of each crop, and the share of the crops' overlap."""
    best: tuple[tuple[np.ndarray, np.ndarray], float] | None = None
    for _ in range(TRIES):  # the projections of a flat shape on two directions may be alike
        depth = [_depth(x @ direction) for direction in _directions(rng)]
        both = np.maximum(*depth)
        inside = [
            _counts(both[half]) / np.maximum(_counts(own[half]), 1)
            for half, own in zip(halves, depth, strict=True)
        ]
        shares = (inside[0] + inside[1]) / 2
        miss = np.abs(shares - overlap)
        at = int(np.flatnonzero(miss == miss.min())[-1])  # of equals the largest crops
        if best is None or miss[at] < abs(best[1] - overlap):
            best = (depth[0] <= CUTS[at], depth[1] <= CUTS[at]), float(shares[at])
        if miss[at] < CLOSE:
            break
    assert best is not None
    return best


def _directions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors, the second within 60 degrees of the opposite of the first."""
    u = rng.normal(size=3)
    u /= np.linalg.norm(u)
    across = np.cross(u, rng.normal(size=3))
    across /= np.linalg.norm(across)
    cosine = rng.uniform(np.cos(np.radians(WIDEST)), 1)
    return u, -cosine * u + np.sqrt(1 - cosine**2) * across


def _depth(height: np.ndarray) -> np.ndarray:
    """The share of points that are not higher than each: it is inside from that cut on."""
    return (np.argsort(np.argsort(height, kind="stable")) + 1) / len(height)


def _counts(depth: np.ndarray) -> np.ndarray:
    """How many points are inside at each of CUTS."""
    return np.searchsorted(np.sort(depth), CUTS, side="right")


def _moved(
    shape: Structure,
    rows: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    noise: float,
    rng: np.random.Generator,
) -> Structure:
    x = shape.positions[rows].astype(np.float64)
    x = x + noise * rng.normal(size=x.shape)
    inputs = {}
    if "normals" in shape.inputs:
        inputs["normals"] = shape.inputs["normals"][rows] @ rotation.T
    return Structure(x @ rotation.T + translation, shape.species[rows], inputs=inputs)


def random_rotation_matrix(
    rng: np.random.Generator, max_angle: float = 180.0
) -> Float[np.ndarray, "3 3"]:
    """A random rotation: any, or by an angle [degree] even from zero to `max_angle`."""
    if max_angle >= 180:
        return Rotation.from_quat(rng.normal(size=4)).as_matrix()
    axis = rng.normal(size=3)
    angle = np.radians(rng.uniform(0, max_angle))
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
