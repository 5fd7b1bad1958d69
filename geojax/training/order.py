"""Which structures make up which batch: the shuffle inside the program, and its largest batch.

A store's slots are `steps * batch_size`, the last of them empty when the data do not divide. The
slots are cut into `strata` equal runs. Each pass shuffles every run by itself, and each batch
takes the same number from every run. One stratum is the plain shuffle. As many strata as a batch
has structures, over data sorted by size, give batches of nearly equal size, so that a static
budget wastes little on data from 3 to 29 atoms; the largest batch that can occur is known exactly
beforehand.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from geojax.graphs import Budget, Sample

__all__ = ["Order", "fit_order", "shuffled"]

ROUND = 16  # budgets are multiples of this


class Order(NamedTuple):
    """The static side of the shuffle.

    Attributes:
        steps: batches of one pass over the store.
        batch_size: structures of a batch, over all devices.
        strata: see the module.
        devices: each batch is dealt out to so many.
        budget: of one device's share, in which every batch that can occur fits.
    """

    steps: int
    batch_size: int
    strata: int
    devices: int
    budget: Budget

    @property
    def slots(self) -> int:
        """Places for structures, some of them empty."""
        return self.steps * self.batch_size


def fit_order(
    sizes: Sequence[tuple[int, int]],
    batch_size: int,
    *,
    chunks: Sequence[Int[np.ndarray, "_"]] | None = None,
    devices: int = 1,
    slots: int | None = None,
) -> Order:
    """The order and budget for structures of these sizes.

    A plain shuffle, unless strata save more than a tenth of the edges.

    Args:
        sizes: (nodes, edges) of each structure; stores are sorted by edges in the stratified case,
            see `sort_by_size`.
        chunks: which structures are in each store, where they are not all in one; the order serves
            all of them.
        slots: for the table layout, edges per node.

    Raises:
        ValueError: the batch size is not positive, or not a multiple of the devices.
    """
    if batch_size < 1 or batch_size % devices:
        raise ValueError(
            f"a batch is dealt out evenly; {batch_size} structures do not divide over {devices} "
            "device(s); choose a multiple"
        )
    rows = np.asarray(sizes, np.int64).reshape(-1, 2)
    stores = [rows] if chunks is None else [rows[chunk] for chunk in chunks]
    most = max(map(len, stores))
    batch_size = min(batch_size, -(-most // devices) * devices)
    steps = -(-most // batch_size)
    whole = np.zeros((len(stores), steps * batch_size, 2), np.int64)
    for slot, store in zip(whole, stores, strict=True):
        slot[: len(store)] = store[np.argsort(store[:, 1], kind="stable")]
    # the choice does not look at the devices, so that any number of them sees the same batches
    plain, dealt = (_bound(whole, s, batch_size, 1)[1] for s in (1, batch_size))
    strata = 1 if plain <= 1.1 * dealt else batch_size
    nodes, edges = _bound(whole, strata, batch_size, devices)
    n_node = _rounded(nodes + 1)
    n_edge = n_node * slots if slots is not None else _rounded(max(edges, 1))
    return Order(
        steps, batch_size, strata, devices, Budget(n_node, n_edge, batch_size // devices + 1)
    )


def _rounded(n: int) -> int:
    return -(-n // ROUND) * ROUND


def _bound(sizes: np.ndarray, strata: int, batch_size: int, devices: int) -> tuple[int, int]:
    """The most nodes and edges that one device can get, over all stores and shuffles."""
    runs = np.sort(sizes.reshape(len(sizes), strata, -1, 2), axis=2)[:, :, ::-1]
    largest = runs[:, :, : batch_size // strata].reshape(len(sizes), batch_size, 2)
    if strata == 1:
        shares = largest[:, : batch_size // devices].sum(1)
    else:
        shares = largest.reshape(len(sizes), -1, devices, 2).sum(1)
    nodes, edges = shares.reshape(-1, 2).max(0)
    return int(nodes), int(edges)


def sort_by_size(samples: Sequence[Sample]) -> np.ndarray:
    """The permutation that puts samples in the order that `fit_order` counts on."""
    return np.argsort([int(s.graph.n_edge[0]) for s in samples], kind="stable")


def shuffled(
    key: Array, order: Order, count: Int[Array | np.ndarray, ""] | np.int32
) -> Int[Array, "steps device share"]:
    """The samples of each batch of one pass, -1 in empty places (they come last).

    Args:
        count: how many slots are taken; the structures are numbered below it.
    """
    draw = jax.random.uniform(key, (order.slots,))
    slot = jnp.arange(order.slots, dtype=jnp.int32)
    draw = jnp.where(slot < count, draw, 2)
    place = jnp.argsort(draw.reshape(order.strata, -1), axis=1).astype(jnp.int32)
    length = order.slots // order.strata
    ids = place + length * jnp.arange(order.strata, dtype=jnp.int32)[:, None]
    ids = jnp.where(ids < count, ids, -1)
    ids = ids.reshape(order.strata, order.steps, -1).transpose(1, 0, 2)  # steps, strata, each
    return ids.reshape(order.steps, -1, order.devices).swapaxes(1, 2)


def in_turn(order: Order, count: int) -> Int[np.ndarray, "steps device share"]:
    """The same without a shuffle, for evaluation."""
    slot = np.arange(order.slots, dtype=np.int32).reshape(order.strata, order.steps, -1)
    ids = np.where(slot < count, slot, -1).transpose(1, 0, 2)
    return ids.reshape(order.steps, -1, order.devices).swapaxes(1, 2)
