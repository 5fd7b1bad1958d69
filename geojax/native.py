"""Machine code for this CPU: C++ that is compiled on first use, kept, and called by XLA programs.

Nothing needs it: what has machine code has an XLA form too, which is taken where there is no
compiler, on other devices, and in programs that leave the process (`jax.export`). The compiler is
`$CXX` or the first of c++, g++ and clang++; `GEOJAX_NATIVE=off` does without. Libraries are kept
beside compiled programs (`assets.cache_folder`), by a hash of all that goes into them.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from geojax.assets import cache_folder

__all__ = ["compiler", "register"]

FLAGS = ("-std=c++17", "-O2", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
SECONDS = 300


@cache
def compiler() -> str | None:
    """The C++ compiler with its version, None where there is none or it is switched off."""
    if os.environ.get("GEOJAX_NATIVE") == "off" or os.name != "posix":
        return None
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if path := shutil.which(name):
            found = subprocess.run([path, "--version"], capture_output=True, text=True)
            if found.returncode == 0:
                return f"{path} ({found.stdout.splitlines()[0]})"
    return None


@cache
def register(source: str, handlers: tuple[str, ...]) -> dict[str, str]:
    """Compile a library and register its XLA handlers; the call target of each.

    The names of the targets carry the hash of the source, so that a compiled program that jax keeps
    can only ever find the code that it was made with.

    Args:
        source: C++ that includes "xla/ffi/api/c_api.h".
        handlers: names of functions `extern "C" XLA_FFI_Error* name(XLA_FFI_CallFrame*)`.

    Returns:
        Empty where nothing could be compiled.
    """
    import jax

    command = compiler()
    if command is None:
        return {}
    include = jax.ffi.include_dir()
    api = (Path(include) / "xla/ffi/api/c_api.h").read_bytes()
    parts = [command.encode(), " ".join(FLAGS).encode(), api, source.encode()]
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    library = cache_folder("native") / f"{name}.so"
    if not library.exists() and not _compile(command.split(" (")[0], include, source, library):
        return {}
    loaded = ctypes.CDLL(str(library))
    targets = {}
    for handler in handlers:
        targets[handler] = f"geojax_{name}_{handler}"
        function = jax.ffi.pycapsule(getattr(loaded, handler))
        jax.ffi.register_ffi_target(targets[handler], function, platform="cpu")
    return targets


def _compile(path: str, include: str, source: str, library: Path) -> bool:
    """Write the library, at once and whole; other processes may be doing the same."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, made = Path(folder) / "code.cc", Path(folder) / "code.so"
        code.write_text(source)
        command = [path, *FLAGS, f"-I{include}", str(code), "-o", str(made)]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            failed = found.stderr if found.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
        if failed:
            lines = "\n".join(failed.splitlines()[:5])
            message = "%s could not compile a kernel, so XLA compiles it instead:\n%s"
            logging.getLogger(__name__).warning(message, path, lines)
            return False
        made.replace(library)
    return True
