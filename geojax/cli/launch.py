"""Several processes of one command: started, watched, and ended together.

A process that waits for a lost one in the middle of a sum waits in compiled code, where no Python
runs. So each is watched from outside: when one is lost the others are killed, and what they had
saved is where the same command goes on.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from geojax.signals import Signals

__all__ = ["end_with_launcher", "launch"]

LAUNCHED = "GEOJAX_LAUNCHED"  # a process that was started here reads its input until that ends
GRACE = 3.0  # [s] for the others to say by themselves why they end
BAD_INPUT = 2  # the exit code of input that was refused: it would be refused again
TAIL = 15  # lines of what a lost process said


def launch(command: Sequence[str], processes: int) -> int:
    """Run `command --join 127.0.0.1:PORT,processes,index` so many times; the exit code.

    The first process speaks for all; of another one that fails the last lines are shown. SIGTERM
    and SIGINT are passed on to all of them.

    Returns:
        0 if all ended well; otherwise the exit code of the first that did not, 128 + the number of
        the signal that killed it.

    Raises:
        ValueError: not a positive number of processes.
    """
    if processes < 1:
        raise ValueError(f"processes are counted from 1 on; got {processes}")
    where = f"127.0.0.1:{_free_port()},{processes}"
    ended: queue.Queue[int] = queue.Queue()
    with Signals() as signals, tempfile.TemporaryDirectory() as scratch:
        said = [open(f"{scratch}/{i}", "w+") for i in range(1, processes)]  # noqa: SIM115
        workers = [
            _start([*command, "--join", f"{where},{i}"], said[i - 1] if i else None, i, ended)
            for i in range(processes)
        ]
        try:
            return _watch(workers, said, ended, signals)
        finally:
            _kill(workers)
            for file in said:
                file.close()


def end_with_launcher() -> None:
    """In a process that `launch` started: end when the launcher has gone, however it went."""
    if not os.environ.pop(LAUNCHED, None):
        return

    def wait() -> None:
        while os.read(0, 1):  # not by sys.stdin, whose lock python needs when it ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(
    command: Sequence[str], said: IO[str] | None, index: int, ended: queue.Queue[int]
) -> subprocess.Popen:
    """A process in a session of its own, so that Ctrl-C reaches it through the launcher alone.

    Process i takes GPU i where there are GPUs; on a CPU jax does not look at the variable.
    """
    worker = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=said,
        start_new_session=True,
        env={"JAX_LOCAL_DEVICE_IDS": str(index), **os.environ, LAUNCHED: "1"},
    )

    def wait() -> None:
        worker.wait()
        ended.put(index)

    threading.Thread(target=wait, daemon=True).start()
    return worker


def _watch(
    workers: list[subprocess.Popen],
    said: Sequence[IO[str]],
    ended: queue.Queue[int],
    signals: Signals,
) -> int:
    """Until all have ended, or one has not ended well."""
    left, passed_on, code = len(workers), False, 0
    while left:
        if signals.received and not passed_on:
            passed_on = True
            for worker in workers:
                worker.send_signal(signals.received)
        try:
            index = ended.get(timeout=0.1)
        except queue.Empty:
            continue
        left -= 1
        found = workers[index].returncode
        if found and signals.received:
            code = code or _exit_code(found)
        elif found:
            _await_others(workers)
            _tell(index, found, workers, said)
            return _exit_code(found)
    return code


def _await_others(workers: list[subprocess.Popen]) -> None:
    end = time.monotonic() + GRACE
    while time.monotonic() < end and any(w.poll() is None for w in workers):
        time.sleep(0.05)


def _tell(index: int, code: int, workers: list[subprocess.Popen], said: Sequence[IO[str]]) -> None:
    if index and (lines := _last_lines(said[index - 1])):
        print(f"process {index} said last:\n{lines}", file=sys.stderr)
    if code == BAD_INPUT:
        return
    name = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    others = "" if len(workers) == 1 else "; the others are ended"
    print(
        f"process {index} of {len(workers)} (pid {workers[index].pid}) was lost with {name}"
        f"{others}; the same command resumes from the last checkpoint",
        file=sys.stderr,
    )


def _last_lines(file: IO[str]) -> str:
    file.seek(0)
    return "".join(file.readlines()[-TAIL:]).rstrip()


def _exit_code(code: int) -> int:
    return code if code > 0 else 128 - code


def _kill(workers: list[subprocess.Popen]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait()
        assert worker.stdin is not None
        worker.stdin.close()
