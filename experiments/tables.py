"""How the tables of README.md are made from the results, so that they cannot say anything else.

run:     python experiments/tables.py      (rewrites the tables in README.md)
time:    a second
expect:  README.md unchanged where no result has changed
"""

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def result(name: str) -> dict[str, Any] | None:
    """The content of `results/<name>.json`, None where the study was not run yet."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy() -> str:
    """Every study that has a test error: reached beside published."""
    rows = []
    for study, name, metric, factor, unit, published in ACCURACY:
        found = result(study)
        if found is None or metric not in found["test"]:
            continue
        value = f"{factor * found['test'][metric]:.3g} {unit}"
        rows.append([name, metric.replace("targets.", "").replace(".", " "), value, published])
    return markdown(["study", "error", "reached", "published"], rows)


ACCURACY = [
    ("nequip-ethanol", "NequIP, bundled ethanol", "energy.mae", 1e3, "meV", ""),
    ("nequip-ethanol", "NequIP, bundled ethanol", "forces.mae", 1e3, "meV/Å", ""),
    ("acac-nequip", "NequIP, acetylacetone 300 K", "energy.rmse", 1e3, "meV", "0.81 (MACE 0.9)"),
    ("acac-nequip", "NequIP, acetylacetone 300 K", "forces.rmse", 1e3, "meV/Å", "5.9 (MACE 5.1)"),
    (
        "mlearn-cu-nequip",
        "NequIP, copper (mlearn)",
        "energy_per_atom.rmse",
        1e3,
        "meV/atom",
        "0.56 GAP, 0.52 MTP, 0.87 SNAP, 1.68 NNP",
    ),
    (
        "mlearn-cu-nequip",
        "NequIP, copper (mlearn)",
        "forces.rmse",
        1e3,
        "meV/Å",
        "20 GAP, 10 MTP, 80 SNAP, 60 NNP",
    ),
    ("mlearn-cu-nequip", "NequIP, copper (mlearn)", "stress.rmse", 1e3, "meV/Å³", ""),
]


def speed() -> str:
    """EGNN training against the published layer structure in PyTorch, in the same run."""
    found = result("egnn-speed") or {"steps_per_second": {}, "ratios": {}}
    rows = [
        [
            name,
            f"{s['median']:.0f}",
            f"{found['ratios'][name]:.2f}×" if name in found["ratios"] else "",
        ]
        for name, s in found["steps_per_second"].items()
    ]
    return markdown(
        ["EGNN, charged 5-body, batch 100", "steps per second", "geojax is faster by"], rows
    )


def startup() -> str:
    """Whole processes, median seconds."""
    found = result("startup-time")
    seconds = (found or {"seconds": {}})["seconds"]
    return markdown(["", "seconds"], [[name, f"{s['median']:.2f}"] for name, s in seconds.items()])


def render() -> dict[str, str]:
    """All tables by name."""
    return {"accuracy": accuracy(), "speed": speed(), "startup": startup()}


def main() -> None:
    text = README.read_text()
    for name, table in render().items():
        pattern = rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
    README.write_text(text)


if __name__ == "__main__":
    main()
