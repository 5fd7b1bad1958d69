"""Two clouds registered by descriptors that a network learned, in the place of FPFH.

The rest is the chain of `points.scans`: voxels, normals, mutual nearest descriptors, RANSAC, ICP.
The network reads the voxels of both clouds as one structure with the inputs `part` (0 and 1) and
`normals`, as the pairs of `datasets.pairs` are that it learned from; voxels are as far apart as the
points were there.
"""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.arrays import unit
from geojax.graphs import Structure, is_per_node, leaf
from geojax.graphs.parts import PART
from geojax.inference.predictor import Predictor
from geojax.model import Card
from geojax.points import Registered, Scan
from geojax.points import register as register_scans

__all__ = ["register"]


def register(
    model: Any,
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "m 3"],
    *,
    voxel: float,
    output: str | None = None,
    **options: Any,
) -> Registered:
    """The pose of two clouds, by the descriptors of a model; see `points.register`.

    Args:
        model: a `Model`, an opened artifact or a `Predictor`, trained on pairs of clouds with a
            loss of descriptors, such as "circle".
        source, target: what is moved, and where to; in the unit of the model's training.
        voxel: about the distance between the points that it was trained on.
        output: the property that is a descriptor; not needed where only one is a number of scalars
            per node.
        options: viewpoints, normals, the seed, …: as of `points.register`.

    Raises:
        ValueError: the model puts out no descriptor, or several and none is named; and as
            `points.register` and `Predictor`.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    name = _descriptor(predictor.card, output)

    def describe(*scans: Scan) -> tuple[Array, ...]:
        real = [np.asarray(scan.mask) for scan in scans]
        if not all(m.any() for m in real):  # nothing to match: `points.register` says so
            return tuple(scan.features for scan in scans)
        rows = lambda *arrays: np.concatenate([x[m] for x, m in zip(arrays, real, strict=True)])
        inputs = {
            PART: np.repeat([0.0, 1.0], [m.sum() for m in real]),
            "normals": rows(*(np.asarray(scan.normals, np.float64) for scan in scans)),
        }
        positions = rows(*(np.asarray(scan.positions, np.float64) for scan in scans))
        pair = Structure(positions, np.zeros(len(positions), np.int32), inputs=inputs)
        (found,) = predictor([pair], (name,))
        values = unit(jnp.asarray(leaf(found, name), jnp.float32))
        slots = np.split(np.cumsum(np.concatenate(real)) - 1, [len(real[0])])
        return tuple(
            jnp.where(scan.mask[:, None], values[at], 0)
            for scan, at in zip(scans, slots, strict=True)
        )

    return register_scans(source, target, voxel=voxel, describe=describe, **options)


def _descriptor(card: Card, wanted: str | None) -> str:
    """The output that is one."""
    scalars = re.compile(r"\d+x0e")
    of_nodes = [
        output.name
        for output in card.outputs
        if is_per_node(output.name) and scalars.fullmatch(output.irreps)
    ]
    if wanted is None and len(of_nodes) == 1:
        return of_nodes[0]
    if wanted in of_nodes:
        return wanted
    raise ValueError(
        f"a descriptor is scalars of each node, such as node_targets.place with irreps '32x0e'; "
        f"{card.name!r} puts out {', '.join(of_nodes) or 'none'}"
        + (f" and {wanted!r} was asked for" if wanted else "")
        + ("; name one of them: output" if of_nodes else "; geojax.points.register needs no model")
    )
