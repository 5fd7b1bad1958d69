"""What can be chosen by its name, and what can be set in it."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import typer

from geojax.cli.command import app, show

__all__ = ["list_"]


class Kind(NamedTuple):
    """Things of one kind, by name.

    Attributes:
        things: what is told of: classes and functions.
        module: the docstring of its module tells of a thing.
        settable: things have settings of their own.
        common: what those of many mean.
    """

    things: Mapping[str, Any]
    module: bool = False
    settable: bool = False
    common: Mapping[str, str] = {}


@app.command(name="list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="networks, datasets, losses, study, …")] = None,
    name: Annotated[str | None, typer.Argument(help="one of them: what can be set")] = None,
):
    """What can be chosen by its name, and set: `list networks mace`, `list study train`.

    Without a name all of a kind, a line each; `list study` is what a study may hold.
    """
    from geojax import zoo
    from geojax.registry import did_you_mean

    kinds = _kinds()
    if kind is None:
        for each, found in kinds.items():
            print(f"{each}: {' '.join(sorted(found.things))}")
        print(f"models: {' '.join(zoo.names())}")
        return
    if kind == "models":
        for part in zoo.describe(name) if name else [_lines(kind, zoo.descriptions())]:
            show(part)
        return
    if kind not in kinds:
        raise KeyError(f"there is no list of {kind!r}; {did_you_mean(kind, [*kinds, 'models'])}")
    found = kinds[kind]
    if name is None:
        _all_of(kind, found)
    elif name not in found.things:
        raise KeyError(f"{kind} has no {name!r}; {did_you_mean(name, found.things)}")
    else:
        _one(kind, name, found)


def _kinds() -> dict[str, Kind]:
    from geojax import config, datasets, networks, products, so3, symmetrize, training

    return {
        "study": Kind(config.tables()),
        "networks": Kind(networks.NETWORKS, module=True, settable=True, common=networks.FIELDS),
        "datasets": Kind(datasets.DATASETS, module=True, settable=True),
        "losses": Kind(training.LOSSES),
        "optimizers": Kind(training.OPTIMIZERS),
        "schedules": Kind(training.SCHEDULES),
        "augmentations": Kind(training.AUGMENTATIONS, settable=True),
        "frames": Kind(symmetrize.PROVIDERS, settable=True),
        "rotation-heads": Kind({n: head.decode for n, head in so3.ROTATION_HEADS.items()}),
        "products": Kind({n: entry.kernel for n, entry in products.PRODUCTS.items()}, module=True),
    }


def _all_of(kind: str, found: Kind) -> None:
    from geojax.settings import first_sentence

    if kind == "study":
        for name in found.things:
            _one(kind, name, found)
        return
    told = {n: first_sentence(thing, module=found.module) for n, thing in found.things.items()}
    show(_lines(kind, told))


def _one(kind: str, name: str, found: Kind) -> None:
    from rich.text import Text

    from geojax.settings import settings, text_of

    thing = found.things[name]
    if kind == "study":
        show(_settings(f"[{name}]" if name != "outputs" else "[[outputs]]", thing))
        return
    for text in dict.fromkeys([text_of(thing, module=True)] * found.module + [text_of(thing)]):
        show(Text(text + "\n"))
    if found.settable:
        show(_settings(name, settings(thing, common=found.common)))


def _lines(title: str, told: Mapping[str, str]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False)
    for name, text in told.items():
        table.add_row(name, Text(text))
    return table


def _settings(title: str, rows: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("key", "takes", "default", "", title=Text(title), title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
