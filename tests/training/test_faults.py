"""A run goes on bit by bit from what it has saved, whatever happens to its folder or its process.

Bits flip, files are cut off or lost, disks fill up, processes are killed, and two write at once.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import Dataset
from geojax.model import Model
from geojax.networks import EGNN
from geojax.training import Options, loop, train
from geojax.training.checkpoint import Checkpoints, Damaged
from geojax.training.settings import remember
from tests.test_faults import contents, damages, no_room, same, some_or_many
from tests.training.conftest import springs

ROOT = Path(__file__).parents[2]

# Checkpoints


def state_of(step: int) -> dict[str, np.ndarray]:
    """The state of a step, whatever happened before."""
    rng = np.random.default_rng(step)
    return {"a": rng.normal(size=(30, 40)).astype(np.float32), "b": rng.normal(size=3)}


def note_of(step: int) -> dict[str, Any]:
    return {"at": {"step": step}, "history": {"lines": [{"loss": 1 / 3**step}], "best": 0.1}}


def saved(folder: Path, *steps: int) -> Checkpoints:
    saves = Checkpoints(folder)
    for step in steps:
        saves.save("last", step, state_of(step), note_of(step))
    return saves


def assert_is(saves: Checkpoints, step: int, troubles: int = 0) -> None:
    state, note, said = saves.newest_good(state_of(0))
    assert note == note_of(step) and same(state, state_of(step)) and len(said) == troubles


@some_or_many(2, 200)
def test_a_checkpoint_is_right_or_passed_over(tmp_path, flips):
    saves = saved(tmp_path, 1, 2)
    seen = set()
    for number, (path, way) in enumerate(damages(tmp_path / "last" / "2", flips)):
        with pytest.raises(Damaged, match="checkpoint .*last/2.* is (damaged|not whole)"):
            saves.restore("last", state_of(0), 2)
        if number % 9 == 0:
            assert_is(saves, 1, troubles=1)
        seen.add(path.name)
        assert way
    assert {"record.json", "_METADATA", "manifest.ocdbt"} <= seen
    assert_is(saves, 2)


def test_a_checkpoint_of_another_step_is_refused(tmp_path):
    saves = saved(tmp_path, 1)
    (tmp_path / "last" / "1").rename(tmp_path / "last" / "7")
    with pytest.raises(Damaged, match="last/7 is of step 1: it was renamed; start again in a new"):
        saves.newest_good(state_of(0))


def test_records_of_the_first_kind_are_read(tmp_path):
    """Those without hashes of files; that of the arrays is compared."""
    saves = saved(tmp_path, 1)
    path = tmp_path / "last" / "1" / "record.json"
    record = json.loads(path.read_text())
    first = {key: record[key] for key in ("step", "sha256", "note")}
    path.write_text(json.dumps(first))
    assert_is(saves, 1)
    path.write_text(json.dumps(first | {"sha256": "0" * 64}))
    with pytest.raises(Damaged, match="its SHA-256 is not"):
        saves.restore("last", state_of(0))


class Killed(BaseException):
    """Ends a process, here only a call: nothing that the code does about errors is done."""


@contextmanager
def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises before the call of that number that changes what is on disk."""
    calls = iter(range(1000))

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments, **options):
            if next(calls) == number:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for home, name in ((Path, "rename"), (Path, "replace"), (os, "fsync"), (shutil, "rmtree")):
            patch.setattr(home, name, counted(getattr(home, name)))
        yield


@pytest.mark.parametrize("step", [3, 2], ids=["a new step", "the same step again"])
def test_an_end_at_every_point_of_saving_leaves_a_whole_checkpoint(tmp_path, monkeypatch, step):
    saved(tmp_path / "before", 1, 2)
    for number in range(100):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "before", folder)
        saves = Checkpoints(folder)
        with killed_at(number, monkeypatch):
            try:
                saves.save("last", step, state_of(step), note_of(step))
            except Killed:
                ended = True
            else:
                ended = False
        saves = Checkpoints(folder)
        names = {path.name for path in (folder / "last").iterdir()}
        assert names <= {"1", "2", "3"}  # nothing half done is left
        assert_is(saves, max(map(int, names)))
        assert max(map(int, names)) >= 2
        saved(folder, 4)
        assert_is(Checkpoints(folder), 4)
        if not ended:
            break
    assert 5 <= number < 99


KILLED = """
import os, sys
import orbax.checkpoint  # before the fork: only the saving is to be killed
from geojax.training.checkpoint import Checkpoints
from tests.training.test_faults import note_of, state_of
for line in sys.stdin:
    if not (child := os.fork()):
        from pathlib import Path
        saves = Checkpoints(Path(line.strip()))
        step = saves.steps("last")[-1] if saves.steps("last") else 0
        while True:
            step += 1
            for _ in range(2):  # the second replaces the first
                saves.save("last", step, state_of(step), note_of(step))
                os.write(1, f"{step}\\n".encode())
    os.write(1, f"child {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_checkpoint_that_was_announced(tmp_path):
    rng = np.random.default_rng(0)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", KILLED]
    announced = kills = 0
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **pipes) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        while kills < 100:
            print(tmp_path, file=parent.stdin, flush=True)
            child, lines = 0, []
            while (line := parent.stdout.readline().strip()) != "ended":
                assert line, "the parent has ended"
                if line.startswith("child"):
                    child = int(line.split()[1])
                    wait = rng.uniform(0, 0.4)
                    threading.Timer(wait, os.kill, (child, signal.SIGKILL)).start()
                else:
                    lines.append(int(line))
            kills += 1
            announced = max([announced, *lines])
            saves = Checkpoints(tmp_path)
            if not saves.steps("last"):
                assert not announced
                continue
            newest = saves.steps("last")[-1]
            assert announced <= newest <= announced + 1
            assert_is(saves, newest)
            assert {p.name for p in (tmp_path / "last").iterdir()} <= {
                str(step) for step in range(newest - 2, newest + 1)
            }
            announced = newest
        parent.stdin.close()
    assert announced > 10


# Settings


@some_or_many(2, 200)
def test_settings_are_those_of_the_run_or_refused(tmp_path, flips):
    settings = {"network": {"name": "egnn"}, "options": {"epochs": 3}, "E0s": {"H": -13.6}}
    remember(tmp_path, settings)
    (tmp_path / "checkpoints" / "last" / "1").mkdir(parents=True)
    for _, way in damages(tmp_path / "settings.json", flips):
        try:
            remember(tmp_path, settings)
        except ValueError as error:
            assert str(tmp_path) in str(error) and "choose another folder" in str(error), way
        else:
            assert json.loads((tmp_path / "settings.json").read_text()) == settings, way


# Full disks


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_leaves_the_older_one(tmp_path, monkeypatch):
    saves = saved(tmp_path, 1)
    before = contents(tmp_path)
    pattern = (
        "last/2 cannot be written .*No space left on device.*; older checkpoints are untouched"
    )
    with monkeypatch.context() as patch, pytest.raises(OSError, match=pattern):
        patch.setattr(os, "fsync", no_room)
        saves.save("last", 2, state_of(2), note_of(2))
    assert contents(tmp_path) == before


def test_a_state_that_does_not_fit_leaves_the_older_one(tmp_path):
    saves = saved(tmp_path, 1)
    large = {"a": np.random.default_rng(0).normal(size=10**5)}
    pattern = "last/2 cannot be written .*; older checkpoints are untouched; make room, and the sa"
    with pytest.raises(OSError, match=pattern), largest_file(3 * 10**5):
        saves.save("last", 2, large, {})
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["1"]
    assert_is(saves, 1)
    saved(tmp_path, 2)
    assert_is(Checkpoints(tmp_path), 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's own loops
def test_a_small_disk(tmp_path, monkeypatch):
    """A real one in memory, which is filled to the last byte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        saves = saved(disk, 1, 2)
        usage = shutil.disk_usage(disk)._replace(free=10**9)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        for left in (0, 1000, 4096, 9000, 20_000, 30_000):
            (disk / "ballast").write_bytes(b"")
            (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - left))
            with pytest.raises(OSError, match="cannot be written .*; older checkpoints are untou"):
                saves.save("last", 3, state_of(3), note_of(3))
            assert_is(Checkpoints(disk), 2)
        (disk / "ballast").unlink()
        saved(disk, 3)
        assert_is(Checkpoints(disk), 3)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Whole runs

RUN: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 2,
    "options": Options(devices=1, checkpoint_seconds=0.0, call_seconds=0.01),
}


def trained(folder: Path, **changes: Any) -> Model:
    data = Dataset("springs", tuple(springs(6)), tuple(springs(2, seed=1)))
    network = EGNN(cutoff=6.0, channels=4, layers=1)
    settings = RUN | {"console": Console(quiet=True), "E0s": {"H": 0.0, "O": 0.0}} | changes
    return train(network, data, folder=folder, **settings)


@pytest.mark.slow
def test_a_run_that_is_told_to_end_goes_on_where_it_was(tmp_path):
    long = {"epochs": 400, "options": Options(devices=1)}
    whole = trained(tmp_path / "whole", **long)
    code = (
        "from pathlib import Path; from tests.training.test_faults import Options, trained\n"
        f"trained(Path({str(tmp_path / 'parts')!r}), epochs=400, options=Options(devices=1))"
    )
    lines = tmp_path / "parts" / "metrics.jsonl"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as run:
        while not (lines.exists() and lines.read_text().count("\n") > 5):
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM
    assert lines.read_text().count("\n") < 400
    (newest,) = Checkpoints(tmp_path / "parts" / "checkpoints").steps("last")
    assert 5 * 3 < newest < 400 * 3
    assert same(trained(tmp_path / "parts", **long).params, whole.params)


@pytest.mark.slow
def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole")
    validate, refused = loop._validate, []

    def meddle(*arguments):
        if not refused:
            with pytest.raises(ValueError, match="one run at a time; another process is writing"):
                trained(tmp_path / "parts")
            refused.append(True)
        return validate(*arguments)

    monkeypatch.setattr(loop, "_validate", meddle)
    assert same(trained(tmp_path / "parts").params, whole.params)
    assert refused


@pytest.mark.slow
def test_a_run_whose_other_files_are_damaged_is_the_same_run(tmp_path):
    whole = trained(tmp_path)
    names = ("metrics.jsonl", "plan.json", "lock")
    lines = (tmp_path / "metrics.jsonl").read_text()
    for content in (None, b"", b"\xff{"):
        for name in names:
            (tmp_path / name).write_bytes(content or b"")
            if content is None:
                (tmp_path / name).unlink()
        assert same(trained(tmp_path).params, whole.params)
        assert (tmp_path / "metrics.jsonl").read_text() == lines
