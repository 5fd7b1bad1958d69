"""geojax/x/y.py is tested by tests/x/test_y.py, and every such test has its file.

lammps/geojax_lammps/y.py is tested by tests/geojax_lammps/test_y.py, and so may its C++ be.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Files whose tests are still to be written; a file leaves this list with its test, and none joins.
PENDING: set[str] = set()

# Tests that belong to a package as a whole: they run over its registry or over its public names.
OF_PACKAGES = {
    f"test_{n}.py" for n in ("bad_input", "cloud_contract", "contract", "faults", "init")
}


def mirror(root: Path) -> tuple[set[str], set[str]]:
    """Tests that are missing, and tests of nothing, as paths below tests/."""
    code, tests = root / "geojax", root / "tests"
    wanted = {
        path.relative_to(code).with_name(f"test_{path.name}")
        for path in code.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }
    native = root / "lammps"
    for path in (native / "geojax_lammps").glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            wanted.add(path.relative_to(native).with_name(f"test_{path.name}"))
    sources = (native / "geojax_lammps" / "src").glob("*.cpp")
    compiled = {Path("geojax_lammps", f"test_{path.stem}.py") for path in sources}
    found = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    found = {path for path in found if path.parts[0] != "repository"}
    of_packages = {
        path
        for path in found
        if path.name in OF_PACKAGES and (code / path.parent / "__init__.py").exists()
    }
    names = lambda paths: {path.as_posix() for path in paths}
    return names(wanted - found), names(found - wanted - compiled - of_packages)


def test_every_file_has_its_test():
    assert sorted(mirror(ROOT)[0]) == sorted(PENDING)


def test_every_test_has_its_file():
    assert sorted(mirror(ROOT)[1]) == []


def test_what_is_missing_is_seen(tmp_path):
    for path in (
        "geojax/so3/__init__.py",
        "geojax/so3/harmonics.py",
        "geojax/cli.py",
        "tests/test_cli.py",
        "tests/so3/test_contract.py",
        "tests/so3/test_torus.py",
        "tests/points/test_contract.py",
        "tests/repository/test_layers.py",
        "lammps/geojax_lammps/build.py",
        "lammps/geojax_lammps/src/pair.cpp",
        "tests/geojax_lammps/test_pair.py",
        "tests/geojax_lammps/test_nothing.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    missing, orphans = mirror(tmp_path)
    assert missing == {"so3/test_harmonics.py", "geojax_lammps/test_build.py"}
    nothing = "geojax_lammps/test_nothing.py"
    assert orphans == {"so3/test_torus.py", "points/test_contract.py", nothing}
