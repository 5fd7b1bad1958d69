"""A run folder holds one run: its settings are written down and compared when it goes on."""

import json
from pathlib import Path
from typing import Any

from geojax.files import write_whole

__all__ = ["remember"]

FREE = ("checkpoint_seconds", "call_seconds")  # may change between two calls of one run


def remember(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a run, or compare with those of the run that is there.

    Args:
        settings: plain values, as JSON returns them.

    Raises:
        ValueError: the folder holds a run with other settings, or its settings are damaged or
            missing.
    """
    path = folder / "settings.json"
    if not path.exists():
        if any((folder / "checkpoints").glob("*/*")):
            raise ValueError(
                f"checkpoints go on with the settings that they began with; {path} is missing and "
                "there are checkpoints; put it back, or choose another folder"
            )
        write_whole({path: json.dumps(settings, indent=1).encode()})
        return
    strip = lambda s: s | {"options": {k: v for k, v in s["options"].items() if k not in FREE}}
    try:
        old = strip(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); put it back as it was, or "
            "choose another folder"
        ) from error
    new = strip(settings)
    changed = [key for key in new if not _same(new[key], old.get(key))]
    if changed:
        raise ValueError(
            f"a run folder holds one run; {folder} was started with other settings for "
            f"{', '.join(changed)}; choose another folder, or delete this one to start again"
        )


def _same(new: Any, old: Any) -> bool:
    """Equal, but for settings that one of the two does not know and the other leaves empty."""
    if isinstance(new, dict) and isinstance(old, dict):
        known = all(_same(new[key], old[key]) for key in new.keys() & old.keys())
        return known and not any(new.get(key) or old.get(key) for key in new.keys() ^ old.keys())
    return new == old
