"""Devices side by side: a batch is dealt out over a mesh axis, everything else is replicated.

The devices may belong to several processes (see `training.processes`); then each process puts its
own copy of the data on its own devices.
"""

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
        ValueError: there are fewer; or there are several processes and some of their devices would
            be left out.
    """
    there = jax.devices()
    count = len(there) if devices is None else devices
    if not 1 <= count <= len(there):
        raise ValueError(
            f"a run uses devices that exist; {count} asked for, {jax.default_backend()} has "
            f"{len(there)}"
        )
    if count < len(there) and jax.process_count() > 1:
        raise ValueError(
            f"processes train on all of their devices; {count} asked for and there are "
            f"{len(there)} in {jax.process_count()} processes; take the number out"
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
    everywhere = NamedSharding(mesh, P())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def mine(array: Any) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])

    return jax.tree.map(mine, tree)
