"""Checkpoints of the whole state by orbax, with hashes, the last few and the best.

orbax restores a file with a flipped bit without a word, so every checkpoint carries a record: the
SHA-256 of each of its files, of its arrays, and of the record itself. Files are compared before
anything parses them; a damaged checkpoint is passed over for the one before.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from geojax.files import write_whole

__all__ = ["Checkpoints", "Damaged"]

PART, OLD = ".part", ".old"  # endings of folders that are being written, and being deleted
KEYS = {"step", "sha256", "note", "files", "record_sha256"}
FIRST_KEYS = {"step", "sha256", "note"}  # of records before there were hashes of files


class Damaged(ValueError):
    """A checkpoint exists and cannot be trusted."""


class Checkpoints:
    """Checkpoints in a folder: `last/<step>` (the newest `keep`) and `best/<step>` (one).

    A checkpoint appears under its name when it is whole, and disappears at once; what a killed
    process left half done is cleaned up here, so one process opens the folder at a time.

    Args:
        folder: made where it is missing.
        keep: how many of the newest to hold.
        writes: a process that only reads leaves the folder as it is.
    """

    def __init__(self, folder: Path, keep: int = 2, *, writes: bool = True):
        self.folder, self.keep = Path(folder).absolute(), keep
        if not writes:
            return
        for path in self.folder.glob(f"*/*{PART}"):
            whole = path.with_suffix("")
            if (path / "record.json").exists() and not whole.exists():
                path.rename(whole)
        for ending in (PART, OLD, ".orbax-checkpoint-tmp*"):
            for leftover in self.folder.glob(f"*/*{ending}"):
                shutil.rmtree(leftover)
        for leftover in self.folder.glob("*/*/state.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover.parent)

    def save(self, kind: str, step: int, state: Any, note: dict[str, Any]) -> None:
        """Write one checkpoint and forget the surplus; returns when it is safe on disk.

        Args:
            kind: "last" or "best".
            note: plain values that are kept beside the state.

        Raises:
            OSError: the disk holds less than twice the state, or fills up, or cannot be written
                to; older checkpoints are untouched.
        """
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        self._need(2 * sum(leaf.nbytes for leaf in leaves))
        path = self.folder / kind / str(step)
        part = path.with_name(path.name + PART)
        try:
            with _checkpointer() as writer:
                writer.save(part / "state", leaves, force=True)
            record = {"step": step, "sha256": _hash(leaves), "note": note, "files": _files(part)}
            record["record_sha256"] = _record_hash(record)
            write_whole({part / "record.json": json.dumps(record).encode()})
            if path.exists():
                path.rename(path.with_name(path.name + OLD))
            part.rename(path)
        except (OSError, ValueError, RuntimeError) as error:  # a full disk is each of them in orbax
            shutil.rmtree(part, ignore_errors=True)
            raise OSError(
                f"checkpoint {path} cannot be written ({str(error).splitlines()[0][:300]}); older "
                "checkpoints are untouched; make room, and the same command resumes"
            ) from error
        for old in self.steps(kind)[: -1 if kind == "best" else -self.keep]:
            surplus = self.folder / kind / str(old)
            surplus.rename(surplus.with_name(surplus.name + OLD))
        for old in (self.folder / kind).glob(f"*{OLD}"):
            shutil.rmtree(old)

    def steps(self, kind: str) -> list[int]:
        """The checkpoints of a kind, oldest first; `restore` finds whether one is sound."""
        found = (self.folder / kind).glob("*")
        return sorted(int(p.name) for p in found if p.name.isdigit() and p.is_dir())

    def restore(self, kind: str, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The state (numpy) and note of one checkpoint.

        Args:
            like: a tree of the same structure and shapes.
            step: which one; the newest by default.

        Raises:
            FileNotFoundError: there is none.
            Damaged: its content is not what was written.
            ValueError: it does not fit `like`.
        """
        steps = self.steps(kind)
        if not steps or (step is not None and step not in steps):
            raise FileNotFoundError(
                f"no checkpoint {kind}/{'' if step is None else step} in {self.folder}; "
                f"there are: {steps or 'none'}"
            )
        path = self.folder / kind / str(steps[-1] if step is None else step)
        try:
            record = _record(path)
            with _checkpointer() as reader:
                leaves = [np.asarray(leaf) for leaf in reader.restore(path / "state")]
        except Damaged:
            raise
        except Exception as error:
            raise Damaged(f"checkpoint {path} cannot be read ({type(error).__name__})") from error
        if _hash(leaves) != record["sha256"]:
            raise _damaged(path / "state")
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


def _checkpointer() -> ocp.Checkpointer:
    """orbax's, of this process alone: it does not wait for the others of a run."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=alone)


def _record(path: Path) -> dict[str, Any]:
    """The record of a checkpoint whose files are all what it says."""
    if not (path / "record.json").exists():
        raise Damaged(f"checkpoint {path} is not whole: record.json is missing")
    try:
        record = json.loads((path / "record.json").read_bytes())
    except ValueError as error:
        raise _damaged(path / "record.json") from error
    if set(record) == FIRST_KEYS:
        return record
    if set(record) != KEYS or record["record_sha256"] != _record_hash(record):
        raise _damaged(path / "record.json")
    if str(record["step"]) != path.name:
        raise Damaged(f"checkpoint {path} is of step {record['step']}: it was renamed")
    for name, digest in record["files"].items():
        if not (path / name).is_file():
            raise Damaged(f"checkpoint {path} is not whole: {name} is missing")
        if _file_hash(path / name) != digest:
            raise _damaged(path / name)
    return record


def _damaged(path: Path) -> Damaged:
    return Damaged(f"checkpoint {path} is damaged: its SHA-256 is not the one written with it")


def _files(path: Path) -> dict[str, str]:
    """The hash of every file below a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): _file_hash(file) for file in files}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_hash(record: dict[str, Any]) -> str:
    """Of everything in a record but this hash, as it is once it was written and read."""
    content = {key: value for key, value in record.items() if key != "record_sha256"}
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(leaves: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
