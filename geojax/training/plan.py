"""What a run is going to cost, known and printed before its first step, and then enforced.

All programs are compiled ahead of time. A compiled program refuses other shapes instead of
compiling again, and `Compilations` counts what jax compiles besides.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from rich.table import Table

from geojax.training.order import Order

__all__ = ["Compilations", "Plan", "Program", "compile_program"]

COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts what jax compiles while it is entered: `with Compilations() as seen: … seen.count`."""

    def __init__(self):
        self.count = 0
        self.active = False

    def __enter__(self) -> "Compilations":
        self.active = True
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *exception: object) -> None:
        self.active = False  # jax keeps its listeners for good

    def _hear(self, event: str, duration_secs: float, **rest: Any) -> None:
        del duration_secs, rest
        if self.active and event == COMPILED:
            self.count += 1


@dataclass(frozen=True)
class Program:
    """One compiled program.

    Attributes:
        run: the executable; it raises on arguments of another shape.
        seconds: that tracing and compiling took.
        arguments, temporary: memory [bytes] by XLA's own account.
        flops: by XLA's own estimate; loops count once.
    """

    run: Callable[..., Any]
    seconds: float
    arguments: int
    temporary: int
    flops: float


def compile_program(
    function: Callable[..., Any], *arguments: Any, donate: Sequence[int] = ()
) -> Program:
    """Compile a function for arguments of these shapes."""
    begin = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=tuple(donate)).lower(*arguments).compile()
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    return Program(
        run=compiled,
        seconds=seconds,
        arguments=int(getattr(memory, "argument_size_in_bytes", 0)),
        temporary=int(getattr(memory, "temp_size_in_bytes", 0)),
        flops=float(cost.get("flops", 0.0)),
    )


@dataclass
class Plan:
    """What is going to run: sizes, padding, programs, memory.

    Attributes:
        structures: of the training set.
        order: batches and their budget.
        padding: share of node and edge rows that hold no real node or edge, on average.
        chunks: pieces in which the data pass through the device.
        parameters: trained numbers.
        programs: by name; no other program may be compiled.
    """

    structures: int
    order: Order
    padding: tuple[float, float]
    chunks: int
    parameters: int
    epochs: int
    programs: dict[str, Program] = field(default_factory=dict)

    @property
    def memory(self) -> int:
        """Bytes that the largest program takes at once."""
        return max((p.arguments + p.temporary for p in self.programs.values()), default=0)

    def record(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        order = self.order
        return {
            "structures": self.structures,
            "steps_per_epoch": order.steps * self.chunks,
            "batch_size": order.batch_size,
            "devices": order.devices,
            "shuffle": "plain" if order.strata == 1 else "stratified by size",
            "budget": order.budget._asdict(),
            "padding": {"nodes": self.padding[0], "edges": self.padding[1]},
            "chunks": self.chunks,
            "epochs": self.epochs,
            "parameters": self.parameters,
            "compilations": len(self.programs),
            "memory_bytes": self.memory,
            "programs": {
                name: {
                    "compile_seconds": round(p.seconds, 3),
                    "argument_bytes": p.arguments,
                    "temporary_bytes": p.temporary,
                }
                for name, p in self.programs.items()
            },
        }

    def table(self) -> Table:
        """The plan as a table for people."""
        order, mega = self.order, 1e-6
        table = Table(title="plan", show_header=False, title_justify="left")
        shuffle = "" if order.strata == 1 else ", stratified by size"
        table.add_row("training structures", f"{self.structures}{shuffle}")
        per_epoch = order.steps * self.chunks
        batches = f"{per_epoch} of {order.batch_size} structures"
        table.add_row("steps per epoch", batches + f" on {order.devices} device(s)")
        table.add_row("steps in all", f"{per_epoch * self.epochs} in {self.epochs} epochs")
        nodes, edges, _ = order.budget
        waste = f"padding {self.padding[0]:.0%} of nodes, {self.padding[1]:.0%} of edges"
        table.add_row("batch", f"{nodes} nodes, {edges} edges; {waste}")
        if self.chunks > 1:
            table.add_row("data", f"in {self.chunks} chunks, the next is copied meanwhile")
        table.add_row("parameters", f"{self.parameters:,}")
        for name, p in self.programs.items():
            size = f"{(p.arguments + p.temporary) * mega:.1f} MB"
            table.add_row(f"program {name}", f"compiled in {p.seconds:.1f} s, {size}")
        table.add_row("compilations", f"{len(self.programs)}, and no more")
        table.add_row("memory", f"{self.memory * mega:.1f} MB at most, by XLA's account")
        return table
