"""Shapes in pieces, to be put together (shape assembly), as structures.

The node input `part` numbers the pieces; piece 0 is the largest. The whole is put together around
piece 0, which stays where it is: that is the frame of the answer, and it moves with the input.
There are two forms of it. By node: `node_targets.assembled` [node, 3], where each point goes. By
piece, for heads that find poses: `targets.rotations` [place, 3, 3] and `targets.translations`
[place, 3] take the points of a piece there, x -> R x + t, and `targets.present` [place] is 1 where
there is such a piece; the others have the identity. The number of places is fixed, because labels
of one kind have one shape. As in `pairs`, the mean of all nodes is the origin.

The clouds are samples of an outer surface: there are no faces of fracture, and pieces fit by their
outline and by what the whole looks like. A piece of a shape that is not convex may be in two parts.
"""

import numpy as np
from jaxtyping import Float, Int

from geojax.datasets.pairs import random_rotation_matrix
from geojax.graphs import Properties, Structure

__all__ = ["broken_shape", "cut"]

CUT = (0.3, 0.7)  # the share of a piece that is on one side of a cut


def cut(
    positions: Float[np.ndarray, "node 3"], n_parts: int, rng: np.random.Generator
) -> Int[np.ndarray, "node"]:
    """The piece of each point: the largest piece is cut by a random plane until there are enough.

    A cut leaves 30 to 70 % on each side. Pieces are numbered by falling size.

    Raises:
        ValueError: fewer than one piece, or fewer than ten points for each.
    """
    if n_parts < 1 or len(positions) < 10 * n_parts:
        raise ValueError(
            f"a piece has ten points or more; got {len(positions)} points and n_parts={n_parts}"
        )
    part = np.zeros(len(positions), np.int64)
    for new in range(1, n_parts):
        rows = np.flatnonzero(part == np.bincount(part).argmax())
        height = positions[rows] @ rng.normal(size=3)
        upper = np.argsort(height, kind="stable")[round(rng.uniform(*CUT) * len(rows)) :]
        part[rows[upper]] = new
    order = np.argsort(-np.bincount(part), kind="stable")
    return np.argsort(order)[part]


def broken_shape(
    shape: Structure,
    rng: np.random.Generator,
    *,
    n_parts: int,
    places: int = 5,
    n_points: int | None = None,
    noise: float = 0.0,
    max_shift: float = 1.0,
) -> Structure:
    """A shape cut into pieces, each of them in a random pose.

    Args:
        shape: a cloud; its `normals` are kept and turned.
        n_parts: pieces.
        places: for the poses of pieces in `targets`.
        n_points: at most so many points of all pieces together, chosen at random.
        noise: standard deviation of each coordinate, in the unit of the positions; the targets are
            of the points without it.
        max_shift: the mean of a piece is put evenly into a cube of twice this side.

    Raises:
        ValueError: more pieces than places; as `cut`.
    """
    if n_parts > places:
        raise ValueError(f"each piece has a place for its pose; got {n_parts=} and {places=}")
    rows = rng.permutation(len(shape))[:n_points]
    x = shape.positions[rows].astype(np.float64)
    part = cut(x, n_parts, rng)
    order = np.argsort(part, kind="stable")
    x, rows, part = x[order], rows[order], part[order]
    turns = np.stack([random_rotation_matrix(rng) for _ in range(n_parts)])
    means = np.stack([x[part == i].mean(0) for i in range(n_parts)])
    shifts = rng.uniform(-max_shift, max_shift, (n_parts, 3))
    posed = np.einsum("nij,nj->ni", turns[part], x - means[part]) + shifts[part]
    centre = posed.mean(0)
    posed, shifts = posed - centre, shifts - centre
    assembled = (x - means[0]) @ turns[0].T + shifts[0]
    rotations, translations = np.tile(np.eye(3), (places, 1, 1)), np.zeros((places, 3))
    rotations[:n_parts] = turns[0] @ turns.transpose(0, 2, 1)
    moved = (means - means[0]) @ turns[0].T + shifts[0]  # where the means of the pieces go
    translations[:n_parts] = moved - np.einsum("pij,pj->pi", rotations[:n_parts], shifts)
    rotations[0], translations[0] = np.eye(3), 0  # and not nearly
    inputs = {"part": part.astype(np.float64)}
    if "normals" in shape.inputs:
        normals = shape.inputs["normals"][rows].astype(np.float64)
        inputs["normals"] = np.einsum("nij,nj->ni", turns[part], normals)
    present = (np.arange(places) < n_parts).astype(np.int32)
    targets = {"rotations": rotations, "translations": translations, "present": present}
    names = {key: shape.info[key] for key in ("name", "library", "creator") if key in shape.info}
    return Structure(
        posed + noise * rng.normal(size=posed.shape),
        np.zeros(len(x), np.int32),
        inputs=inputs,
        properties=Properties(targets=targets, node_targets={"assembled": assembled}),
        info={**names, "n_parts": n_parts},
    )
