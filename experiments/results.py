"""Where the numbers of a study go: one JSON file that says how it was made."""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from geojax.checks.doctor import machine

FOLDER = Path(__file__).parent / "results"


def write(name: str, values: dict[str, Any], command: str | None = None) -> Path:
    """Write `results/<name>.json` with the command, the machine and the date."""
    FOLDER.mkdir(exist_ok=True)
    command = command or " ".join(
        ["python", "experiments/" + Path(sys.argv[0]).name, *sys.argv[1:]]
    )
    record = {"command": command, "machine": machine(), "date": date.today().isoformat()} | values
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path
