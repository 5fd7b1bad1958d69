"""Molecular dynamics through ASE: constant energy, temperature or pressure, with resume.

geojax has no integrators of its own. All ensembles are those of one of ASE's, Langevin dynamics in
the splitting BAOAB, which is velocity Verlet where there is no thermostat.

References:
    Leimkuhler, Matthews, J. Chem. Phys. 138, 174102 (2013); for the cell Quigley, Probert, J. Chem.
    Phys. 120, 11432 (2004).
"""

import io
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from geojax.datasets import from_ase
from geojax.datasets.formats import append
from geojax.files import write_whole
from geojax.graphs import Properties
from geojax.signals import Signals, Stopped
from geojax.units import PRESSURE

__all__ = ["Dynamics", "Record", "molecular_dynamics"]

COLUMNS = ("step", "time", "potential", "kinetic", "temperature", "volume", "pressure")
LOG, FRAMES, STATE, SETTINGS = "log.csv", "trajectory.extxyz", "state.npz", "settings.json"
SAVED = "step lengths numbers positions momenta cell cell_momentum random".split()


@dataclass(frozen=True)
class Dynamics:
    """What is kept constant: the energy unless there is a temperature, the cell unless a pressure.

    Attributes:
        temperature: [K] of the thermostat; None: none.
        pressure: [GPa] of the barostat, positive compresses; None: the cell stays.
        thermostat_time: [fs], inverse friction.
        barostat_time: [fs], of the fluctuations of the cell.
        isotropic: the cell keeps its shape; else all of it moves.
        timestep: [fs].
        start: [K], of the first velocities, drawn where the atoms have none; None: the
            temperature, or 300 K.
        seed: of the first velocities and the thermostat.

    Raises:
        ValueError: a time, a temperature or a step that is not positive.
    """

    temperature: float | None = None
    pressure: float | None = None
    thermostat_time: float = 100.0
    barostat_time: float = 1000.0
    isotropic: bool = True
    timestep: float = 0.5
    start: float | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("timestep", "thermostat_time", "barostat_time", "temperature", "start"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} is a positive number; got {value}")


@dataclass(frozen=True, eq=False)
class Record:
    """What was kept of a run, one entry per kept frame.

    Attributes:
        time: [fs].
        potential, kinetic: [eV].
        temperature: [K], of all momenta, without the degrees of freedom of the whole.
        volume: [Å³], and pressure [GPa], with the kinetic part: NaN without a moving cell.
        positions: [Å]; None where they were written to a folder.
        nodes: how many atoms.
        dynamics: that was asked for.
    """

    time: Float[np.ndarray, "frame"]
    potential: Float[np.ndarray, "frame"]
    kinetic: Float[np.ndarray, "frame"]
    temperature: Float[np.ndarray, "frame"]
    volume: Float[np.ndarray, "frame"]
    pressure: Float[np.ndarray, "frame"]
    positions: Float[np.ndarray, "frame node 3"] | None
    nodes: int
    dynamics: Dynamics

    @property
    def total(self) -> Float[np.ndarray, "frame"]:
        """Potential and kinetic energy [eV]."""
        return self.potential + self.kinetic

    @property
    def drift(self) -> float:
        """[eV/atom/ps], the slope of the total energy after the first tenth."""
        settled = slice(len(self.time) // 10, None)
        if len(self.time[settled]) < 2:
            return 0.0
        slope = np.polyfit(self.time[settled], self.total[settled], 1)[0]
        return float(1000 * slope / self.nodes)

    def summary(self) -> dict[str, float]:
        """Means and spreads after the first tenth, for a report."""
        settled = slice(len(self.time) // 10, None)
        found = {
            "picoseconds": float(self.time[-1]) / 1000,
            "temperature [K]": float(self.temperature[settled].mean()),
        }
        if self.dynamics.temperature is None and self.dynamics.pressure is None:
            found["drift [meV/atom/ps]"] = 1000 * self.drift
            found["fluctuation [meV/atom]"] = 1000 * float(self.total[settled].std()) / self.nodes
        if self.dynamics.pressure is not None:
            found["pressure [GPa]"] = float(self.pressure[settled].mean())
            found["volume [Å³]"] = float(self.volume[settled].mean())
        return found


def molecular_dynamics(
    atoms: Any,
    dynamics: Dynamics | None = None,
    *,
    steps: int,
    every: int = 20,
    folder: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Any = None,
) -> Record:
    """Move atoms for so many steps, and keep a frame every so many.

    With a folder, frames are appended to `trajectory.extxyz` (energies, forces and velocities
    [Å/fs] beside the positions) and numbers to `log.csv`; a run that was stopped, or is asked for
    more steps, goes on where its state was saved: about each minute, at the end, and on SIGTERM or
    SIGINT.

    Args:
        atoms: ASE's, with a calculator; moved in place.
        dynamics: constant energy by default.
        steps: from the beginning of the run, in all.
        every: steps between kept frames.
        folder: of the run.
        checkpoint_seconds: between saved states.
        progress: called with the step and the temperature [K] now and then.

    Raises:
        ImportError: ase is not installed.
        ValueError: a pressure without a lattice, steps or every are no counts, or the folder holds
            a run with other settings or other atoms.
        Stopped: a signal came; the state is saved.
    """
    dynamics = Dynamics() if dynamics is None else dynamics
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every are 1 or more; got steps={steps}, every={every}")
    if dynamics.pressure is not None and not all(atoms.pbc):
        raise ValueError(
            f"a pressure needs a lattice in three directions; got pbc={list(atoms.pbc)}; leave "
            "pressure=None"
        )
    run = _Run(atoms, dynamics, every, None if folder is None else Path(folder))
    with Signals() as signals:
        saved = time.monotonic()
        for done in run.to(steps):
            signal = signals.received
            if signal is not None or done == steps or time.monotonic() - saved > checkpoint_seconds:
                run.save(done)
                saved = time.monotonic()
            if progress is not None:
                progress(done, atoms.get_temperature())
            if signal is not None:
                raise Stopped(128 + signal)
    return run.record()


class _Run:
    """The integrator, what it has put out, and how both are saved."""

    def __init__(self, atoms: Any, dynamics: Dynamics, every: int, folder: Path | None):
        self.atoms, self.dynamics, self.every, self.folder = atoms, dynamics, every, folder
        self.rows: list[tuple[float, ...]] = []
        self.frames: list[np.ndarray] = []
        state = self._start(dynamics)
        self.done = 0 if state is None else int(state["step"])
        if state is None:
            _thermalize(atoms, dynamics)
        self.random = np.random.default_rng(dynamics.seed + 1)
        self.engine = _engine(atoms, dynamics, self.random)
        if state is not None:
            self._restore(state)
        else:
            self._keep(0)
            self.save(0)

    def to(self, steps: int) -> Iterator[int]:
        """Steps done after each kept frame, up to all of them."""
        if self.done > steps:
            raise ValueError(f"the run has done {self.done} steps already; got steps={steps}")
        while self.done < steps:
            chunk = min(self.every - self.done % self.every, steps - self.done)
            self.engine.run(chunk)
            self.done += chunk
            if self.done % self.every == 0:
                self._keep(self.done)
            yield self.done

    def _keep(self, step: int) -> None:
        atoms, moving = self.atoms, self.dynamics.pressure is not None
        pressure = np.nan
        if moving:
            stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
            pressure = -np.trace(stress) / 3 / PRESSURE["GPa"]
        row = (
            step,
            step * self.dynamics.timestep,
            atoms.get_potential_energy(),
            atoms.get_kinetic_energy(),
            atoms.get_temperature(),
            atoms.get_volume() if moving else np.nan,
            pressure,
        )
        self.rows.append(row)
        if self.folder is None:
            self.frames.append(atoms.get_positions())
            return
        with open(self.folder / LOG, "a", encoding="utf-8") as log:
            log.write(",".join(repr(float(x)) for x in row) + "\n")
        frame = from_ase(atoms, labels=False)
        velocities = atoms.get_velocities() * _units().fs
        frame = frame.replace(inputs={**frame.inputs, "velocities": velocities})
        forces = np.array(atoms.get_forces())
        append(self.folder / FRAMES, frame, Properties(energy=np.array(row[2]), forces=forces))

    def save(self, step: int) -> None:
        """The state, and how long the files were when it was."""
        if self.folder is None:
            return
        lengths = [(self.folder / name).stat().st_size for name in (LOG, FRAMES)]
        content = io.BytesIO()
        np.savez(
            content,
            step=step,
            lengths=lengths,
            numbers=self.atoms.numbers,
            positions=self.atoms.positions,
            momenta=self.atoms.get_momenta(),
            cell=np.array(self.atoms.cell),
            cell_momentum=getattr(self.engine, "p_eps", 0.0),
            random=json.dumps(self.random.bit_generator.state),
        )
        write_whole({self.folder / STATE: content.getvalue()})

    def _start(self, dynamics: Dynamics) -> dict[str, Any] | None:
        """The saved state, if there is one; else the folder and the heads of its files."""
        if self.folder is None:
            return None
        settings = json.dumps({**asdict(dynamics), "every": self.every}, indent=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        before, state, frames = (self.folder / name for name in (SETTINGS, STATE, FRAMES))
        said = before.read_text(errors="replace") if before.exists() else None
        if said not in (None, settings):
            raise ValueError(
                f"a run goes on with the settings that it began with; {before} says "
                f"{' '.join(said.split())}, and got {' '.join(settings.split())}; "
                "use another folder"
            )
        begun = state.exists() or (frames.exists() and frames.stat().st_size > 0)
        if begun and (said is None or not state.exists()):
            raise ValueError(
                f"a run goes on from its saved state and settings; {self.folder} holds a run and "
                f"{SETTINGS if said is None else STATE} is missing; put it back, or use another "
                "folder"
            )
        if not begun:
            before.write_text(settings)
            (self.folder / LOG).write_text(",".join(COLUMNS) + "\n")
            frames.write_text("")
            return None
        return self._read()

    def _read(self) -> dict[str, Any]:
        """The saved state, which becomes that of the atoms."""
        assert self.folder is not None
        path = self.folder / STATE
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                state = {name: archive[name] for name in SAVED}  # compares the CRC-32 of each
        except Exception as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}); put it back as it was, or use "
                "another folder"
            ) from error
        for name, length in zip((LOG, FRAMES), state["lengths"], strict=True):
            file = self.folder / name
            size = file.stat().st_size if file.exists() else 0
            if size < length:
                raise ValueError(
                    f"a run goes on at the end of its files; {file} had {length} bytes when the "
                    f"state was saved and has {size}; put it back as it was, or use another folder"
                )
        if not np.array_equal(state["numbers"], self.atoms.numbers):
            raise ValueError(
                f"a run goes on with its own atoms; {self.folder} holds one of "
                f"{len(state['numbers'])} atoms, others than the {len(self.atoms)} given; use "
                "another folder"
            )
        self.atoms.set_cell(state["cell"])
        self.atoms.set_positions(state["positions"])
        self.atoms.set_momenta(state["momenta"])
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        """The rest of the state, and the files as long as they were."""
        assert self.folder is not None
        if hasattr(self.engine, "p_eps"):
            self.engine.p_eps = state["cell_momentum"]
        self.random.bit_generator.state = json.loads(str(state["random"]))
        for name, length in zip((LOG, FRAMES), state["lengths"], strict=True):
            with open(self.folder / name, "r+b") as file:
                file.truncate(int(length))
        lines = (self.folder / LOG).read_text().splitlines()[1:]
        self.rows = [tuple(float(x) for x in line.split(",")) for line in lines]

    def record(self) -> Record:
        columns = dict(zip(COLUMNS, np.array(self.rows).T, strict=True))
        del columns["step"]
        positions = np.array(self.frames) if self.folder is None else None
        return Record(**columns, positions=positions, nodes=len(self.atoms), dynamics=self.dynamics)


def _thermalize(atoms: Any, dynamics: Dynamics) -> None:
    """First velocities, without momentum and, outside a lattice, without rotation."""
    from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta

    if atoms.get_momenta().any():
        return
    temperature = dynamics.start or dynamics.temperature or 300.0
    thermalize_momenta(atoms, temperature, rng=np.random.default_rng(dynamics.seed))
    Stationary(atoms)
    if not atoms.pbc.any() and atoms.get_moments_of_inertia().min() > 1e-3:  # not a line
        ZeroRotation(atoms)


def _units() -> Any:
    from ase import units

    return units


def _engine(atoms: Any, dynamics: Dynamics, random: np.random.Generator) -> Any:
    try:
        from ase.md.langevinbaoab import LangevinBAOAB
    except ImportError as error:
        raise ImportError("dynamics run in ASE 3.27; pip install 'geojax[atoms]'") from error
    units = _units()
    options: dict[str, Any] = {"rng": random}
    if dynamics.temperature is not None:
        options["temperature_K"] = dynamics.temperature
        options["T_tau"] = dynamics.thermostat_time * units.fs
    if dynamics.pressure is not None:
        options["externalstress"] = -dynamics.pressure * units.GPa
        options["P_tau"] = dynamics.barostat_time * units.fs
        options["hydrostatic"] = dynamics.isotropic
    with warnings.catch_warnings():  # the mass of the barostat follows from its time
        warnings.filterwarnings("ignore", "Using heuristic P_mass")
        return LangevinBAOAB(atoms, dynamics.timestep * units.fs, **options)
