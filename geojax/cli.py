"""The command `geojax`; nothing heavy is imported before a command runs."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "main"]

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
DataArg = Annotated[str, typer.Argument(help="a data set's name, or a file")]
StructureArg = Annotated[Path, typer.Argument(help="a file of structures")]
Index = Annotated[int, typer.Option(help="which structure of the file; -1 is the last")]
BAD_INPUT = (ValueError, KeyError, ImportError, TypeError, OSError, FloatingPointError)


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="a TOML file, see experiments/")],
    overrides: Annotated[list[str] | None, typer.Argument(help="table.key=value …")] = None,
    folder: Annotated[Path | None, typer.Option(help="of the run; default runs/<name>")] = None,
    to_json: Json = None,
):
    """Train as an experiment says, test, and save the model. The same command resumes."""
    from geojax import zoo
    from geojax.config import read, run

    study = read(experiment, overrides or [])
    where = folder or Path("runs") / study.name
    model, results = run(study, where, _console())
    zoo.save(model, where / "model")
    _show_results(results)
    _write(to_json, results)
    _say(f"model saved in {where / 'model'}")


@app.command()
def evaluate(
    model: ModelArg,
    data: DataArg,
    split: Annotated[str, typer.Option(help="train, valid or test, of a data set")] = "test",
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Errors of a model on labelled structures, beside a baseline that looks at no geometry."""
    from geojax.config import evaluate as errors_of
    from geojax.datasets import structures_of
    from geojax.metrics import constant_baseline
    from geojax.zoo import load

    structures, train_set = structures_of(data, split, _named(inputs))
    errors = errors_of(load(model), structures)
    _show_errors(f"{model} on {data}", errors, constant_baseline(train_set, structures))
    _write(to_json, {"model": model, "data": data, "split": split, "errors": errors})


@app.command()
def predict(
    model: ModelArg,
    structures: Annotated[Path, typer.Argument(help="a file of structures")],
    output: Annotated[Path, typer.Argument(help="an extended-xyz file to write")],
    properties: Annotated[
        str | None, typer.Option(help="such as energy,forces,stress; default: what was trained")
    ] = None,
    inputs: Inputs = None,
):
    """Write predictions as geojax_energy, geojax_forces, …; labels that are there stay."""
    from geojax.datasets import formats
    from geojax.inference import predict as run
    from geojax.zoo import load

    found = formats.read(structures, inputs=_named(inputs)).structures
    wanted = None if properties is None else tuple(properties.split(","))
    formats.write(output, found, run(load(model), found, wanted))
    _say(f"{len(found)} structures written to {output}")


@app.command()
def export(
    model: ModelArg,
    output: Annotated[Path, typer.Argument(help="a .geojax file to write")],
    platforms: Annotated[str, typer.Option(help="separated by commas")] = "cpu,cuda,tpu",
):
    """Write one file that runs on cpu, cuda and tpu without the model's code.

    Of a .geojax file: write it again with programs of this jax.
    """
    from geojax.inference import export as write
    from geojax.inference import refresh
    from geojax.zoo import load

    names = tuple(platforms.split(","))
    if model.endswith(".geojax"):
        refresh(model, output, platforms=names)
    else:
        write(load(model), output, platforms=names)
    _say(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


@app.command()
def certify(
    model: ModelArg,
    save: Annotated[bool, typer.Option(help="store the certificate in the model folder")] = False,
    to_json: Json = None,
):
    """Measure a model's symmetry and physics. Exit code 1 if a check does not pass."""
    from geojax import zoo
    from geojax.checks import certify as measure

    if save and not (Path(model) / "model.toml").exists():
        raise ValueError(f"--save writes into the folder of a model; {model!r} is none")
    found = zoo.load(model)
    certificate = measure(found)
    _print(certificate.table())
    _write(to_json, certificate.record())
    if save:
        zoo.save(found.replace_card(certificate=certificate.record()), Path(model))
    raise typer.Exit(0 if certificate.passed else 1)


@app.command()
def md(
    model: ModelArg,
    structure: StructureArg,
    steps: Annotated[int, typer.Option(help="in all, also of a run that goes on")] = 1000,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
    temperature: Annotated[float | None, typer.Option(help="K, of a thermostat")] = None,
    pressure: Annotated[float | None, typer.Option(help="GPa, of a barostat")] = None,
    start: Annotated[float | None, typer.Option(help="K, of the first velocities")] = None,
    every: Annotated[int, typer.Option(help="steps between kept frames")] = 20,
    seed: int = 0,
    index: Index = 0,
    folder: Annotated[Path, typer.Option(help="of the run")] = Path("runs/md"),
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Dynamics at constant energy, temperature or pressure. The same command resumes."""
    from geojax.simulation import Ensemble, molecular_dynamics

    atoms = _atoms(model, structure, index, inputs)
    ensemble = Ensemble(temperature, pressure, timestep=timestep, start=start, seed=seed)
    with _bar("md", steps) as advance:
        record = molecular_dynamics(
            atoms, ensemble, steps=steps, every=every, folder=folder, progress=advance
        )
    _show_figures(f"{steps} steps of {timestep:g} fs", record.summary())
    _write(to_json, record.summary())
    _say(f"frames and numbers in {folder}")


@app.command()
def relax(
    model: ModelArg,
    structure: StructureArg,
    output: Annotated[Path, typer.Argument(help="an extended-xyz file to write")],
    force: Annotated[float, typer.Option(help="eV/Å, the largest that is left")] = 0.01,
    cell: Annotated[bool, typer.Option(help="relax the cell too")] = False,
    pressure: Annotated[float, typer.Option(help="GPa, on the cell")] = 0.0,
    steps: Annotated[int, typer.Option(help="at most")] = 1000,
    optimizer: Annotated[str, typer.Option(help="lbfgs, bfgs or fire")] = "lbfgs",
    trajectory: Annotated[Path | None, typer.Option(help="an extended-xyz file of steps")] = None,
    index: Index = 0,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Move a structure to a minimum; without convergence in so many steps the exit code is 1."""
    from geojax.datasets import formats
    from geojax.simulation import relax as run

    atoms = _atoms(model, structure, index, inputs)
    found = run(
        atoms,
        force=force,
        cell=cell,
        pressure=pressure,
        steps=steps,
        optimizer=optimizer,
        trajectory=trajectory,
    )
    formats.write(output, [formats.from_ase(atoms, labels=False)], [found.properties])
    figures = {"energy [eV]": found.energy, "largest force [eV/Å]": found.force}
    figures |= {} if found.pressure is None else {"pressure [GPa]": found.pressure}
    _show_figures(f"{found.steps} steps of {optimizer}", figures)
    _write(to_json, {"converged": found.converged, "steps": found.steps, **figures})
    if not found.converged:
        _say(f"not converged in {steps} steps; {output} is where it stopped")
        raise typer.Exit(1)


@app.command()
def vibrations(
    model: ModelArg,
    structure: StructureArg,
    count: Annotated[int | None, typer.Option(help="only the softest, by Lanczos")] = None,
    index: Index = 0,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Frequencies and zero-point energy of a structure at rest (see relax)."""
    from geojax.datasets import structure_of
    from geojax.inference import Predictor, lowest_vibrations
    from geojax.inference import vibrations as all_of
    from geojax.zoo import load

    found = structure_of(str(structure), index, inputs=_named(inputs))
    predictor = Predictor(load(model))
    (here,) = predictor([found], ("forces", "hessian") if count is None else ("forces",))
    if count is None:
        modes = all_of(here.hessian, found)
    else:
        modes = lowest_vibrations(predictor, found, count)
    force = float((here.forces**2).sum(-1).max() ** 0.5)
    figures = {"largest force [eV/Å]": force, "zero-point energy [eV]": modes.zero_point_energy}
    _show_figures("vibrations", figures)
    _print("cm⁻¹: " + " ".join(f"{frequency:.1f}" for frequency in modes.frequencies))
    _write(to_json, figures | {"frequencies [cm⁻¹]": modes.frequencies.tolist()})


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="a model, a .geojax file, or the folder of a run")],
):
    """What is in a model, an artifact or a run: card, plan, certificate, last figures."""
    from geojax.zoo import describe

    for part in describe(path):
        _print(part)


@app.command()
def data(
    source: DataArg,
):
    """What is in a data set or file: counts, elements, labels found, used and ignored."""
    from geojax.datasets import inspect_data

    _print(inspect_data(source))


@app.command()
def view(
    source: DataArg,
    to: Annotated[Path, typer.Option(help="an HTML page to write")] = Path("view.html"),
    color: Annotated[str | None, typer.Option(help="label, normals, error, an input, …")] = None,
    second: Annotated[Path | None, typer.Option(help="the target of a registration")] = None,
    pose: Annotated[Path | None, typer.Option(help="of the first, in JSON or npy")] = None,
    points: Annotated[int | None, typer.Option(help="sampled on a mesh")] = None,
    split: Annotated[str, typer.Option(help="of a data set")] = "train",
    index: Index = 0,
    inputs: Inputs = None,
):
    """A page to look at a structure, or at a registration before and after."""
    from geojax.view import view as write

    clouds = {"second": second, "pose": pose, "points": points}
    choice = {"color": color, "split": split, "index": index, "inputs": _named(inputs)}
    _say(f"page: {write(source, to, **clouds, **choice)}")


@app.command()
def doctor():
    """Versions, devices, and whether this jax computes right numbers."""
    from geojax.checks.doctor import report

    sound = report(_console())
    raise typer.Exit(0 if sound else 1)


@app.command(name="list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="networks, products, datasets, …")] = None,
):
    """The names that can be used: networks, products, datasets, models, losses, optimizers."""
    from geojax import datasets, networks, products, training, zoo
    from geojax.registry import did_you_mean

    tables = {
        "networks": networks.NETWORKS,
        "products": products.PRODUCTS,
        "datasets": datasets.DATASETS,
        "models": zoo.names(),
        "losses": training.LOSSES,
        "optimizers": training.OPTIMIZERS,
        "schedules": training.SCHEDULES,
    }
    if kind is not None and kind not in tables:
        raise KeyError(f"there is no list of {kind!r}; {did_you_mean(kind, tables)}")
    for name in [kind] if kind else tables:
        print(f"{name}: {' '.join(sorted(tables[name]))}")


def main() -> None:
    """Run the command; bad input ends with its message and exit code 2, not with a traceback."""
    try:
        app()
    except BAD_INPUT as error:
        if "--traceback" in sys.argv:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        _console().print(f"[bold red]error[/] {type(error).__name__}: ", end="")
        print(text, file=sys.stderr)
        sys.exit(2)


def _named(inputs: str | None) -> dict[str, str]:
    """The table that `input=key,input=key` writes."""
    parts = [part.partition("=") for part in inputs.split(",")] if inputs else []
    if wrong := [name for name, equals, key in parts if not (name and equals and key)]:
        raise ValueError(
            f"inputs are written input=key,input=key; got {inputs!r}, where {wrong[0]!r} has no key"
        )
    return {name: key for name, _, key in parts}


def _atoms(model: str, path: Path, index: int, inputs: str | None) -> Any:
    """One structure of a file as ASE's atoms, with the model as its calculator."""
    from geojax.datasets import structure_of, to_ase
    from geojax.inference import calculator
    from geojax.zoo import load

    atoms = to_ase(structure_of(str(path), index, inputs=_named(inputs)))
    atoms.calc = calculator(load(model), inputs={name: name for name in _named(inputs)})
    return atoms


def _show_figures(title: str, figures: dict[str, float]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(escape(name), f"{value:.5g}")
    _print(table)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar, and the function that moves it; it shows a temperature."""
    from rich.progress import Progress

    with Progress(console=_console(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda step, kelvin: progress.update(
            task, completed=step, description=f"{what} {kelvin:.0f} K"
        )


def _show_results(results: dict[str, Any]) -> None:
    """Test errors; without a test set those that chose the parameters, and it says so."""
    split = "test" if "test" in results else "valid"
    errors = {key.removeprefix("valid."): value for key, value in results[split].items()}
    _show_errors(f"{results['name']}, {split}", errors, results.get("baseline"))


def _show_errors(title: str, errors: dict[str, float], baseline: dict[str, float] | None) -> None:
    from geojax.metrics import errors_table

    _print(errors_table(title, errors, baseline))


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _print(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _write(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
