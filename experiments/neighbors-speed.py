"""How fast are neighbour lists, on the host against vesin, on the device against jax-md (B8)?

Silicon whose atoms are displaced by 0.1 Å, periodic, every image within 5 Å, each list made anew.
On the device everything is compiled and in float32: the grid of `graphs.device_neighbors` for edges
with shifts, and jax-md's cell list in its sparse format, as its dynamics update it. All take turns;
the number of edges is compared first. vesin's list is measured as it comes, and sorted: that of
geojax is sorted by receiver, sender and shift, and checked.

run:     python experiments/neighbors-speed.py [--repeats 5 11 23]
time:    ten minutes
expect:  at least 0.9 times vesin on the host, 3 times jax-md on the device
reached: results/neighbors-speed.json
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from typing import Any

import numpy as np
from ase.build import bulk
from results import write

from geojax.graphs import Structure, neighbor_list
from geojax.graphs.device_neighbors import device_neighbors, fitting_grid

REACH, PERIODIC = 5.0, (True, True, True)
SECONDS, ROUNDS = 10.0, 21  # of one list, at most
CAPACITY = 1.25


def crystal(repeats: int) -> Structure:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeats, repeats, repeats)
    moved = atoms.positions + np.random.default_rng(0).normal(0, 0.1, atoms.positions.shape)
    return Structure(moved, atoms.numbers, atoms.cell.array, PERIODIC)


def by_vesin(structure: Structure, ordered: bool) -> Callable[[], int]:
    from vesin import NeighborList

    search = NeighborList(cutoff=REACH, full_list=True, sorted=ordered)
    arguments = {"points": structure.positions, "box": structure.cell, "periodic": True}
    return lambda: len(search.compute(**arguments, quantities="ijS")[0])


def on_device(structure: Structure, edges: int) -> Callable[[], int]:
    import jax
    import jax.numpy as jnp

    assert structure.cell is not None
    fractional = structure.positions @ np.linalg.inv(structure.cell)
    shape = {"reach": REACH, "periodic": PERIODIC}
    grid = fitting_grid(fractional, structure.cell, REACH, periodic=PERIODIC, multiple=CAPACITY)
    search = jax.jit(partial(device_neighbors, **shape, grid=grid, capacity=int(CAPACITY * edges)))
    arguments = [jnp.asarray(x, jnp.float32) for x in (fractional, structure.cell)]
    return lambda: int(search(*arguments).count)


def by_jax_md(structure: Structure) -> Callable[[], int]:
    import jax
    import jax.numpy as jnp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from jax_md import partition, space
    assert structure.cell is not None
    side: Any = float(structure.cell[0, 0])
    displacement, _ = space.periodic(side)
    lists = partition.neighbor_list(
        displacement,
        side,
        REACH,
        dr_threshold=0.0,
        capacity_multiplier=CAPACITY,
        format=partition.Sparse,
    )
    position = jnp.asarray(structure.positions % side, jnp.float32)
    first = lists.allocate(position)
    update = jax.jit(lambda position, old: old.update(position))
    # another position each time, since a list for the same one is not made again
    moved = [position + jnp.float32(1e-3 * k) for k in (1, 2)]
    turn = iter(range(10**9))

    def again() -> int:
        found = update(moved[next(turn) % 2], first)
        assert not found.did_buffer_overflow
        return int((found.idx[0] < len(position)).sum())

    return again


def timed(sides: dict[str, Callable[[], int]]) -> dict[str, Any]:
    """Milliseconds of each, in turns, after a first call."""
    for again in sides.values():
        again()
    times: dict[str, list[float]] = {name: [] for name in sides}
    begin = time.perf_counter()
    while len(times["vesin"]) < ROUNDS and (
        len(times["vesin"]) < 3 or time.perf_counter() - begin < SECONDS * len(sides)
    ):
        for name, again in sides.items():
            start = time.perf_counter()
            again()
            times[name].append(1e3 * (time.perf_counter() - start))
    row = lambda t: {"median": median(t), "quartiles": quantiles(t, n=4)[::2], "runs": len(t)}
    return {name: row(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, nargs="+", default=[5, 11, 23])
    sizes: dict[str, Any] = {}
    for repeats in parser.parse_args().repeats:
        structure = crystal(repeats)
        edges = len(neighbor_list(structure, REACH).senders)
        sides = {
            "host": partial(lambda s: len(neighbor_list(s, REACH).senders), structure),
            "vesin": by_vesin(structure, False),
            "vesin, sorted": by_vesin(structure, True),
            "device": on_device(structure, edges),
            "jax-md": by_jax_md(structure),
        }
        counts = {name: again() for name, again in sides.items()}
        # float32 places an edge or two of millions on the other side of the cutoff
        assert max(abs(c - edges) for c in counts.values()) <= 1e-5 * edges + 1, counts
        found = timed(sides)
        ratio = lambda ours, theirs, f=found: f[theirs]["median"] / f[ours]["median"]
        sizes[str(len(structure))] = {
            "edges": counts,
            "milliseconds": found,
            "ratios": {
                "host": ratio("host", "vesin"),
                "host, sorted": ratio("host", "vesin, sorted"),
                "device": ratio("device", "jax-md"),
            },
        }
        print(len(structure), sizes[str(len(structure))], flush=True)
        write("neighbors-speed", {"cutoff": REACH, "sizes": sizes})


if __name__ == "__main__":
    main()
