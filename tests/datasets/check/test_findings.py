"""Findings: their order, their table and their record."""

import json

import pytest
from rich.console import Console

from geojax.datasets.check import Finding, Findings

NOTE = Finding("left-handed cell", "note", "three cells")
ERROR = Finding("force unit", "error", "slope [51.4]", ("train 1",) * 7, "units={'forces': …}")


def shown(found: Findings) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(found.table("mine"))
    return captured.get()


def test_errors_come_first_and_fail():
    found = Findings((NOTE, ERROR))
    assert found.kinds() == ("force unit", "left-handed cell") and not found.passed
    assert found.kinds("note") == ("left-handed cell",) and found.kinds("warning") == ()
    assert Findings((NOTE,)).passed


def test_the_table_says_everything():
    text = shown(Findings((NOTE, ERROR), ("8 pairs",)))
    for piece in ("mine: 1 error, 2 findings", "slope [51.4]", "and 2 more", "8 pairs", "three"):
        assert piece in text


def test_a_record_is_json():
    record = json.loads(json.dumps(Findings((ERROR,)).record()))
    assert not record["passed"] and record["findings"][0]["kind"] == "force unit"


def test_other_severities_are_refused():
    with pytest.raises(ValueError, match="one of error, warning, note; got 'fatal'"):
        Finding("a", "fatal", "b")
