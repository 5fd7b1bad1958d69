import os
import subprocess
import sys
from pathlib import Path

import pytest

from geojax import assets

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", assets.FOLDERS)
def test_a_checkout_is_found_beside_the_package(name):
    assert assets.folder(name) == ROOT / name


def test_the_folder_inside_the_package_comes_first(tmp_path, monkeypatch):
    for place in ("geojax/_share/data", "data", "models"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "geojax")
    assert assets.folder("data") == tmp_path / "geojax" / "_share" / "data"
    assert assets.folder("models") == tmp_path / "models"


def test_an_unknown_folder_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'models'"):
        assets.folder("model")


def test_an_incomplete_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "geojax")
    with pytest.raises(FileNotFoundError, match="install geojax again"):
        assets.folder("data")


def cached(tmp_path: Path, **environment: str) -> str:
    """Where a fresh process keeps its programs, and how many it kept."""
    code = """
import jax, pathlib
jax.jit(lambda x: x + 1)(1.0)  # jax has decided to keep nothing
from geojax import assets
assets.WORTH = 0.0
place = assets.compile_cache()
jax.jit(lambda x: x * x)(2.0)
print(place, len(list(pathlib.Path(place).glob("*"))) if place else 0)
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    given = clean | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "HOME": str(tmp_path)}
    for name in ("XDG_CACHE_HOME", "GEOJAX_CACHE"):
        given.pop(name, None)
    run = [sys.executable, "-c", code]
    return subprocess.check_output(run, env=given | environment, text=True).strip()


def test_programs_are_kept_in_the_users_cache_or_where_told_or_nowhere(tmp_path):
    place, kept = cached(tmp_path).split()
    assert Path(place).parent == tmp_path / ".cache" / "geojax" and int(kept) > 0
    place, kept = cached(tmp_path, GEOJAX_CACHE=str(tmp_path / "own")).split()
    assert Path(place).parent == tmp_path / "own" and int(kept) > 0
    assert cached(tmp_path, GEOJAX_CACHE="off").split() == ["None", "0"]
    told = str(tmp_path / "jax")
    place, kept = cached(tmp_path, JAX_COMPILATION_CACHE_DIR=told).split()
    assert place == told and int(kept) > 0
