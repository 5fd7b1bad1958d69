"""Structures that move: dynamics, minima, vibrations."""

from pathlib import Path
from typing import Annotated

import typer

from geojax.cli.command import (
    Index,
    Inputs,
    Json,
    ModelArg,
    StructureArg,
    app,
    atoms_of,
    bar,
    named,
    say,
    show,
    show_figures,
    whole_numbers,
    write_json,
)

__all__ = ["elastic", "ipi", "md", "neb", "phonons", "relax", "vibrations"]

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


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
    from geojax.simulation import Dynamics, molecular_dynamics

    atoms = atoms_of(model, structure, index, inputs)
    settings = Dynamics(temperature, pressure, timestep=timestep, start=start, seed=seed)
    with bar("md", steps) as advance:
        record = molecular_dynamics(
            atoms,
            settings,
            steps=steps,
            every=every,
            folder=folder,
            progress=lambda step, kelvin: advance(step, f"{kelvin:.0f} K"),
        )
    show_figures(f"{steps} steps of {timestep:g} fs", record.summary())
    write_json(to_json, record.summary())
    say(f"frames and numbers in {folder}")


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

    atoms = atoms_of(model, structure, index, inputs)
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
    show_figures(f"{found.steps} steps of {optimizer}", figures)
    write_json(to_json, {"converged": found.converged, "steps": found.steps, **figures})
    if not found.converged:
        say(f"not converged in {steps} steps; {output} is where it stopped")
        raise typer.Exit(1)


@app.command()
def neb(
    model: ModelArg,
    start: StructureArg,
    end: Annotated[Path, typer.Argument(help="a file of structures: the other minimum")],
    output: Annotated[Path, typer.Argument(help="an extended-xyz file for the images")],
    images: Annotated[int, typer.Option(help="between the two")] = 7,
    force: Annotated[float, typer.Option(help="eV/Å across the band, the largest left")] = 0.05,
    steps: Annotated[int, typer.Option(help="at most")] = 500,
    index: Index = 0,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """The barrier between two minima; without convergence in so many steps the exit code is 1."""
    from geojax.datasets import structure_of, to_ase
    from geojax.simulation import elastic_band

    atoms = atoms_of(model, start, index, inputs)
    other = to_ase(structure_of(str(end), index, inputs=named(inputs)))
    found = elastic_band(atoms, other, images=images, force=force, steps=steps, trajectory=output)
    show_figures(f"{found.steps} steps of a band of {images} images", found.figures())
    record = {"converged": found.converged, "energies [eV]": found.energies.tolist()}
    write_json(to_json, record | found.figures())
    if not found.converged:
        say(f"not converged in {steps} steps; {output} is where it stopped")
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

    found = structure_of(str(structure), index, inputs=named(inputs))
    predictor = Predictor(load(model))
    (here,) = predictor([found], ("forces", "hessian") if count is None else ("forces",))
    if count is None:
        modes = all_of(here.hessian, found)
    else:
        modes = lowest_vibrations(predictor, found, count)
    force = float((here.forces**2).sum(-1).max() ** 0.5)
    figures = {"largest force [eV/Å]": force, "zero-point energy [eV]": modes.zero_point_energy}
    show_figures("vibrations", figures)
    show("cm⁻¹: " + " ".join(f"{frequency:.1f}" for frequency in modes.frequencies))
    write_json(to_json, figures | {"frequencies [cm⁻¹]": modes.frequencies.tolist()})


@app.command()
def phonons(
    model: ModelArg,
    structure: StructureArg,
    supercell: Annotated[str, typer.Option(help="repeats along the lattice vectors")] = "2,2,2",
    displacement: Annotated[float, typer.Option(help="Å")] = 0.01,
    mesh: Annotated[str, typer.Option(help="of the density of states")] = "20,20,20",
    folder: Annotated[Path, typer.Option(help="of phonopy.yaml and a plot")] = Path("runs/phonons"),
    index: Index = 0,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Dispersion, density of states and heat of a crystal at rest (see relax), in phonopy."""
    from geojax.simulation import phonons as run

    atoms = atoms_of(model, structure, index, inputs)
    sizes = {"supercell": whole_numbers(supercell), "mesh": whole_numbers(mesh)}
    with bar("phonons", 1) as advance:
        progress = lambda done, total: advance(done / total, f"{done} of {total} supercells")
        found = run(atoms, displacement=displacement, folder=folder, progress=progress, **sizes)
    show_figures(f"phonons along {found.path}", found.figures())
    write_json(to_json, found.record())
    say(f"phonopy.yaml and phonons.png in {folder}")


@app.command()
def elastic(
    model: ModelArg,
    structure: StructureArg,
    index: Index = 0,
    inputs: Inputs = None,
    to_json: Json = None,
):
    """Elastic constants of a crystal at rest (see relax --cell), by exact second derivatives."""
    from rich.table import Table

    from geojax.datasets import structure_of
    from geojax.inference import elasticity
    from geojax.zoo import load

    found = elasticity(load(model), structure_of(str(structure), index, inputs=named(inputs)))
    table = Table("GPa", *VOIGT, title="stiffness")
    for name, row in zip(VOIGT, found.stiffness.tolist(), strict=True):
        table.add_row(name, *(f"{x:.1f}" for x in row))
    show(table)
    show_figures("elasticity" if found.stable else "elasticity: not stable", found.figures())
    write_json(to_json, found.record())


@app.command()
def ipi(
    model: ModelArg,
    structure: StructureArg,
    address: Annotated[str, typer.Option(help="of the server's machine")] = "localhost",
    port: Annotated[int | None, typer.Option(help="of an internet socket  [31415]")] = None,
    unix: Annotated[str | None, typer.Option(help="the name of a UNIX socket")] = None,
    wait: Annotated[float, typer.Option(help="s, for a server that is not there yet")] = 60.0,
    index: Index = 0,
    inputs: Inputs = None,
):
    """Give energies, forces and virials to a server (i-PI, ASE) that moves the structure's atoms.

    Exit code 0 when the server stops, 2 if the model fails.
    """
    from geojax.datasets import structure_of
    from geojax.simulation import serve_ipi
    from geojax.zoo import load

    found = structure_of(str(structure), index, inputs=named(inputs))
    where = {"address": address, "port": port, "unix": unix, "wait": wait}
    done = serve_ipi(load(model), found, **where)
    say(f"the server has stopped after {done} structures")
