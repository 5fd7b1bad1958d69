"""Several processes that train one model: how one joins, which one writes, what all agree on.

Each process reads the data, holds them on its own devices and computes its share of every batch.
The first process alone writes: checkpoints, metrics, results. What a process knows by itself (a
signal, the time that steps took) goes through `agreement` before anything is decided by it, so that
all run the same steps and stop together.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from geojax.training.plan import Program, compile_program
from geojax.training.step import AXIS

__all__ = ["agreed", "agreement", "is_first", "join", "refuse_difference"]

LOST = 60  # [s] without a sign of life after which a process counts as lost
PATIENCE = 24 * 3600  # [s] that the others wait at the end, while the first tests and saves
NO_PREEMPTION = "jax_enable_preemption_service", False  # signals are geojax's (`Signals`)
AGREED = 3  # numbers that processes compare at a time


def join(where: str) -> None:
    """Become one of several processes; before jax does anything else.

    Args:
        where: "cluster" (the processes, their number and the address of the first are found as
            `jax.distributed.initialize` finds them, under Slurm, Open MPI or Kubernetes), or
            "host:port,processes,index".

    Raises:
        ValueError: neither; or no cluster is found.
    """
    waits: dict[str, Any] = {
        "heartbeat_timeout_seconds": LOST,
        "shutdown_timeout_seconds": PATIENCE,
    }
    if where == "cluster":
        jax.config.update(*NO_PREEMPTION)
        try:
            jax.distributed.initialize(**waits)
        except ValueError as error:
            raise ValueError(
                f"a job's processes are found under Slurm, Open MPI or Kubernetes; none is "
                f"({error}); start each with --join host:port,processes,index"
            ) from error
        return
    address, _, numbers = where.partition(",")
    count, _, index = numbers.partition(",")
    port = address.rpartition(":")[2]
    known = port.isdigit() and count.isdigit() and index.isdigit()
    if not known or not 0 <= int(index) < int(count):
        raise ValueError(
            "a process joins 'cluster', or 'host:port,processes,index' with an index from 0 and "
            f"below the processes; got {where!r}"
        )
    jax.config.update(*NO_PREEMPTION)
    local = address.startswith(("127.", "localhost:"))
    jax.distributed.initialize(
        address,
        int(count),
        int(index),
        coordinator_bind_address=address if local else None,
        **waits,
    )


def is_first() -> bool:
    """Whether this process writes; of a single process, True."""
    return jax.process_index() == 0


def agreement(mesh: Mesh | None) -> Program | None:
    """The program by which processes compare numbers; None where there is only one.

    Its function takes up to `AGREED` numbers (kept as float32) and returns the largest of each
    over all processes. It returns when all have called it.
    """
    if jax.process_count() == 1 or mesh is None:
        return None
    rows = NamedSharding(mesh, P(AXIS))
    shape = (mesh.size, AGREED)

    def largest(x: jax.Array) -> jax.Array:
        return jax.lax.pmax(x, AXIS)[0]

    def dealt(values: Sequence[float]) -> jax.Array:
        row = np.zeros((1, AGREED), np.float32)
        row[0, : len(values)] = values
        return jax.make_array_from_callback(shape, rows, lambda index: row)

    mapped = jax.shard_map(largest, mesh=mesh, in_specs=P(AXIS), out_specs=P(), check_vma=False)
    program = compile_program(mapped, dealt([]))

    def agree(values: Sequence[float]) -> list[float]:
        return [float(x) for x in np.asarray(program.run(dealt(values)))[: len(values)]]

    return Program(agree, program.seconds, program.arguments, program.temporary, program.flops)


def agreed(program: Program | None, *values: float) -> list[float]:
    """The largest of each value over all processes."""
    return list(values) if program is None else program.run(values)


def refuse_difference(program: Program | None, value: float, what: str) -> None:
    """Stop all processes where one has another value.

    Raises:
        ValueError: says what differs.
    """
    high, low = agreed(program, value, -value)
    if high != -low:
        raise ValueError(
            f"processes of one run have the same {what}; they have {-low:.0f} to {high:.0f}, and "
            f"this one {value:.0f}; give them the same files on a file system that all see"
        )
