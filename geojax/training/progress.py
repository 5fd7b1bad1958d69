"""A progress bar on a terminal, a line now and then in a log."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from geojax.metrics import in_words

__all__ = ["Progress"]

QUIET = 10.0  # [s] between lines in a log


class Progress:
    """Shows steps as they are done, and the validation errors."""

    def __init__(self, console: Console, steps: int, done: int):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
        )
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bars.add_task("steps", total=steps, completed=done, errors="")
        self._console, self._said = console, 0.0

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def advance(self, step: int) -> None:
        """So many steps are done."""
        self._bars.update(self._task, completed=step)

    def validated(self, line: dict[str, Any], best: bool, last: bool) -> None:
        """A validation is done; `line` as in `metrics.jsonl`."""
        errors = {
            name.removeprefix("valid."): value
            for name, value in line.items()
            if name.startswith("valid.") and name.rsplit(".", 1)[1] in ("mae", "accuracy", "miou")
        }
        words = " ".join(f"{name} {word}" for name, word in in_words(errors).items())
        words = words or f"loss {line['loss']:.4g}"
        self._bars.update(self._task, errors=words)
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._said > QUIET or last):
            self._said = now
            star = " *" if best else ""
            self._console.print(f"epoch {line['epoch']:g}: {words}{star}", highlight=False)
