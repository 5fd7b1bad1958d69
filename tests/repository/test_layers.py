"""A file imports only from a lower row or from its own package; packages on one row do not know
each other. Imports inside functions and by `import_module` count too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROWS = (  # from the ground up
    ("arrays", "multilinear", "registry", "settings", "signals"),
    ("assets", "elements", "files", "page", "units"),
    ("native",),
    ("so3",),
    ("products", "clifford", "graphs", "points"),
    ("nn", "symmetrize", "datasets", "metrics"),
    ("networks", "outputs", "deviations"),
    ("potential",),
    ("curvature", "model"),
    ("training", "inference", "checks", "analysis"),
    ("zoo", "simulation"),
    ("config", "report", "view"),
    ("cli",),
    ("__main__", "__init__"),
)
ROW = {name: number for number, row in enumerate(ROWS) for name in row}

# Packages of others that have one home here, so that replacing one touches one place.
HOMES = {
    "flax": {"nn", "symmetrize", "networks"},  # engines see `network.init` and `network.apply`
    "jraph": {"graphs"},
    "vesin": {"graphs"},
    "h5py": {"datasets"},
    "orbax": {"training"},
    "typer": {"cli"},
}

DRAWERS = {"utils", "util", "common", "base", "helpers", "helper", "core", "misc"}
CODE = sorted(
    path for folder in ("geojax", "tests", "experiments") for path in (ROOT / folder).rglob("*.py")
)
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in CODE}


def module(path: str) -> str:
    """ "geojax.so3" for "geojax/so3/__init__.py"."""
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports; `from a import b` gives a.b."""
    package = module(path) if path.endswith("__init__.py") else module(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = ".".join([*above * bool(node.level), *filter(None, [node.module])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def home(name: str) -> str:
    """The entry of ROWS that a file or an imported name of geojax belongs to."""
    part = name.split(".")[1] if "." in name else "__init__"
    return part if part in ROW else "__init__"


def violations(files: dict[str, str]) -> list[str]:
    """Every import that breaks the rules, as "file:line: who imports whom"."""
    found = []
    for path, source in files.items():
        if not path.startswith("geojax/"):
            continue
        here = home(module(path))
        for line, name in imports(path, source):
            top = name.split(".")[0]
            if top == "geojax":
                there = home(name)
                wrong = there != here and ROW[there] >= ROW[here]
            else:
                there = top
                wrong = here not in HOMES.get(top, {here})
            if wrong:
                found.append(f"{path}:{line}: {here} imports {there}")
    return found


def test_imports_go_down():
    assert violations(FILES) == []


def test_every_file_has_a_row():
    names = {Path(path).relative_to("geojax").parts[0] for path in FILES if path[:7] == "geojax/"}
    assert {name.removesuffix(".py") for name in names} - set(ROW) == set()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("geojax/so3/harmonics.py", "from geojax.graphs import Graph"),
        ("geojax/so3/harmonics.py", "import geojax.graphs.graph"),
        ("geojax/so3/harmonics.py", "from geojax import networks"),
        ("geojax/so3/harmonics.py", "from geojax import Structure"),
        ("geojax/so3/harmonics.py", "def f():\n    from geojax.graphs import Graph"),
        ("geojax/so3/harmonics.py", "from ..graphs.graph import Graph"),
        ("geojax/so3/__init__.py", "from ..graphs import Graph"),
        ("geojax/so3/harmonics.py", "importlib.import_module('geojax.graphs')"),
        ("geojax/graphs/graph.py", "from geojax.products import cg"),
        ("geojax/training/loop.py", "from geojax.inference import predict"),
        ("geojax/training/loop.py", "import flax.linen as nn"),
        ("geojax/networks/egnn.py", "import jraph"),
        ("geojax/arrays.py", "from geojax.registry import Registry"),
    ],
)
def test_a_wrong_import_is_seen(path, source):
    assert len(violations({path: source})) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("geojax/so3/harmonics.py", "from geojax.arrays import unit"),
        ("geojax/so3/harmonics.py", "from geojax.so3.features import degree"),
        ("geojax/so3/harmonics.py", "from .features import degree"),
        ("geojax/graphs/graph.py", "import jraph"),
        ("geojax/cli.py", "from geojax import zoo"),
        ("geojax/__init__.py", "from geojax.zoo import load"),
        ("tests/so3/test_harmonics.py", "from geojax import networks"),
    ],
)
def test_a_right_import_is_let_through(path, source):
    assert violations({path: source}) == []


def test_files_are_short():
    assert [path for path, source in FILES.items() if source.count("\n") > 400] == []


def test_files_say_what_they_are():
    told = [path for path in FILES if path.startswith(("geojax/", "experiments/"))]
    assert [path for path in told if not ast.get_docstring(ast.parse(FILES[path]))] == []


def test_no_file_is_a_drawer():
    assert [path for path in FILES if set(Path(path).with_suffix("").parts) & DRAWERS] == []
