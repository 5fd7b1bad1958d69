"""Where files are: `models/` and `data/`, which come with geojax, and what was compiled.

A wheel carries models and data inside the package, a checkout has them beside it. Compiled programs
are kept between processes in `$GEOJAX_CACHE` (by default `geojax` in the user's cache folder; "off"
keeps none), or where jax was told to keep them.
"""

import atexit
import hashlib
import os
import platform
import shutil
import tempfile
from functools import cache
from pathlib import Path

from geojax.registry import did_you_mean

__all__ = ["cache_folder", "compile_cache", "folder"]

PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("data", "models")
WORTH = 0.1  # s; programs that compile faster are not kept


def folder(name: str) -> Path:
    """The folder "data" or "models", of the installed package or of the checkout.

    Raises:
        ValueError: geojax comes with no folder of that name.
        FileNotFoundError: the installation is incomplete.
    """
    if name not in FOLDERS:
        raise ValueError(f"geojax comes with no folder {name!r}; {did_you_mean(name, FOLDERS)}")
    places = (PACKAGE / "_share" / name, PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"geojax keeps its {name} inside the package or beside it; there is neither {places[0]} "
        f"nor {places[1]}; install geojax again"
    )


@cache
def compile_cache() -> Path | None:
    """Let jax keep compiled programs between processes; the folder, or None where it is off.

    Programs hold machine code, so each kind of processor has a folder of its own. A folder that jax
    was already told (`JAX_COMPILATION_CACHE_DIR`) is left alone.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if told := getattr(jax.config, "jax_compilation_cache_dir", None):
        return Path(told)
    place = _kept("programs")
    if place is None:
        return None
    compilation_cache.reset_cache()  # jax decides once, at its first program
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH)
    return place


@cache
def cache_folder(kind: str) -> Path:
    """A folder for what this kind of processor made, kept between processes where that is wanted.

    Where nothing is kept (`GEOJAX_CACHE=off`, a home that cannot be written), it is gone when the
    process ends.
    """
    if place := _kept(kind):
        return place
    place = tempfile.mkdtemp(prefix=f"geojax-{kind}-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


def _kept(kind: str) -> Path | None:
    where = os.environ.get("GEOJAX_CACHE")
    if where == "off":
        return None
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = (Path(where) if where else user / "geojax") / f"{kind}-{_processor()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # nothing is lost, only made again
    return place if os.access(place, os.W_OK) else None


def _processor() -> str:
    """A name for this kind of processor: what it can do, where the system tells."""
    kind = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        flags = [s for s in facts.read_text().splitlines() if s.startswith(("flags", "Features"))]
        kind = "".join(flags[:1]) or kind
    return f"{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
