"""Several processes train the model that one trains, stop together, and survive a lost one.

Each test starts processes of its own: jax joins others once and before anything else.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from geojax.training.plan import Program
from geojax.training.processes import agreed, agreement, is_first, join, refuse_difference
from tests.training.conftest import Problem

# a process that joins, trains the springs and writes what it found
WORKER = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import jax
from geojax.training.processes import join
where, folder, told = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
if where != "alone":
    join(where)
stop_at = told.pop("stop_at", None)
if told["dtype"] == "float64":
    jax.config.update("jax_enable_x64", True)
import numpy as np
from rich.console import Console
from geojax.training.loop import fit
from geojax.training.plan import Compilations
from tests.training.conftest import Problem
p = Problem(17)
with Compilations() as seen:
    run = p.prepare(devices=None, batch_size=8, **told)
    epoch = run.plan.programs["epoch"]
    def counting(state, store, count, chunk, start, stop):
        if stop_at is not None and jax.process_index() == 1 and stop >= stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return epoch.run(state, store, count, chunk, start, stop)
    run.plan.programs["epoch"] = replace(epoch, run=counting)
    options = p.options(devices=None, batch_size=8, **told)
    found = fit(run, options, folder, Console(quiet=True), seen)
weights = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found.params)])
np.savez(
    folder.parent / f"{folder.name}-{jax.process_index()}.npz",
    losses=[line["valid.loss"] for line in found.history],
    weights=weights,
    devices=jax.device_count(),
    compilations=found.compilations,
)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(where: str, folder: Path, told: dict, devices: int = 1) -> subprocess.Popen:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "GEOJAX_TYPECHECK": "0"}
    command = [sys.executable, "-c", WORKER, where, str(folder), json.dumps(told)]
    return subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def train(folder: Path, processes: int, devices: int = 1, code: int = 0, **told) -> list[dict]:
    """What each process found; all of them end with `code`."""
    told = {"dtype": "float64", "epochs": 3} | told
    address = f"127.0.0.1:{free_port()},{processes}"
    wheres = ["alone"] if processes == 1 else [f"{address},{i}" for i in range(processes)]
    workers = [start(where, folder, told, devices) for where in wheres]
    try:
        said = [worker.communicate(timeout=170)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [code] * processes, said
    if code:
        return []
    files = [folder.parent / f"{folder.name}-{i}.npz" for i in range(processes)]
    return [dict(np.load(file)) for file in files]


def assert_same(left: dict, right: dict, tolerance: float):
    for name in ("losses", "weights"):
        scale = np.abs(right[name]).max()  # of losses and weights over the whole run
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=tolerance * scale)


@pytest.mark.slow
def test_two_processes_take_the_path_of_one(tmp_path: Path, x64: None):
    first, second = train(tmp_path / "both", 2)
    assert first["devices"] == 2 and first["compilations"] == 4
    assert_same(first, second, 0.0)
    found = Problem(17).fit(tmp_path / "one", batch_size=8, dtype="float64")
    weights = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found.params)])
    losses = [line["valid.loss"] for line in found.history]
    assert_same(first, {"losses": losses, "weights": weights}, 1e-12)
    assert (tmp_path / "both" / "checkpoints" / "last" / "9").is_dir()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_they_resume(tmp_path: Path):
    whole = train(tmp_path / "whole", 2)[0]
    train(tmp_path / "parts", 2, code=128 + signal.SIGTERM, stop_at=5)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert 0 < len(lines) < 3
    first, second = train(tmp_path / "parts", 2)
    assert_same(first, second, 0.0)
    assert_same(first, whole, 0.0)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1.0, 2.0, 3.0]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_one_by_eight_two_by_four_and_one_by_one_agree(
    dtype: str, tolerance: float, tmp_path: Path
):
    alone = train(tmp_path / "1x1", 1, 1, dtype=dtype)[0]
    many = train(tmp_path / "1x8", 1, 8, dtype=dtype)[0]
    both = train(tmp_path / "2x4", 2, 4, dtype=dtype)[0]
    assert many["devices"] == both["devices"] == 8
    assert_same(many, alone, tolerance)
    assert_same(both, alone, tolerance)
    assert_same(both, many, tolerance)


STUDY = """
[data]
train = "springs.xyz"
valid = 4
[network]
name = "egnn"
cutoff = 6.0
channels = 4
layers = 1
[train]
epochs = 60
batch_size = 4
checkpoint_seconds = 0.2
call_seconds = 0.02
"""


def command(folder: Path, run: str) -> list[str]:
    words = ["train", str(folder / "study.toml"), "--folder", str(folder / run)]
    return [sys.executable, "-m", "geojax", *words, "--processes", "2"]


def children(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended meanwhile
            continue
        found += [int(process.name)] if int(parent) == pid else []
    return sorted(found)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_same_command_goes_on(tmp_path: Path):
    from geojax.datasets import formats
    from tests.training.conftest import springs

    formats.write(tmp_path / "springs.xyz", springs(24))
    (tmp_path / "study.toml").write_text(STUDY)
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    broken = subprocess.Popen(command(tmp_path, "broken"), **options)
    metrics, end = tmp_path / "broken" / "metrics.jsonl", time.monotonic() + 150
    while time.monotonic() < end and broken.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) > 10:
            break
        time.sleep(0.02)
    assert broken.poll() is None, broken.communicate()[1]
    first, second = children(broken.pid)
    os.kill(second, signal.SIGKILL)
    said = broken.communicate(timeout=60)[1]
    assert broken.returncode == 128 + signal.SIGKILL, said
    assert f"process 1 of 2 (pid {second}) was lost with signal 9 (SIGKILL)" in said
    assert "the same command resumes" in said
    assert not (tmp_path / "broken" / "results.json").exists()
    found = {}
    for run in ("broken", "whole"):
        done = subprocess.run(command(tmp_path, run), timeout=170, check=False, **options)
        assert done.returncode == 0, done.stderr
        assert ("resumed at step" in done.stderr) == (run == "broken")
        files = sorted((tmp_path / run / "model").iterdir())
        found[run] = {f.name: f.read_bytes() for f in files if f.suffix not in (".toml", ".md")}
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        found[run]["metrics"] = [  # sums over the training data are rounded once per call
            {name: value for name, value in json.loads(line).items() if "valid" in name}
            for line in lines
        ]
    assert found["broken"].keys() == found["whole"].keys()
    assert len(found["whole"]["metrics"]) == 60
    assert found["broken"] == found["whole"]


def test_a_single_process_agrees_with_itself():
    assert is_first()
    assert agreement(None) is None
    assert agreed(None, 1.0, 2.0) == [1.0, 2.0]
    refuse_difference(None, 3.0, "settings")


def test_processes_that_differ_stop():
    with_another = lambda mine: [max(mine[0], 5.0), max(mine[1], -5.0)]
    other = Program(with_another, 0.0, 0, 0, 0.0)
    with pytest.raises(ValueError, match="same checkpoint; they have 3 to 5, and this one 3"):
        refuse_difference(other, 3.0, "checkpoint")


@pytest.mark.parametrize("where", ["nowhere", "host:1,2", "host:1,2,2", "host,2,0", "host:1,a,0"])
def test_a_place_that_cannot_be_joined_is_refused(where: str):
    with pytest.raises(ValueError, match="joins 'cluster', or 'host:port,processes,index'"):
        join(where)
