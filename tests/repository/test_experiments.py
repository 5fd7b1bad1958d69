"""Every study says its question, how to run it, how long it takes and what is expected of it;
its configuration is valid and its results name their origin."""

import ast
import importlib
import json
import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments"
CONFIGS = sorted(FOLDER.glob("*.toml"))
SCRIPTS = sorted(FOLDER.glob("*.py"))
RESULTS = sorted(FOLDER.glob("results/*.json"))
NAME = lambda path: path.name


def head(text: str) -> str:
    """The comment that a TOML file begins with, without the hashes."""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line[1:] for line in lines[:end])


def missing(text: str) -> list[str]:
    """What a lab book's head does not say."""
    said = re.findall(r"^ +(run|time|expect): +\S", text, re.MULTILINE)
    question = len(text.splitlines()[0].split()) if text.strip() else 0
    return ["question"] * (question < 4) + sorted({"run", "time", "expect"} - set(said))


@pytest.mark.parametrize("path", CONFIGS, ids=NAME)
def test_the_head_is_a_lab_book(path):
    text = head(path.read_text())
    assert missing(text) == []
    assert path.stem in text, "the command or the results name the file"


@pytest.mark.parametrize("path", CONFIGS, ids=NAME)
def test_the_configuration_is_valid(path):
    config = pytest.importorskip("geojax.config", reason="not there yet", exc_type=ImportError)
    assert config.read(path).name == path.stem


def test_the_runs_of_tables_are_valid(monkeypatch):
    config = pytest.importorskip("geojax.config", reason="not there yet", exc_type=ImportError)
    monkeypatch.syspath_prepend(FOLDER)
    compare, nbody = (importlib.import_module(name) for name in ("compare", "nbody"))
    table = tomllib.loads((FOLDER / "compare" / "studies.toml").read_text())
    runs = [run for study in table["studies"] for run in compare.runs_of(study, table, None)]
    tables = [run.tables for run in runs] + [nbody.tables_of(n, 0, 3000) for n in nbody.NETWORKS]
    names = [config.from_tables(t).name for t in tables]
    assert len(set(names)) == len(tables), "each run has a folder of its own"


@pytest.mark.parametrize("path", SCRIPTS, ids=NAME)
def test_scripts_compile_and_say_what_they_ask(path):
    tree = ast.parse(path.read_text(), path)
    assert ast.get_docstring(tree)
    compile(tree, path, "exec")


@pytest.mark.parametrize("path", RESULTS, ids=NAME)
def test_results_name_their_origin(path):
    found = json.loads(path.read_text())
    assert {"command", "machine", "date"} <= set(found)
    assert date.fromisoformat(found["date"][:10]).year >= 2024
    assert all(isinstance(found[key], str) and found[key] for key in ("command", "machine"))
    assert not re.search(r"(^|[\s='\"])/", found["command"]), "a command names no path of a machine"


def test_a_head_that_lacks_something_is_seen():
    book = "# Is this a good question?\n#   run:     a\n#   time:    b\n#   expect:  c\n[data]\n"
    assert missing(head(book)) == []
    assert missing(head(book.replace("time:", "tame:"))) == ["time"]
    assert missing(head("[data]\nname = 'x'\n")) == ["question", "expect", "run", "time"]
