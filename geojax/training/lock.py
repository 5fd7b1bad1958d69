"""One run at a time in a folder, by a lock that the system takes back when the process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["only_run"]


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """While entered, no other process (nor another call in this one) enters for the same folder.

    The file `lock` stays behind; what counts is that it is held. Where the system or the file
    system has no such locks (Windows, some network drives) nothing is checked.

    Raises:
        ValueError: another run holds the folder.
    """
    with (folder / "lock").open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"a run folder holds one run at a time; another process is writing to {folder}; "
                "wait for its end, or choose another folder"
            ) from error
        except (ImportError, OSError):
            pass
        yield
