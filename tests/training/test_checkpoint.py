"""What is written comes back bit by bit, or an error says why not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from geojax.training.checkpoint import Checkpoints, Damaged

STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [np.int32(4), np.float64(0.1)]}


def test_round_trip(tmp_path: Path):
    saves = Checkpoints(tmp_path)
    saves.save("last", 7, STATE, {"x": 0.1})
    state, note = saves.restore("last", STATE)
    np.testing.assert_array_equal(state["a"], STATE["a"])
    assert state["b"] == STATE["b"] and note == {"x": 0.1}


def test_only_the_newest_are_kept(tmp_path: Path):
    saves = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        saves.save("last", step, STATE, {})
        saves.save("best", step, STATE, {})
    assert saves.steps("last") == [2, 10]
    assert saves.steps("best") == [10]


def flip_a_bit(folder: Path) -> None:
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)


def test_a_flipped_bit_is_seen_and_passed_over(tmp_path: Path):
    saves = Checkpoints(tmp_path)
    big = {"a": np.random.default_rng(0).normal(size=(64, 64))}
    saves.save("last", 1, big, {})
    saves.save("last", 2, big, {})
    flip_a_bit(tmp_path / "last" / "2" / "state")
    with pytest.raises(Damaged):
        saves.restore("last", big)
    _, _, troubles = saves.newest_good(big)
    assert len(troubles) == 1


@pytest.mark.parametrize("victim", ["state", "record.json"])
def test_missing_parts(tmp_path: Path, victim: str):
    saves = Checkpoints(tmp_path)
    saves.save("last", 1, STATE, {})
    path = tmp_path / "last" / "1" / victim
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises((Damaged, FileNotFoundError)):
        saves.restore("last", STATE)


def test_another_state_is_refused(tmp_path: Path):
    saves = Checkpoints(tmp_path)
    saves.save("last", 1, STATE, {})
    with pytest.raises(ValueError, match="another state"):
        saves.restore("last", {"a": np.zeros((3, 3))})


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Checkpoints(tmp_path).restore("last", STATE)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Checkpoints(tmp_path).newest_good(STATE)


def test_a_full_disk_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saves = Checkpoints(tmp_path)
    saves.save("last", 1, STATE, {})
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="free disk"):
        saves.save("last", 2, STATE, {})
    assert saves.steps("last") == [1]


def test_leftovers_are_cleaned_up(tmp_path: Path):
    leftover = tmp_path / "last" / "5.orbax-checkpoint-tmp-1"
    leftover.mkdir(parents=True)
    Checkpoints(tmp_path)
    assert not leftover.exists()
