"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing", "write_whole"]


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Places to write to; their files take those of `paths` where the block ends without an error.

    No file is replaced until all are on disk. A process that is killed meanwhile leaves each file
    as it was or as it was to be, and at most files that end in ".part" besides.

    Raises:
        OSError: the disk is full, or a place cannot be written to; names the files.
    """
    parts = tuple(path.with_name(path.name + ".part") for path in paths)
    try:
        yield parts
        for part in parts:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        for path, part in zip(paths, parts, strict=True):
            part.replace(path)
    except OSError as error:
        if error.filename not in (None, *map(str, parts)):
            raise  # of what is read in the block
        raise OSError(
            error.errno,
            f"{', '.join(map(str, paths))} cannot be written ({error.strerror or error}); what was "
            "there before is untouched; make room, or choose another place",
        ) from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Put each content in the place of what is there, see `replacing`.

    Raises:
        OSError: as `replacing`.
    """
    with replacing(*contents) as parts:
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
