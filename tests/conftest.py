"""One setting for every test: CPU, one thread per process, nothing implicit, nothing ignored.

Warnings are errors (`filterwarnings` in pyproject.toml), implicit rank promotion raises, the first
NaN that a compiled function returns raises, and every signature is checked at run time by beartype
(GEOJAX_TYPECHECK=0 switches that off). A test that needs NaNs says `with jax.debug_nans(False):`.

The environment is set before jax is imported and is inherited by the processes that tests start.
Compiled programs are kept in .cache/jax between runs and shared by the workers.
"""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("GEOJAX_CACHE", str(ROOT / ".cache" / "geojax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Compiling is half of the work; `make test-all` does it as users do, with XLA_FLAGS empty.
FAST = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if version("jax").startswith("0.10."):  # a third of the time; a flag that jax 0.11 does not know
    FAST.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FAST))
os.environ.setdefault("GEOJAX_DATA", str(ROOT.parent / "shared" / "data"))
for threads in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # the workers are the parallelism; NPROC is XLA's pool
gc.set_threshold(100_000, 20, 20)  # traces are many small objects: a tenth of the time otherwise

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_nans", True)

if os.environ.get("GEOJAX_TYPECHECK", "1") != "0":
    install_import_hook("geojax", "beartype.beartype")


MAPS = Path("/proc/self/maps")
CHECKED, MANY = 20, 20_000  # tests; maps, of which Linux allows a process 65,530
FINISHED = count(1)


def pytest_runtest_logfinish() -> None:
    """Let compiled programs go before a process has too many: each takes about ten maps."""
    if next(FINISHED) % CHECKED == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the length of the test; without it jax keeps every array in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def dataset_folder() -> Path:
    """The folder $GEOJAX_DATA, which holds the public data sets that are not bundled."""
    folder = Path(os.environ["GEOJAX_DATA"])
    if not folder.is_dir():
        pytest.skip(f"the public data sets are not here: $GEOJAX_DATA is {folder}")
    return folder
