"""Settings are told by the source itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import pytest

from geojax.networks import FIELDS, NETWORKS
from geojax.settings import REQUIRED, Setting, first_sentence, kind_of, settings, text_of


@dataclass(frozen=True)
class Base:
    """What is shared.

    Attributes:
        width: of everything,
            in two lines.
        low, high: the ends.
    """

    width: int
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True)
class Derived(Base):
    """Another; see the module. More."""

    kind: Literal["a", "b"] = "a"  # one of two
    table: Mapping[str, float] = field(default_factory=lambda: {"x": 1.0})
    hidden: int = field(default=1, init=False)  # not set
    rates: tuple[float, ...] = (1.0, 2.5)  # of each


class Network(nn.Module):
    """A module."""

    channels: int = 4  # of each node
    cutoff: float | None = None


def function(path: str | Path, *, ready: bool = False, **more: Any) -> None:
    """Does something: this.

    Args:
        path: where it is.

    Raises:
        ValueError: ready: never.
    """


def test_fields_have_kinds_defaults_and_meanings():
    assert settings(Derived, leave_out=["low"]) == [
        Setting("width", "integer", REQUIRED, "of everything, in two lines"),
        Setting("high", "number", "inf", "the ends"),
        Setting("kind", '"a" or "b"', '"a"', "one of two"),
        Setting("table", "table", "{ x = 1.0 }", ""),
        Setting("rates", "array of numbers", "[1.0, 2.5]", "of each"),
    ]


def test_modules_of_flax_have_their_own_fields_only():
    assert settings(Network) == [
        Setting("channels", "integer", "4", "of each node"),
        Setting("cutoff", "number", "", ""),
    ]
    named = settings(Network, common={"channels": "others", "cutoff": "[Å]"})
    assert [s.meaning for s in named] == ["of each node", "[Å]"]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_field_of_a_network_is_told_of(name):
    assert [s.name for s in settings(NETWORKS[name], common=FIELDS) if not s.meaning] == []


def test_arguments_of_functions():
    found = {s.name: s for s in settings(function, leave_out=["more"])}
    assert found["path"] == Setting("path", "string", REQUIRED, "where it is")
    assert found["ready"] == Setting("ready", "boolean", "false", "")


def test_docstrings_without_sections():
    assert text_of(Base) == "What is shared." and first_sentence(Derived) == "Another"
    assert first_sentence(function) == "Does something: this"
    assert first_sentence(Base, module=True) == "Settings are told by the source itself"


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (str | Path | None, "string"),
        (int | str, "integer or string"),
        (Sequence[str], "array of strings"),
        (tuple[tuple[str, int], ...], "array"),
        (dict[str, int], "table"),
        (Any, ""),
    ],
)
def test_kinds_are_those_of_toml(hint, kind):
    assert kind_of(hint) == kind
