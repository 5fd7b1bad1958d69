"""Devices side by side: a batch is dealt out over a mesh axis, everything else is replicated."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from geojax.training.step import AXIS

__all__ = ["data_mesh", "on_mesh", "put"]


def data_mesh(devices: int | None = None) -> Mesh:
    """A mesh over so many devices of the default backend (all of them by default).

    Raises:
        ValueError: there are fewer.
    """
    there = jax.devices()
    count = len(there) if devices is None else devices
    if not 1 <= count <= len(there):
        raise ValueError(
            f"a run uses devices that exist; {count} asked for, {jax.default_backend()} has "
            f"{len(there)}"
        )
    return Mesh(np.array(there[:count]), (AXIS,))


def on_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The function run on each device with replicated arguments and results.

    Inside, `axis_index` tells devices apart and `psum` adds over them. On one device: itself.
    """
    if mesh.size == 1:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def put(tree: Any, mesh: Mesh) -> Any:
    """The arrays on every device of the mesh; returns before the copy has ended."""
    return jax.device_put(tree, NamedSharding(mesh, P()))
