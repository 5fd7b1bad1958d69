"""What a user installs: the wheel's content, and a command that answers at once."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"jax", "flax", "optax", "e3nn_jax", "orbax", "ase", "scipy", "sympy", "plotly", "pandas"}


def python(*arguments: str, cwd: Path, **more: str) -> str:
    """What an interpreter without the tests' settings prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked(*folders: str) -> set[str]:
    """The files that git knows or would take, below the folders."""
    arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    done = subprocess.run(
        ["git", *arguments, "--", *folders], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("this is no git checkout, so that what belongs to it is unknown")
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def content(wheel) -> dict[str, int]:
    """Size in bytes of every file of the wheel that is no metadata."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    return {name: size for name, size in sizes.items() if ".dist-info/" not in name}


def test_the_wheel_holds_the_code_the_models_and_the_data(content):
    shared = {f"geojax/_share/{name}" for name in tracked("models", "data")}
    assert set(content) == tracked("geojax") | shared


def test_models_and_data_are_small(content):
    for folder, limit in {"models": 10 * 2**20, "data": 5 * 2**20}.items():
        start = f"geojax/_share/{folder}/"
        assert 0 < sum(size for name, size in content.items() if name.startswith(start)) <= limit


def test_an_installed_wheel_finds_its_data(wheel, tmp_path):
    """Unpacked beside nothing else, as pip would; the checkout is out of sight."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    lines = "import geojax.assets as a; print(a.folder('data')); print(a.folder('models'))"
    found = python("-c", lines, cwd=tmp_path).split()
    assert found == [str(tmp_path / "geojax" / "_share" / name) for name in ("data", "models")]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_is_quick(arguments):
    """Nothing heavy is imported; `-X importtime` writes a line per module to stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "geojax", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "geojax.cli" in modules
    assert {name.split(".")[0] for name in modules} & HEAVY == set()


def test_nothing_that_belongs_to_the_package_is_ignored():
    """The usual templates of .gitignore leave out data/ and models/ and so empty the wheel."""
    names = ["models/x/weights.safetensors", "models/x/model.toml", "data/x/train.xyz"]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode == 128:
        pytest.skip("this is no git checkout")
    assert done.stdout == ""
