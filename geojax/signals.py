"""SIGTERM and SIGINT end a run after its state is saved; the second one kills as usual."""

import signal
from typing import Any

__all__ = ["Signals", "Stopped"]


class Stopped(SystemExit):
    """A signal ended the run and its state is saved; the exit code is 128 + the signal's number."""


class Signals:
    """While entered, remembers the first signal in `received` instead of dying of it."""

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # only the main thread may set handlers; others leave signals alone
                break
        return self

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self.received = number
        self._restore()

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
