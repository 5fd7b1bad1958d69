"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing", "write_whole"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to; its file takes that of `path` where the block ends without an error."""
    scratch = path.with_name(path.name + ".part")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Put each content in the place of what is there; nothing is touched until all are on disk.

    A process that is killed meanwhile leaves each file as it was or as it was to be, and at most
    files that end in ".part" besides.

    Raises:
        OSError: the disk is full, or the place cannot be written to; names the file.
    """
    scratch = {path: path.with_name(path.name + ".part") for path in contents}
    path = None
    try:
        for path, content in contents.items():
            with scratch[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            scratch[path].replace(path)
    except OSError as error:
        for part in scratch.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror}); what was there before is untouched; "
            "make room, or choose another place",
        ) from error
