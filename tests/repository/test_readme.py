"""What the pages say is true: their code runs, their names exist, their tables are the results.

A comment in the line above a code block of README.md keeps it from running here:
`<!-- slow: reason -->` leaves it to `make test-all`, `<!-- not run: reason -->` leaves it out; the
names that it uses are checked all the same. A table stands between `<!-- table NAME -->` and
`<!-- end NAME -->` and is what `render()[NAME]` of experiments/tables.py makes of the results.
"""

import ast
import importlib
import re
import tomllib
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import pytest

import geojax
from geojax.config import from_tables
from geojax.datasets import DATASETS, from_files

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [p for g in ("*.md", "docs/*.md", "[dm]*/*/README.md") for p in sorted(ROOT.glob(g))]

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>slow|not run): (?P<reason>[^\n]+) -->\n)?"
    r"^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TABLE = re.compile(r"^<!-- table (\S+) -->\n(.*?)^<!-- end \1 -->$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """A code block; `mark` is "slow", "not run" or empty."""

    mark: str
    line: int
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    return [
        Block(
            match["mark"] or "",
            text.count("\n", 0, match.start("code")) + 1,
            match["language"],
            match["code"],
        )
        for match in FENCE.finditer(text)
    ]


def run(text: str, marks: tuple[str, ...]) -> dict[str, object]:
    """The names that the Python blocks leave behind; they run in order and share their names."""
    names: dict[str, object] = {}
    for block in blocks(text):
        if block.language == "python" and block.mark in marks:
            padded = "\n" * (block.line - 1) + block.code  # so that errors name the page's line
            exec(compile(padded, "README.md", "exec"), names)
    return names


def unknown_names(text: str) -> list[str]:
    """Everything like geojax.datasets.load that the Python blocks use and that is not there."""
    found = []
    for block in blocks(text):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.code)):
            path = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"geojax(\.\w+)+", path):
                thing: object = geojax
                for name in path.split(".")[1:]:
                    thing = getattr(thing, name, None)
                if thing is None:
                    found.append(f"line {block.line}: {path}")
    return found


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(README.read_text(), marks=("",))


@pytest.mark.slow
def test_the_slow_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(README.read_text(), marks=("", "slow"))


def test_the_code_uses_names_that_exist():
    assert unknown_names(README.read_text()) == []


def test_the_studies_have_no_unknown_key():
    studies = [block.code for block in blocks(README.read_text()) if block.language == "toml"]
    assert studies
    for code in studies:
        table = tomllib.loads(code)
        from_tables({"name": "study"} | table)
        source = DATASETS[table["data"]["name"]] if "name" in table["data"] else from_files
        assert table["data"].keys() <= {"name", *signature(source).parameters}


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(README.read_text()):
        assert set(re.findall(r"^(?:\$ )?make ([\w-]+)", block.code, re.MULTILINE)) <= targets


def test_the_tables_are_made_from_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    tables = importlib.import_module("tables")
    made, shown = tables.render(), [t for p in tables.PAGES for t in TABLE.findall(p.read_text())]
    assert sorted(name for name, _ in shown) == sorted(made)
    assert {name: text.strip() for name, text in shown} == {n: t.strip() for n, t in made.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_repository_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


PAGE = """
```python
x = 1
```
<!-- slow: trains -->
```python
y = x + 1
```
<!-- not run: needs a GPU -->
```python
z = geojax.no_such_thing(geojax.Structure)
```
```sh
make demo
```
<!-- table speed -->
| a |
<!-- end speed -->
"""


def test_blocks_and_tables_are_found():
    assert [block[:3] for block in blocks(PAGE)] == [
        ("", 3, "python"),
        ("slow", 7, "python"),
        ("not run", 11, "python"),
        ("", 14, "sh"),
    ]
    assert "y" not in run(PAGE, marks=("",))
    assert run(PAGE, marks=("", "slow"))["y"] == 2
    assert unknown_names(PAGE) == ["line 11: geojax.no_such_thing"]
    assert TABLE.findall(PAGE) == [("speed", "| a |\n")]
