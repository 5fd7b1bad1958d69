"""Checkpoints of the whole state by orbax, with hashes, the last few and the best.

orbax restores a file with a flipped bit without a word, so every checkpoint carries the SHA-256 of
its leaves, checked when it is read; a damaged one is passed over for the one before.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

__all__ = ["Checkpoints", "Damaged"]


class Damaged(ValueError):
    """A checkpoint exists and cannot be trusted."""


class Checkpoints:
    """Checkpoints in a folder: `last/<step>` (the newest `keep`) and `best/<step>` (one).

    Args:
        folder: made where it is missing.
        keep: how many of the newest to hold.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = Path(folder).absolute(), keep
        for leftover in self.folder.glob("*/*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover)

    def save(self, kind: str, step: int, state: Any, note: dict[str, Any]) -> None:
        """Write one checkpoint and forget the surplus; returns when it is safe on disk.

        Args:
            kind: "last" or "best".
            note: plain values that are kept beside the state.

        Raises:
            OSError: the disk holds less than twice the state; nothing was touched.
        """
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        self._need(2 * sum(leaf.nbytes for leaf in leaves))
        path = self.folder / kind / str(step)
        if path.exists():
            shutil.rmtree(path)
        record = {"step": step, "sha256": _hash(leaves), "note": note}
        with ocp.PyTreeCheckpointer() as writer:
            writer.save(path / "state", leaves)
        temporary = path / "record.tmp"
        temporary.write_text(json.dumps(record))
        temporary.rename(path / "record.json")  # last: a checkpoint without it is not one
        for old in self.steps(kind)[: -1 if kind == "best" else -self.keep]:
            shutil.rmtree(self.folder / kind / str(old))

    def steps(self, kind: str) -> list[int]:
        """The complete checkpoints of a kind, oldest first."""
        records = (self.folder / kind).glob("*/record.json")
        return sorted(int(p.parent.name) for p in records if p.parent.name.isdigit())

    def restore(self, kind: str, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The state (numpy) and note of one checkpoint.

        Args:
            like: a tree of the same structure and shapes.
            step: which one; the newest by default.

        Raises:
            FileNotFoundError: there is none.
            Damaged: its content is not what was written, or does not fit `like`.
        """
        steps = self.steps(kind)
        if not steps or (step is not None and step not in steps):
            raise FileNotFoundError(
                f"no checkpoint {kind}/{'' if step is None else step} in {self.folder}; "
                f"there are: {steps or 'none'}"
            )
        path = self.folder / kind / str(steps[-1] if step is None else step)
        try:
            record = json.loads((path / "record.json").read_text())
            with ocp.PyTreeCheckpointer() as reader:
                leaves = [np.asarray(leaf) for leaf in reader.restore(path / "state")]
        except Exception as error:
            raise Damaged(f"checkpoint {path} cannot be read ({type(error).__name__})") from error
        if _hash(leaves) != record["sha256"]:
            raise Damaged(
                f"checkpoint {path} is damaged: its SHA-256 is not the one written with it"
            )
        want = jax.tree.leaves(like)
        if [x.shape for x in want] != [x.shape for x in leaves]:
            raise ValueError(
                f"checkpoint {path} holds another state: {len(leaves)} arrays where this run has "
                f"{len(want)}, or other shapes; was the experiment changed? use a new folder"
            )
        return jax.tree.unflatten(jax.tree.structure(like), leaves), record["note"]

    def newest_good(self, like: Any) -> tuple[Any, dict[str, Any], list[str]]:
        """The newest sound checkpoint, its note, and what was wrong with newer ones.

        Raises:
            FileNotFoundError: there is none.
            Damaged: there are some and all are damaged.
        """
        troubles: list[str] = []
        for step in reversed(self.steps("last")):
            try:
                return *self.restore("last", like, step), troubles
            except Damaged as error:
                troubles.append(str(error))
        if troubles:
            raise Damaged(f"{'; '.join(troubles)}; start again in a new folder")
        raise FileNotFoundError(f"no checkpoint in {self.folder}")

    def _need(self, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise OSError(
                f"a checkpoint needs {size / 1e6:.0f} MB of free disk (twice the state); "
                f"{self.folder} has {free / 1e6:.0f} MB; older checkpoints are untouched"
            )


def _hash(leaves: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
