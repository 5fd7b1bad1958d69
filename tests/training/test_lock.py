"""A run folder is held by one run, as long as that run lives and no longer."""

import subprocess
import sys
from pathlib import Path

import pytest

from geojax.training.lock import only_run

HOLD = """
import sys
from pathlib import Path
from geojax.training.lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
REFUSED = "a run folder holds one run at a time; another process is writing to .*choose another"


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path):
    with only_run(tmp_path), pytest.raises(ValueError, match=REFUSED), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass


def test_other_folders_are_free(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with only_run(tmp_path / "a"), only_run(tmp_path / "b"):
        pass


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=REFUSED), only_run(tmp_path):
            pass
        other.kill()
        other.wait()
    with only_run(tmp_path):
        pass


def test_systems_without_locks_run_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with only_run(tmp_path), only_run(tmp_path):
        pass


def test_what_fails_inside_is_not_hidden(tmp_path: Path):
    with pytest.raises(OSError, match="disk"), only_run(tmp_path):
        raise OSError("disk")
    with pytest.raises(BlockingIOError), only_run(tmp_path):
        raise BlockingIOError
