"""The command itself: its arguments, what it shows, and how bad input ends."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "DataArg",
    "Index",
    "Inputs",
    "Json",
    "Keys",
    "ModelArg",
    "PointsOf",
    "StructureArg",
    "Units",
    "app",
    "as_trained",
    "atoms_of",
    "bar",
    "console",
    "main",
    "named",
    "reading",
    "say",
    "show",
    "show_errors",
    "show_figures",
    "show_results",
    "whole_numbers",
    "with_classes",
    "write_json",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Equivariant networks on molecules, crystals and point clouds: train, certify, export.",
)

ModelArg = Annotated[str, typer.Argument(help="a name, a model folder, or a .geojax file")]
Json = Annotated[Path | None, typer.Option("--json", help="write the figures to this file")]
Inputs = Annotated[
    str | None,
    typer.Option(help="inputs of the network in a file, such as charge=total_charge,spin=spin"),
]
Keys = Annotated[
    str | None,
    typer.Option(help="of labels in a file: energy=my_energy,forces=-gradient,targets.label=*"),
]
Units = Annotated[str | None, typer.Option(help="in a file: energy=Ha,forces=Ha/Bohr")]
PointsOf = Annotated[int | None, typer.Option("--points", help="sampled on a mesh")]
DataArg = Annotated[
    str, typer.Argument(help="a data set's name, a file, or a pattern such as 'shapes/*/*.ply'")
]
StructureArg = Annotated[Path, typer.Argument(help="a file of structures")]
Index = Annotated[int, typer.Option(help="which structure of the file; -1 is the last")]
BAD_INPUT = (ValueError, KeyError, ImportError, TypeError, OSError, FloatingPointError)


def main() -> None:
    """Run the command; bad input ends with its message and exit code 2, not with a traceback."""
    try:
        app()
    except BAD_INPUT as error:
        if "--traceback" in sys.argv:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        console().print(f"[bold red]error[/] {type(error).__name__}: ", end="")
        print(text, file=sys.stderr)
        sys.exit(2)


def named(inputs: str | None) -> dict[str, str]:
    """The table that `input=key,input=key` writes."""
    parts = [part.partition("=") for part in inputs.split(",")] if inputs else []
    if wrong := [name for name, equals, key in parts if not (name and equals and key)]:
        raise ValueError(
            f"inputs are written input=key,input=key; got {inputs!r}, where {wrong[0]!r} has no key"
        )
    return {name: key for name, _, key in parts}


def reading(
    keys: str | None = None, units: str | None = None, inputs: str | None = None
) -> dict[str, dict[str, str]]:
    """What the options say of reading files."""
    return {"keys": named(keys), "units": named(units), "inputs": named(inputs)}


def as_trained(model: Any, source: str, points: int | None) -> dict[str, Any]:
    """How clouds in a file are read for a model: classes, points and scale as in its training."""
    from geojax.datasets.dataset import is_file

    if not is_file(source):
        return {}
    told = model.card.data
    found = {key: told[key] for key in ("classes", "points", "unit_ball") if key in told}
    return found | ({} if points is None else {"points": points or None})


def with_classes(structures: Sequence[Any], predictions: Sequence[Any], classes: Any) -> list[Any]:
    """Structures with the name of the likeliest class, where one target is of classes."""
    import numpy as np

    shape, named = (len(classes),), list(structures)
    for i, predicted in enumerate(predictions):
        found = [value for value in predicted.targets.values() if np.shape(value) == shape]
        if len(found) == 1 and len(classes) > 1:
            name = str(classes[int(np.argmax(found[0]))])
            named[i] = named[i].replace(info={**named[i].info, "geojax_class": name})
    return named


def whole_numbers(text: str) -> tuple[int, ...]:
    """The numbers that `2,2,2` writes."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"whole numbers are separated by commas; got {text!r}") from None


def atoms_of(model: str, path: Path, index: int, inputs: str | None) -> Any:
    """One structure of a file as ASE's atoms, with the model as its calculator."""
    from geojax.datasets import structure_of, to_ase
    from geojax.inference import calculator
    from geojax.zoo import load

    atoms = to_ase(structure_of(str(path), index, inputs=named(inputs)))
    atoms.calc = calculator(load(model), inputs={name: name for name in named(inputs)})
    return atoms


def show_figures(title: str, figures: dict[str, float]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(escape(name), f"{value:.5g}")
    show(table)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar, and the function of a number and a note that moves it."""
    from rich.progress import Progress

    with Progress(console=console(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, note="": progress.update(
            task, completed=done, description=f"{what} {note}".strip()
        )


def show_results(results: dict[str, Any]) -> None:
    """Test errors; without a test set those that chose the parameters, and it says so."""
    split = "test" if "test" in results else "valid"
    errors = {key.removeprefix("valid."): value for key, value in results[split].items()}
    show_errors(f"{results['name']}, {split}", errors, results.get("baseline"))


def show_errors(title: str, errors: dict[str, float], baseline: dict[str, float] | None) -> None:
    from geojax.metrics import errors_table

    show(errors_table(title, errors, baseline))


def console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def show(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def write_json(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
