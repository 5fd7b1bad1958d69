"""`fit`: the only Python loop of training. It calls compiled programs, validates, saves and stops.

A run lives in a folder: `metrics.jsonl` (a line per validation), `plan.json`, `checkpoints/`. The
same call on the same folder goes on where the last one ended and gives the run that it would have
given. Of several processes the first one writes; the others read checkpoints and stay in step.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from geojax.files import write_whole
from geojax.metrics import summary
from geojax.registry import did_you_mean
from geojax.signals import Signals, Stopped
from geojax.training.augment import augmentations_from_tables
from geojax.training.checkpoint import Checkpoints
from geojax.training.chunks import Chunks
from geojax.training.devices import put
from geojax.training.history import History
from geojax.training.order import Order, shuffled
from geojax.training.plan import Compilations, Plan
from geojax.training.processes import agreed, is_first, refuse_difference
from geojax.training.progress import Progress
from geojax.training.state import TrainState

DTYPES = ("float32", "float64")

__all__ = ["Fit", "Options", "Prepared", "fit"]


@dataclass(frozen=True)
class Options:
    """How a run goes.

    Attributes:
        epochs: passes over the training data, in all.
        batch_size: structures of a step, over all devices.
        seed: of the parameters and of every shuffle.
        ema: decay of the running average of the parameters that is evaluated and kept; 0: none.
        validate_every: epochs between validations.
        patience: stop after so many validations without improvement; None: never.
        watch: what decides which parameters are best, see `History`.
        checkpoint_seconds: between checkpoints; one is written at the end and on a signal as well.
        call_seconds: a call of the epoch program takes about this at most, so that signals are
            answered and progress is seen; a long epoch is several calls of the same program.
        data_limit: bytes of device memory for training data; more data go through in chunks (see
            `training.chunks`). Of data in a packed file the host holds no more than that, either.
        devices: over which a batch is dealt out; None: all there are.
        dtype: "float32" or "float64".
        augment: changes of the training data that differ with every pass, in turn, as tables such
            as {kind = "rotation"} or as objects (see `training.augment`).

    Raises:
        ValueError: a number out of its range.
        KeyError: another dtype; an unknown augmentation.
    """

    epochs: int = 100
    batch_size: int = 10
    seed: int = 0
    ema: float = 0.99
    validate_every: int = 1
    patience: int | None = None
    watch: str = "loss"
    checkpoint_seconds: float = 60.0
    call_seconds: float = 10.0
    data_limit: float | None = None
    devices: int | None = None
    dtype: str = "float32"
    augment: Sequence[Any] = ()

    def __post_init__(self):
        object.__setattr__(self, "augment", augmentations_from_tables(self.augment))
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is a count; got {getattr(self, name)}; give a whole number from 1 on"
                )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is from 0 (no average) to below 1; got {self.ema}; try 0.99")
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"patience is a number of validations, 1 or more; got {self.patience}; leave it "
                "out to train to the end"
            )
        if self.data_limit is not None and not self.data_limit > 0:
            raise ValueError(
                f"data_limit is a number of bytes; got {self.data_limit}; leave it out to hold all "
                "data on the device"
            )
        if self.dtype not in DTYPES:
            raise KeyError(
                f"training has no dtype {self.dtype!r}; {did_you_mean(self.dtype, DTYPES)}"
            )


class Prepared(NamedTuple):
    """Everything that a run needs, sized and compiled (see `prepare`)."""

    plan: Plan
    chunks: Chunks
    mesh: Any
    valid: tuple[Any, np.ndarray] | None
    plateau: tuple[int | None, float]


class Fit(NamedTuple):
    """What came of a run.

    Attributes:
        params: the best by validation, numpy.
        history: the lines of `metrics.jsonl`.
        plan: what was planned.
        seconds: in training steps, without compilation and validation.
        compilations: how many programs jax compiled, from the planning to the end.
    """

    params: Any
    history: list[dict[str, Any]]
    plan: Plan
    seconds: float
    compilations: int


@dataclass
class _Progress:
    """Where a run is; with the train state, all that a checkpoint holds."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, steps: int, seconds: float, losses: Any, sums: dict[str, Any]) -> None:
        self.step, self.seconds = self.step + steps, self.seconds + seconds
        self.losses = [a + float(b) for a, b in zip(self.losses, losses, strict=True)]
        for name, value in sums.items():
            before = self.sums.get(name, [0.0] * len(value))
            self.sums[name] = [a + float(b) for a, b in zip(before, value, strict=True)]


class _Part(NamedTuple):
    """The steps of one call: `[start, stop)` over one chunk since the beginning.

    Attributes:
        following: the chunk after this one.
    """

    chunk: int
    start: int
    stop: int
    following: int


def fit(run: Prepared, options: Options, folder: Path, console: Console, seen: Compilations) -> Fit:
    """Train to the end, the patience or a signal.

    Args:
        run: from `prepare`.
        folder: of this run; one that is there already is continued.
        seen: has been counting compilations since before `prepare`.

    Raises:
        FloatingPointError: a loss or gradient was not finite; names the batch. The state before it
            is saved.
        Stopped: a signal arrived; the state is saved.
        RuntimeError: something was compiled that the plan does not name.
    """
    writes, agree = is_first(), run.plan.programs.get("agree")
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole({folder / "plan.json": json.dumps(run.plan.record(), indent=1).encode()})
    history = History(folder / "metrics.jsonl" if writes else None, options.watch)
    saves = Checkpoints(folder / "checkpoints", writes=writes)
    agreed(agree, 0.0)  # the first has put the folder in order before the others look into it
    feed = _Feed(run)
    state = run.plan.programs["init"].run(feed.first)
    state, best, at = _resume(saves, state, run, history, console)
    refuse_difference(agree, float(at.step), "checkpoint, by its step")
    per_epoch = run.plan.order.steps * len(run.chunks)
    total, stride = options.epochs * per_epoch, options.validate_every * per_epoch
    saved, pace = time.monotonic(), None
    with Signals() as signals, Progress(console, total, at.step) as progress:
        while at.step < total and not _out_of_patience(history, options):
            goal = min((at.step // stride + 1) * stride, total)
            part = _next_part(at.step, goal, run, options, pace)
            begin = time.perf_counter()
            state, losses, sums = feed.run(state, part)
            spent = time.perf_counter() - begin
            if int(state.bad) >= 0:
                _save(saves, at, state, best, history)
                raise _not_finite(state, part, at.step, run, options, folder)
            at.add(part.stop - part.start, spent, losses, sums)
            received = float(signals.received or 0)
            pace, received = agreed(agree, spent / (part.stop - part.start), received)
            progress.advance(at.step)
            if at.step == goal:
                line = _line(at, per_epoch) | _validate(run, state, at.step / per_epoch)
                better = history.add(line)
                if better:
                    best = jax.tree.map(np.array, state.ema)
                elif history.reached_plateau(run.plateau[0]):
                    scale = np.float32(np.asarray(state.scale) * run.plateau[1])
                    state = state._replace(scale=put(scale, run.mesh))
                progress.validated(line, better, at.step == total)
                at.losses, at.sums = [0.0, 0.0], {}
            if received or time.monotonic() - saved > options.checkpoint_seconds:
                _save(saves, at, state, best, history)
                saved = time.monotonic()
            if received:
                console.print(f"a signal ended the run at step {at.step}; the same command resumes")
                raise Stopped(128 + int(received))
            _enforce(run.plan, seen)
    _save(saves, at, state, best, history)
    _enforce(run.plan, seen)
    params = jax.tree.map(np.array, state.ema) if best is None else best
    return Fit(params, history.lines, run.plan, at.seconds, seen.count)


class _Feed:
    """Gives the epoch program its chunk, and starts to copy the next one meanwhile."""

    def __init__(self, run: Prepared):
        self._run, self._held = run, {0: put(run.chunks[0], run.mesh)}

    @property
    def first(self) -> Any:
        """The first chunk, from which the parameters get their shapes."""
        return self._held[0]

    def run(self, state: TrainState, part: _Part) -> tuple[TrainState, Any, dict[str, Any]]:
        chunk = part.chunk
        self._held = {k: v for k, v in self._held.items() if k in (chunk, part.following)}
        if chunk not in self._held:
            self._held[chunk] = put(self._run.chunks[chunk], self._run.mesh)
        count = np.int32(len(self._run.chunks.members[chunk]))
        bounds = (np.int32(chunk), np.int32(part.start), np.int32(part.stop))
        epoch = self._run.plan.programs["epoch"].run
        state, losses, sums = epoch(state, self._held[chunk], count, *bounds)
        if part.following not in self._held:  # the program runs on while the host prepares
            self._held[part.following] = put(self._run.chunks[part.following], self._run.mesh)
        return state, np.asarray(losses), {k: np.asarray(v) for k, v in sums.items()}


def _next_part(step: int, goal: int, run: Prepared, options: Options, pace: float | None) -> _Part:
    """As many steps as fit into one call: up to the goal, the end of a chunk, and the time."""
    order, chunks = run.plan.order, len(run.chunks)
    most = 8 if pace is None else max(1, int(options.call_seconds / pace))
    if chunks == 1:
        return _Part(0, step, min(goal, step + most), 0)
    epoch, rest = divmod(step, order.steps * chunks)
    place, start = divmod(rest, order.steps)
    stop = min(order.steps, start + most)
    chunk, following = (
        int(run.chunks.order(turn)[at])
        for turn, at in ((epoch, place), divmod(epoch * chunks + place + 1, chunks))
    )
    return _Part(chunk, epoch * order.steps + start, epoch * order.steps + stop, following)


def _line(at: _Progress, per_epoch: int) -> dict[str, Any]:
    train = {f"train.{name}": value for name, value in summary(at.sums).items()}
    loss = at.losses[0] / max(at.losses[1], 1)
    return {"epoch": at.step / per_epoch, "step": at.step, "loss": loss} | train


def _validate(run: Prepared, state: TrainState, epoch: float) -> dict[str, float]:
    if run.valid is None:
        return {}
    data, ids = run.valid
    dtype = jax.tree.leaves(state.params)[0].dtype
    loss, sums = run.plan.programs["evaluate"].run(state.ema, data, ids, dtype.type(epoch))
    found = {"loss": float(loss)} | summary(sums)
    return {f"valid.{name}": value for name, value in found.items()}


def _out_of_patience(history: History, options: Options) -> bool:
    return options.patience is not None and history.waited >= options.patience


def _save(saves: Checkpoints, at: _Progress, state: Any, best: Any, history: History) -> None:
    if not is_first():
        return
    best = state.ema if best is None else best
    note = {"at": vars(at), "history": history.state()}
    saves.save("last", at.step, {"state": state, "best": best}, note)


def _resume(
    saves: Checkpoints, state: TrainState, run: Prepared, history: History, console: Console
) -> tuple[TrainState, Any, _Progress]:
    if not saves.steps("last"):
        history.restore(history.state())
        return state, None, _Progress()
    found, note, troubles = saves.newest_good({"state": state, "best": state.ema})
    for trouble in troubles:
        console.print(f"[yellow]passed over[/]: {trouble}")
    history.restore(note["history"])
    at = _Progress(**note["at"])
    console.print(f"resumed at step {at.step}")
    return put(found["state"], run.mesh), found["best"], at


def _not_finite(
    state: TrainState, part: _Part, step: int, run: Prepared, options: Options, folder: Path
) -> FloatingPointError:
    """The error that names the batch; the same facts go to `not-finite.json`."""
    order: Order = run.plan.order
    bad = int(state.bad)
    turn, place = divmod(part.start + bad - step, order.steps)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(options.seed), part.chunk), turn)
    count = np.int32(len(run.chunks.members[part.chunk]))
    slots = np.asarray(shuffled(key, order, count))[place].ravel()
    names = [int(run.chunks.ids(part.chunk)[slot]) for slot in slots if slot >= 0]
    record = {"step": bad, "structures": names}
    if is_first():
        (folder / "not-finite.json").write_text(json.dumps(record))
    return FloatingPointError(
        f"the loss or its gradient is not finite at step {bad}; the batch holds the training "
        f"structures {names}{_largest_force(run, names)}; the state before it is saved; look at "
        "these structures, or lower the learning rate, or clip the gradient"
    )


def _largest_force(run: Prepared, names: list[int]) -> str:
    """The largest force label among the structures, for people who look for a broken one."""
    forces = {i: run.chunks.samples[i].labels.forces for i in names}
    sizes = {i: float(np.abs(f).max()) for i, f in forces.items() if f is not None}
    if not sizes:
        return ""
    worst = max(sizes, key=lambda i: np.nan_to_num(sizes[i], nan=np.inf))
    return f"; the largest force label is {sizes[worst]:.3g} eV/Å, in structure {worst}"


def _enforce(plan: Plan, seen: Compilations) -> None:
    if seen.count > len(plan.programs):
        raise RuntimeError(
            f"the plan names {len(plan.programs)} programs ({', '.join(plan.programs)}) and jax "
            f"compiled {seen.count}; something compiles beside the training"
        )
