"""What is in files, in this installation and on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from geojax.cli.command import (
    DataArg,
    Index,
    Inputs,
    Json,
    Keys,
    PointsOf,
    Units,
    app,
    console,
    named,
    reading,
    say,
    show,
    write_json,
)

__all__ = ["check", "convert", "data", "doctor", "view"]


@app.command()
def data(
    source: DataArg,
    keys: Keys = None,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
):
    """What is in a data set or file: counts, elements, labels found, used and ignored."""
    from geojax.datasets import inspect_data

    told = {**reading(keys, units, inputs), "points": points}
    show(inspect_data(source, **{name: value for name, value in told.items() if value}))


@app.command()
def check(
    source: DataArg,
    valid: Annotated[list[Path] | None, typer.Option(help="a file; may be repeated")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="a file; may be repeated")] = None,
    isolated: Annotated[Path | None, typer.Option(help="a file of isolated atoms")] = None,
    keys: Keys = None,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
    to_json: Json = None,
):
    """What is wrong with a data set: units, signs, leaks, placeholders, references.

    Of clouds: scales, copies, stray points, normals, classes. Exit code 1 if something found is an
    error.
    """
    from geojax.datasets import check_data, load, read
    from geojax.datasets.dataset import is_file, isolated_energies

    options: dict[str, Any] = {**reading(keys, units, inputs), "points": points, "skip_bad": True}
    if is_file(source):
        first = read(source, **options)
        parts = {"train": [*first.structures], "valid": [], "test": []}
        E0s, reports = None, [first.report]
        options["classes"] = first.report.classes  # the same numbers for all files
    else:
        data = load(source)
        parts = {part: [*getattr(data, part)] for part in ("train", "valid", "test")}
        E0s, reports = data.card.get("E0s"), [*data.reports]
    for part, paths in (("valid", valid), ("test", test)):
        for path in paths or ():
            more = read(path, **options)
            parts[part] += more.structures
            reports.append(more.report)
    if isolated is not None:
        E0s = isolated_energies(read(isolated).structures)
    found = check_data(*parts.values(), E0s=E0s, reports=reports)
    show(found.table(source))
    write_json(to_json, {"source": source, **found.record()})
    raise typer.Exit(0 if found.passed else 1)


@app.command()
def convert(
    sources: Annotated[list[str], typer.Argument(help="files of structures, or patterns")],
    output: Annotated[Path, typer.Argument(help="a packed file to write, .h5")],
    keys: Keys = None,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
    unit_ball: Annotated[bool, typer.Option("--unit-ball", help="centre and scale clouds")] = False,
):
    """Write structures of any files to one packed file, of which training reads a part at a time.

    Databases and extended xyz are read as they are written: they may be larger than memory.
    """
    from geojax.datasets import iread
    from geojax.datasets.formats import classes_of
    from geojax.datasets.packed import pack

    options: dict[str, Any] = {**reading(keys, units, inputs), "points": points}
    classes = classes_of(sources, options["keys"])
    frames = iread(sources, **options, classes=classes, unit_ball=unit_ball)
    count = pack(output, frames, classes=classes)
    say(f"{count} structures written to {output}, {output.stat().st_size / 1e6:.1f} MB")


@app.command()
def view(
    source: DataArg,
    to: Annotated[Path, typer.Option(help="an HTML page to write")] = Path("view.html"),
    color: Annotated[str | None, typer.Option(help="label, normals, error, an input, …")] = None,
    second: Annotated[Path | None, typer.Option(help="the target of a registration")] = None,
    pose: Annotated[Path | None, typer.Option(help="of the first, in JSON or npy")] = None,
    points: PointsOf = None,
    split: Annotated[str, typer.Option(help="of a data set")] = "train",
    index: Index = 0,
    inputs: Inputs = None,
):
    """A page to look at a structure, or at a registration before and after."""
    from geojax.view import view as write

    clouds = {"second": second, "pose": pose, "points": points}
    choice = {"color": color, "split": split, "index": index, "inputs": named(inputs)}
    say(f"page: {write(source, to, **clouds, **choice)}")


@app.command()
def doctor():
    """Versions, devices, and whether this jax computes right numbers."""
    from geojax.checks.doctor import report

    sound = report(console())
    raise typer.Exit(0 if sound else 1)
