"""Tables of what can be set, for docs/study.md and docs/networks.md, from the source itself.

run:     python experiments/tables.py
time:    seconds
expect:  both pages unchanged where no field or docstring has changed
"""

import re

from results import markdown

from geojax import config
from geojax.networks import FIELDS, NETWORKS
from geojax.settings import Setting, first_sentence, settings
from geojax.symmetrize import PROVIDERS
from geojax.training import AUGMENTATIONS, LOSSES, OPTIMIZERS, SCHEDULES

LINES = {"losses": LOSSES, "optimizers": OPTIMIZERS, "schedules": SCHEDULES}
THINGS = {"augmentations": AUGMENTATIONS, "frames": PROVIDERS}


def plain(text: str) -> str:
    """Text for a cell."""
    return re.sub(r"([|<*])", r"\\\1", text)


def keys(rows: list[Setting]) -> str:
    """A table of settings."""
    code = lambda text: f"`{text}`" if text else ""
    cells = [[code(r.name), plain(r.kind), code(r.default), plain(r.meaning)] for r in rows]
    return markdown(["key", "takes", "default", ""], cells)


def lines(things: dict) -> str:
    """A line for each of some things."""
    return markdown(["", ""], [[f"`{n}`", plain(first_sentence(t))] for n, t in things.items()])


def sections(things: dict, *, module: bool = False, common: dict | None = None) -> str:
    """What each of some things is, and its settings."""
    parts = []
    for name, thing in things.items():
        parts += [f"### {name}", "", f"{first_sentence(thing, module=module)}.", ""]
        parts += [table, ""] if (table := keys(settings(thing, common=common or {}))) else []
    return "\n".join(parts)


def setting_tables() -> dict[str, str]:
    """All of them by name."""
    made = {f"study-{name}": keys(rows) for name, rows in config.tables().items()}
    made |= {name: lines(dict(things)) for name, things in LINES.items()}
    made |= {name: sections(dict(things)) for name, things in THINGS.items()}
    return made | {"network-fields": sections(dict(NETWORKS), module=True, common=FIELDS)}
