"""Which files a path, a pattern or several of either name, and what a wildcard stands for."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["ANY", "File", "Source", "called", "files_of", "is_pattern"]

ANY = "*"  # the key that means what the first wildcard stands for
WILDCARD = re.compile(r"(\*\*|\*|\?|\[[^]]*\])")

Source = str | Path | Sequence[str | Path]


class File(NamedTuple):
    """A file, and what the first wildcard of the pattern that found it stands for there."""

    path: Path
    wildcard: str = ""


def is_pattern(text: str | Path) -> bool:
    """Whether it has a wildcard."""
    return WILDCARD.search(str(text)) is not None


def files_of(source: Source) -> list[File]:
    """All files that are meant, those of a pattern in alphabetical order.

    In a pattern `*` stands for any part of a name, `?` for a character, `[ab]` for one of some, and
    `**` for any folders. A file of exactly that name goes before what the pattern would find.

    Raises:
        FileNotFoundError: there is no such file, or a pattern finds none.
        ValueError: no path at all; a file is named twice.
    """
    paths = [source] if isinstance(source, str | Path) else list(source)
    if not paths:
        raise ValueError("structures are read from one file or more; got an empty list")
    found = [file for path in paths for file in _found(Path(path).expanduser())]
    seen = set[Path]()
    for file in found:
        if file.path in seen:
            raise ValueError(f"a file is read once; {file.path} is named twice; leave one out")
        seen.add(file.path)
    return found


def called(source: Source) -> str:
    """The title of what is read."""
    paths = [source] if isinstance(source, str | Path) else list(source)
    first = Path(paths[0])
    name = str(first) if is_pattern(first) else first.name
    return name if len(paths) == 1 else f"{name} and {len(paths) - 1} more"


def _found(path: Path) -> list[File]:
    if path.is_file():
        return [File(path)]
    if not is_pattern(path):
        if path.is_dir():
            raise FileNotFoundError(
                f"structures are read from files; {path} is a folder; name its files, such as "
                f"'{path}/*.xyz'"
            )
        raise FileNotFoundError(
            f"structures are read from a file; there is none at {path}; check the path"
        )
    names = sorted(glob.glob(str(path), recursive=True))
    found = [File(Path(name), _stands_for(path, Path(name))) for name in names]
    found = [file for file in found if file.path.is_file()]
    if not found:
        raise FileNotFoundError(f"structures are read from files; none matches {path}")
    return found


def _stands_for(pattern: Path, path: Path) -> str:
    """What the first wildcard is in a path; nothing where it is `**`."""
    place, part = next((i, p) for i, p in enumerate(pattern.parts) if is_pattern(p))
    pieces = WILDCARD.split(part)
    if pieces[1] == "**":
        return ""
    group = {"*": "(.*?)", "?": "(.)"}
    text = [group.get(p, "(.)") if i % 2 else re.escape(p) for i, p in enumerate(pieces)]
    match = re.fullmatch("".join(text), path.parts[place])
    return match[1] if match else ""
