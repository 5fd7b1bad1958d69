"""Models: trained, measured, predicting, exported, certified, shown."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from geojax.cli.command import (
    DataArg,
    Inputs,
    Json,
    Keys,
    ModelArg,
    PointsOf,
    Units,
    app,
    as_trained,
    console,
    reading,
    say,
    show,
    show_errors,
    show_results,
    with_classes,
    write_json,
)
from geojax.cli.launch import end_with_launcher, launch

__all__ = [
    "calibrate",
    "certify",
    "evaluate",
    "export",
    "inspect",
    "predict",
    "select",
    "train",
]


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="a TOML file, see experiments/")],
    overrides: Annotated[list[str] | None, typer.Argument(help="table.key=value …")] = None,
    folder: Annotated[Path | None, typer.Option(help="of the run; default runs/<name>")] = None,
    members: Annotated[int, typer.Option(help="more than one: an ensemble, by seed")] = 1,
    resample: Annotated[bool, typer.Option(help="draw the data of each member anew")] = False,
    processes: Annotated[int, typer.Option(help="of this machine, started and watched")] = 1,
    join: Annotated[str | None, typer.Option(help="cluster, or host:port,processes,index")] = None,
    to_json: Json = None,
):
    """Train as an experiment says, test, and save the model. The same command resumes.

    With --processes N the work is dealt out to N processes of this machine; in the job of a cluster
    every process runs the command with --join cluster.
    """
    from rich.console import Console

    from geojax import zoo
    from geojax.config import read, run, run_ensemble
    from geojax.training import processes as several

    if (processes > 1 or join) and (members > 1 or resample):
        raise ValueError("several processes train one model; train members one after the other")
    if join:
        end_with_launcher()
        several.join(join)
    study = read(experiment, overrides or [])
    where = folder or Path("runs") / study.name
    if processes != 1 and not join:
        raise typer.Exit(launch([sys.executable, "-m", "geojax", *sys.argv[1:]], processes))
    if join and not several.is_first():
        run(study, where, Console(quiet=True))
        return
    if members == 1 and not resample:
        model, results = run(study, where, console())
    else:
        model, results = run_ensemble(study, where, members, resample=resample, console=console())
    zoo.save(model, where / "model")
    show_results(results)
    write_json(to_json, results)
    say(f"model saved in {where / 'model'}")


@app.command()
def evaluate(
    model: ModelArg,
    data: DataArg,
    split: Annotated[str, typer.Option(help="train, valid or test, of a data set")] = "test",
    keys: Keys = None,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
    to_json: Json = None,
):
    """Errors of a model on labelled structures, beside a baseline that looks at no geometry.

    Clouds are read as the training's were: scaled or not, with its classes, and so many points of
    a mesh (--points 0: the points that are there).
    """
    from geojax.config import evaluate as errors_of
    from geojax.datasets import structures_of
    from geojax.metrics import constant_baseline
    from geojax.zoo import load

    found = load(model)
    told = reading(keys, units, inputs)
    structures, train_set = structures_of(data, split, **told, **as_trained(found, data, points))
    errors = errors_of(found, structures)
    if not errors:
        raise ValueError(
            f"a model is compared with labels; {data} has none of what {model} predicts (geojax "
            "data shows what it has); name them by --keys"
        )
    show_errors(f"{model} on {data}", errors, constant_baseline(train_set, structures))
    write_json(to_json, {"model": model, "data": data, "split": split, "errors": errors})


@app.command()
def predict(
    model: ModelArg,
    structures: Annotated[str, typer.Argument(help="a file of structures, or a pattern")],
    output: Annotated[Path, typer.Argument(help="an extended-xyz file to write")],
    properties: Annotated[
        str | None, typer.Option(help="such as energy,forces,stress; default: what was trained")
    ] = None,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
):
    """Write predictions as geojax_energy, geojax_forces, …; labels that are there stay.

    Clouds are read as by evaluate; of classes that have names, geojax_class is the likeliest.
    """
    from geojax.datasets import formats
    from geojax.inference import predict as run
    from geojax.zoo import load

    trained = load(model)
    told = reading(units=units, inputs=inputs)
    found = formats.read(structures, **told, **as_trained(trained, structures, points)).structures
    wanted = None if properties is None else tuple(properties.split(","))
    predictions = run(trained, found, wanted)
    classes = trained.card.data.get("classes", ())
    formats.write(output, with_classes(found, predictions, classes), predictions)
    say(f"{len(found)} structures written to {output}")


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
    say(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


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
    show(certificate.table())
    write_json(to_json, certificate.record())
    if save:
        zoo.save(found.replace_card(certificate=certificate.record()), Path(model))
    raise typer.Exit(0 if certificate.passed else 1)


@app.command()
def calibrate(
    ensemble: Annotated[Path, typer.Argument(help="the folder of an ensemble, full or shallow")],
    data: DataArg,
    split: Annotated[str, typer.Option(help="train, valid or test, of a data set")] = "valid",
    keys: Keys = None,
    units: Units = None,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Scale an ensemble's standard deviations by held-out labels, and store the factors in it."""
    from geojax import zoo
    from geojax.datasets import structures_of
    from geojax.inference import calibrate as scales_of

    found = zoo.load(ensemble)
    told = reading(keys, units, inputs)
    structures, _ = structures_of(data, split, **told, **as_trained(found, data, None))
    record = scales_of(found, structures).record()
    zoo.save(found.replace_card(calibration=record), ensemble)
    for part in zoo.describe(str(ensemble)):
        show(part)
    write_json(to_json, record)


@app.command()
def select(
    model: Annotated[str, typer.Argument(help="the folder of an ensemble")],
    pool: Annotated[str, typer.Argument(help="a file of structures, or a pattern")],
    output: Annotated[Path, typer.Argument(help="an extended-xyz file to write")],
    count: Annotated[int, typer.Option(help="structures to choose")] = 10,
    units: Units = None,
    inputs: Inputs = None,
    points: PointsOf = None,
):
    """Choose the structures to label next: where an ensemble disagrees, and unlike each other.

    Written in the order of choice, with the disagreement and the place in the pool.
    """
    from geojax.datasets import formats
    from geojax.inference import select as choose
    from geojax.zoo import load

    ensemble = load(model)
    told = reading(units=units, inputs=inputs)
    structures = formats.read(pool, **told, **as_trained(ensemble, pool, points)).structures
    found = choose(ensemble, structures, count)
    name = f"largest_{found.property.rpartition('.')[2]}_std"
    remark = lambda i: {name: float(found.disagreement[i]), "pool_index": i}
    chosen = [structures[i] for i in found.indices]
    chosen = [
        s.replace(info={**s.info, **remark(i)}) for i, s in zip(found.indices, chosen, strict=True)
    ]
    formats.write(output, chosen)
    worst = found.disagreement[found.indices]
    say(
        f"{len(chosen)} of {len(structures)} structures written to {output}; disagreement "
        f"{worst.min():.3g} to {worst.max():.3g} {found.unit}, of the pool "
        f"{found.disagreement.mean():.3g} on average"
    )


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="a model, a .geojax file, or the folder of a run")],
):
    """What is in a model, an artifact or a run: card, plan, certificate, last figures."""
    from geojax.zoo import describe

    for part in describe(path):
        show(part)
