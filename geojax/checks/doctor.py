"""Whether this installation can be trusted: versions, devices, and one sum that a jax got wrong.

jax 0.10.2 compiles a matrix-vector product that is mapped over rows and then reduced into a wrong
program on CPU (jax-ml/jax#39103): turned vectors and their squared lengths, from 32 769 rows of
float32 on, to about 45 000 on two cores. The canary runs that program and compares it with numpy; a
version that is known to be bad is refused by its number, an unknown one by its result.
"""

import importlib.util
import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geojax.assets import compile_cache
from geojax.native import compiler

__all__ = ["canary", "check_jax", "machine", "report"]

KNOWN_BAD = {
    "0.10.2": "it returns wrong numbers on CPU",
    "0.11.0": "flax does not work with it",
    "0.11.1": "flax does not work with it",
}
ROWS = (33_000, 40_000)  # jax 0.10.2 is off by 26 % and by 95 %
TOLERANCE = 1e-5  # relative, float32; a sound jax is at 1e-7

REQUIRED = ("jax", "jaxlib", "flax", "optax", "e3nn-jax", "jraph", "orbax-checkpoint", "numpy")
OPTIONAL = {"ase": "atoms", "vesin": "atoms", "h5py": "data", "plotly": "viz"}  # name: extra


def canary() -> float:
    """The largest relative error of squared lengths of mapped vectors; 1e-7 where jax is sound."""
    return max(map(_error, ROWS))


@cache
def check_jax() -> None:
    """Refuse a jax that computes wrong numbers; costs a fraction of a second, once per process.

    Raises:
        RuntimeError: the version is known to be bad, or the canary's error is above 1e-5.
    """
    advice = "install another one: pip install 'jax>=0.9,!=0.10.2,!=0.11.0,!=0.11.1'"
    if jax.__version__ in KNOWN_BAD:
        raise RuntimeError(
            f"geojax refuses jax {jax.__version__}: {KNOWN_BAD[jax.__version__]}; {advice}"
        )
    error = canary()
    if not error < TOLERANCE:
        raise RuntimeError(
            f"jax must compute squared lengths to {TOLERANCE:g}; jax {jax.__version__} on "
            f"{jax.default_backend()} is off by {error:.1%}; {advice}"
        )


def report(console: Console | None = None) -> bool:
    """Print versions, devices, optional packages, the canary and the cache; whether all is well."""
    try:
        check_jax()
        verdict = "sound"
    except RuntimeError as error:
        verdict = str(error)
    rows = {
        "geojax": _version("geojax"),
        "python": sys.version.split()[0],
        **{name: _version(name) for name in REQUIRED},
        **{name: _optional(name, extra) for name, extra in OPTIONAL.items()},
        "devices": ", ".join(f"{device.platform}:{device.id}" for device in jax.devices()),
        "compile cache": str(compile_cache() or "none"),
        "native kernels": compiler() or "none: no C++ compiler, or GEOJAX_NATIVE=off",
        "canary": f"relative error {canary():.1e}, at most {TOLERANCE:g}",
        "verdict": verdict,
    }
    table = Table("what", "found", title="geojax doctor")
    for what, found in rows.items():
        table.add_row(what, escape(found))
    (console or Console()).print(table)
    return verdict == "sound"


def machine() -> str:
    """What a number was measured on, in one line."""
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} {platform.machine()} cores"
    return f"{device}, Python {platform.python_version()}, jax {jax.__version__}"


def _optional(name: str, extra: str) -> str:
    if importlib.util.find_spec(name) is None:
        return f"not installed: pip install 'geojax[{extra}]'"
    return _version(name)


def _error(rows: int) -> float:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3, 3)).astype(np.float32)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    squares = jax.jit(lambda m, x: jax.vmap(lambda row: jnp.sum((m @ row) ** 2))(x))
    # "highest": TPUs and recent GPUs multiply float32 in fewer bits by default, by design
    with jax.default_matmul_precision("highest"):
        got = np.asarray(squares(matrix, x), np.float64)
    want = ((x.astype(np.float64) @ matrix.astype(np.float64).T) ** 2).sum(-1)
    return float(np.abs(got - want).max() / want.max())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
