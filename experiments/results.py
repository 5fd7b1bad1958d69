"""Where the numbers of a study go: one JSON file that says how it was made; and tables of them."""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def write(name: str, values: dict[str, Any], command: str | None = None) -> Path:
    """Write `results/<name>.json` with the command, the machine and the date."""
    from geojax.checks.doctor import machine  # here: tables need none of it

    FOLDER.mkdir(exist_ok=True)
    command = command or " ".join(
        ["python", "experiments/" + Path(sys.argv[0]).name, *sys.argv[1:]]
    )
    record = {"command": command, "machine": machine(), "date": date.today().isoformat()} | values
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def result(name: str) -> dict[str, Any] | None:
    """The content of `results/<name>.json`, None where the study was not run yet."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; nothing where nothing was measured."""
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milli(x: float) -> float:
    return 1e3 * x
