"""jax-md's simulators for as many steps as wanted, in compiled chunks that mend their own lists.

A step is kept if the list that it read was complete where it ended, and if all of its numbers are
finite. Else it is undone: the list is made anew for the last good state, on the device, and if its
places or images do not suffice, allocated anew by the host. So a chunk never runs on with a list
that is short, and what it returns does not depend on how often that happened.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geojax.simulation.jax_md.neighbors import Neighbors
from geojax.simulation.jax_md.potential import JaxMD

__all__ = ["JaxMDRun", "run_jax_md"]


class JaxMDRun(NamedTuple):
    """How a run ended.

    Attributes:
        state: jax-md's.
        neighbor: the list that goes with it.
        frames: what `observe` returned after each `every` steps, numpy, along a leading axis.
        allocations: how often the list was allocated anew.
    """

    state: Any
    neighbor: Neighbors
    frames: Any
    allocations: int


class Chunk(NamedTuple):
    """Where a chunk is.

    Attributes:
        state: the last good one.
        neighbor: the list.
        done: steps.
        again: whether the last step was undone, and the list made for the state as it is.
        stuck: whether a step was undone though the list was new.
    """

    state: Any
    neighbor: Neighbors
    done: Any
    again: Any
    stuck: Any


def run_jax_md(
    potential: JaxMD,
    apply_fn: Callable[..., Any],
    state: Any,
    *,
    steps: int,
    every: int = 100,
    neighbor: Neighbors | None = None,
    observe: Callable[[Any], Any] | None = None,
) -> JaxMDRun:
    """Take so many steps of a simulator, and look at every so many.

    Args:
        potential: whose `energy_fn` the simulator was made with.
        apply_fn: `(state, neighbor=) -> state`, from `jax_md.simulate` or `minimize`.
        state: that its `init_fn` made; a `box` in it is the one of each step.
        steps: to take.
        every: steps of a chunk, which is one call of a compiled program.
        neighbor: a list to begin with; allocated for the state by default.
        observe: what to keep of a state; its positions by default. Compiled.

    Raises:
        ValueError: steps or every are no counts, or the state is not finite or is no state of
            jax-md.
        FloatingPointError: a step from a good state leads to numbers that are not finite.
        RuntimeError: an atom, or the cell, moves through all of the skin in one step.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every are 1 or more; got steps={steps}, every={every}")
    if not hasattr(state, "position"):
        raise ValueError(
            f"a state of jax-md has positions; got {type(state).__name__}; its init_fn makes one"
        )
    if not bool(_finite(state)):
        raise ValueError(
            "a run begins at a state whose numbers are finite; this one has others; give the "
            "simulator's init_fn a list that was allocated for the same positions and box"
        )
    allocations = 0
    current = _allocated(potential, state) if neighbor is None else neighbor
    advance, look = _programs(apply_fn, _position if observe is None else observe)
    frames, done = [], 0
    while done < steps:
        goal = min(every - done % every, steps - done)
        chunk = advance(state, current, jnp.asarray(goal, jnp.int32))
        state, current = chunk.state, chunk.neighbor
        done += int(chunk.done)
        if int(chunk.done) == goal:
            if done % every == 0:
                frames.append(jax.tree.map(np.asarray, look(state)))
        elif bool(current.did_buffer_overflow):
            current, allocations = _allocated(potential, state), allocations + 1
        else:
            with jax.debug_nans(False):
                _explain(apply_fn(state, neighbor=current), state, current, done)
    stacked = jax.tree.map(lambda *x: np.stack(x), *frames) if frames else None
    return JaxMDRun(state, current, stacked, allocations)


def _position(state: Any) -> Any:
    return state.position


def _allocated(potential: JaxMD, state: Any) -> Neighbors:
    return potential.neighbor_fn.allocate(state.position, box=getattr(state, "box", None))


@lru_cache(maxsize=8)
def _programs(apply_fn: Callable[..., Any], observe: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Kept, so that a run that goes on compiles nothing."""

    def one(chunk: Chunk) -> Chunk:
        state, box = chunk.state, getattr(chunk.state, "box", None)
        neighbor = jax.lax.cond(
            chunk.again,
            lambda: chunk.neighbor.again(state.position, box),
            lambda: chunk.neighbor.update(state.position, box=box),
        )
        new = apply_fn(state, neighbor=neighbor)
        good = _finite(new) & neighbor.is_complete(new.position, getattr(new, "box", None))
        state = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state)
        return Chunk(state, neighbor, chunk.done + good, ~good, chunk.again & ~good)

    @jax.jit
    def advance(state: Any, neighbor: Neighbors, goal: Any) -> Chunk:
        def goes_on(chunk: Chunk) -> Any:
            return (chunk.done < goal) & ~chunk.stuck & ~chunk.neighbor.did_buffer_overflow

        no = jnp.zeros((), bool)
        start = Chunk(state, neighbor, jnp.zeros((), jnp.int32), no, no)
        return jax.lax.while_loop(goes_on, one, start)

    return advance, jax.jit(observe)


def _finite(state: Any) -> Any:
    numbers = [x for x in jax.tree.leaves(state) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()


def _explain(new: Any, old: Any, neighbor: Neighbors, done: int) -> None:
    """Say why no list helps; raises."""
    used = float(neighbor.used(new.position, getattr(new, "box", None)))
    skin = neighbor.search.skin
    advice = "take a smaller timestep, a larger skin (jax_md_potential), or a state at rest"
    if used > skin:
        raise RuntimeError(
            f"the neighbour list must outlast a step; step {done + 1} takes {used:.3g} Å of its "
            f"skin of {skin} Å; {advice}"
        )
    raise FloatingPointError(
        f"all numbers of a state are finite; step {done + 1} leads to others, from positions of up "
        f"to {float(jnp.abs(old.position).max()):.3g}; {advice}"
    )
