"""What a run has reached: a line per validation, kept as JSON lines, and which one was best."""

import json
import math
from pathlib import Path
from typing import Any

__all__ = ["History"]


class History:
    """The lines of `metrics.jsonl` and what follows from them.

    Args:
        path: of the file; rewritten when a run resumes at an earlier line. None: nothing is
            written.
        watch: the metric that decides what is best, without its "valid." prefix; "loss" falls back
            to the training loss where there are no validation data. Accuracies are better higher.
    """

    def __init__(self, path: Path | None, watch: str = "loss"):
        self.path, self.watch = path, watch
        self.lines: list[dict[str, Any]] = []
        self.best = math.inf
        self.best_epoch = 0.0
        self.waited = 0
        self.lowered = 0

    def value(self, line: dict[str, Any]) -> float:
        """What is watched; smaller is better.

        Raises:
            KeyError: the metric is not in the line.
        """
        if self.watch == "loss":
            return line.get("valid.loss", line["loss"])
        name = f"valid.{self.watch}"
        if name not in line:
            known = ", ".join(k.removeprefix("valid.") for k in line if k.startswith("valid."))
            raise KeyError(f"the watched metric must be measured; {self.watch!r} is not: {known}")
        return -line[name] if name.endswith(("accuracy", "miou")) else line[name]

    def add(self, line: dict[str, Any]) -> bool:
        """Keep a line; True if it is the best so far.

        Raises:
            OSError: the file cannot be written to.
        """
        self.lines.append(line)
        if self.path is not None:
            self._append(self.path, line)
        if self.value(line) < self.best:
            self.best, self.best_epoch, self.waited = self.value(line), line["epoch"], 0
            return True
        self.waited += 1
        return False

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        try:
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OSError(
                error.errno,
                f"{path} cannot be written ({error.strerror}); checkpoints are untouched; "
                "make room, and the same command resumes",
            ) from error

    def reached_plateau(self, patience: int | None) -> bool:
        """True once every `patience` validations without improvement."""
        if not self.waited:
            self.lowered = 0
        if patience is None or self.waited < (self.lowered + 1) * patience:
            return False
        self.lowered += 1
        return True

    def state(self) -> dict[str, Any]:
        """Everything as plain values, for a checkpoint."""
        keep = ("lines", "best", "best_epoch", "waited", "lowered")
        return {name: getattr(self, name) for name in keep}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to `state`, in the file too."""
        for name, value in state.items():
            setattr(self, name, value)
        if self.path is not None:
            self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
