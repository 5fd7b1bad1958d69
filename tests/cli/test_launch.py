"""Processes are watched: one that is lost ends all, signals reach all, the first one speaks."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from geojax.cli.launch import launch

WORKER = """
import os, signal, sys, time
from pathlib import Path
folder, (address, count, index) = Path(sys.argv[1]), sys.argv[-1].split(",")
(folder / index).write_text(str(os.getpid()))
"""


def command(tmp_path: Path, then: str) -> list[str]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER + textwrap.dedent(then))
    return [sys.executable, str(script), str(tmp_path)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(tmp_path: Path, count: int) -> list[int]:
    return [int((tmp_path / str(i)).read_text()) for i in range(count)]


def test_all_are_told_where_to_meet_and_the_first_one_speaks(tmp_path: Path, capfd):
    code = launch(command(tmp_path, "print(count, index, address.split(':')[0])"), 3)
    assert code == 0
    assert capfd.readouterr().out == "3 0 127.0.0.1\n"
    assert len(set(pids(tmp_path, 3))) == 3


def test_watching_the_launcher_does_not_disturb_the_end(tmp_path: Path):
    then = "from geojax.cli.launch import end_with_launcher; end_with_launcher()"
    assert launch(command(tmp_path, then), 2) == 0


def test_a_killed_process_ends_the_others_and_is_named(tmp_path: Path, capfd):
    then = """
    if index == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    """
    begin = time.monotonic()
    assert launch(command(tmp_path, then), 2) == 128 + signal.SIGKILL
    assert time.monotonic() - begin < 15
    first, second = pids(tmp_path, 2)
    assert not is_alive(first)
    words = capfd.readouterr().err
    assert f"process 1 of 2 (pid {second}) was lost with signal 9 (SIGKILL)" in words
    assert "the same command resumes" in words


def test_what_a_failed_process_said_is_shown_and_its_code_comes_back(tmp_path: Path, capfd):
    then = """
    if index == "1":
        print("no room on the disk")
        sys.exit(7)
    time.sleep(60)
    """
    assert launch(command(tmp_path, then), 2) == 7
    words = capfd.readouterr().err
    assert "process 1 said last:\nno room on the disk" in words
    assert "was lost with exit code 7" in words


def test_bad_input_is_not_called_a_loss(tmp_path: Path, capfd):
    then = "print('error: no such file', file=sys.stderr); sys.exit(2)"
    assert launch(command(tmp_path, then), 2) == 2
    words = capfd.readouterr().err
    assert "no such file" in words and "resumes" not in words


def test_a_signal_reaches_all_of_them(tmp_path: Path):
    then = """
    def stop(number, frame):
        (folder / f"stopped-{index}").touch()
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    (folder / f"ready-{index}").touch()
    time.sleep(60)
    """
    words = command(tmp_path, then)
    code = f"import sys; from geojax.cli.launch import launch; sys.exit(launch({words!r}, 2))"
    launcher = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.05)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(20) == 128 + signal.SIGTERM
    finally:
        launcher.kill()
    assert len(list(tmp_path.glob("stopped-*"))) == 2


def test_processes_end_with_a_launcher_that_was_killed(tmp_path: Path):
    then = """
    from geojax.cli.launch import end_with_launcher
    end_with_launcher()
    (folder / f"ready-{index}").touch()
    time.sleep(60)
    """
    words = command(tmp_path, then)
    code = f"import sys; from geojax.cli.launch import launch; sys.exit(launch({words!r}, 2))"
    launcher = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while time.monotonic() < end and len(list(tmp_path.glob("ready-*"))) < 2:
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    while time.monotonic() < end and any(map(is_alive, pids(tmp_path, 2))):
        time.sleep(0.05)
    assert not any(map(is_alive, pids(tmp_path, 2)))


def test_no_processes_are_refused():
    with pytest.raises(ValueError, match="counted from 1 on; got 0"):
        launch(["true"], 0)
