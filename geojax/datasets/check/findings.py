"""`Finding`: one thing that is wrong or odd in labelled structures, with its evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["SEVERITIES", "Finding", "Findings"]

SEVERITIES = ("error", "warning", "note")
COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
SHOWN = 5  # structures of a finding in the table


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a short name that stays the same: "force unit", "leak".
        severity: "error" (training on it is wrong), "warning" (it may be meant so), "note".
        text: what is there, with numbers.
        structures: the places that it is about, such as "train 12"; empty where it is all of them.
        fix: the likely cause, and what to write to mend it.

    Raises:
        ValueError: another severity.
    """

    kind: str
    severity: str
    text: str
    structures: tuple[str, ...] = ()
    fix: str = ""

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"a finding is one of {', '.join(SEVERITIES)}; got {self.severity!r}; use one"
            )


@dataclass(frozen=True)
class Findings:
    """All that was found, and what was looked at.

    Attributes:
        found: the findings, errors first.
        looked: the evidence that there was, such as "251 pairs of near structures"; what could not
            be looked at is told here too.
    """

    found: tuple[Finding, ...]
    looked: tuple[str, ...] = ()

    def __post_init__(self):
        ordered = sorted(self.found, key=lambda finding: SEVERITIES.index(finding.severity))
        object.__setattr__(self, "found", tuple(ordered))

    @property
    def passed(self) -> bool:
        """Whether nothing is an error."""
        return all(finding.severity != "error" for finding in self.found)

    def kinds(self, severity: str | None = None) -> tuple[str, ...]:
        """The kinds that were found, each once, of one severity or of all."""
        mine = (f.kind for f in self.found if severity in (None, f.severity))
        return tuple(dict.fromkeys(mine))

    def record(self) -> Mapping[str, Any]:
        """For JSON."""
        found = [asdict(finding) for finding in self.found]
        return {"passed": self.passed, "findings": found, "looked": list(self.looked)}

    def table(self, title: str = "") -> "Table":
        """For people; printed by rich."""
        from rich.table import Table
        from rich.text import Text

        errors = sum(finding.severity == "error" for finding in self.found)
        verdict = f"{errors} errors" if errors != 1 else "1 error"
        title = f"{title}: {verdict}, {len(self.found)} findings".removeprefix(": ")
        table = Table("", "what", "evidence", "to do", title=Text(title), title_justify="left")
        table.show_lines = True
        for one in self.found:
            text = f"{one.text}{_places(one.structures)}"
            cells = (Text(one.severity, COLOURS[one.severity]), Text(one.kind))
            table.add_row(*cells, Text(text), Text(one.fix))
        table.caption = Text(f"looked at: {'; '.join(self.looked)}") if self.looked else None
        return table


def _places(structures: Sequence[str]) -> str:
    if not structures:
        return ""
    more = f" and {len(structures) - SHOWN} more" if len(structures) > SHOWN else ""
    return f" [{', '.join(structures[:SHOWN])}{more}]"
