"""Where the numbers of a study go: one JSON file that says how it was made."""

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def machine() -> str:
    """What a number was measured on."""
    import jax

    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} {platform.machine()} cores"
    return f"{device}, Python {platform.python_version()}, jax {jax.__version__}"


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
