"""How long do energy and forces take, beside mlip and mace-torch, and does size matter (BENCH B6)?

Ten molecules of 27 atoms (3BPA) as one batch, and silicon of 64, 512 and 4096 atoms (displaced by
0.1 Å), cutoff 5 Å; the networks of `force_fields.py`, untrained, since weights do not change the
cost; float32, one thread. Neighbour lists are made once and not timed, batches have one node and
at most one edge of padding, programs are compiled before. Each case and network has an interpreter
of its own for each library, and they take turns. Beside that, a whole step as users take it, list
included: that of ASE, after the atoms have moved, without a skin, on one structure (geojax and
mace-torch calculate the stress of a crystal there too), and geojax's `Predictor` on all structures.

Memory is the largest of a process, from its start to the last turn of the call, compilation
included. Compilations are counted while the model is made, in the first call, and in five steps of
ASE. A process may have --memory gigabytes and --patience seconds for its first call; what needs
more is written down as such, and what takes a minute for a call is called once.

Where a program's temporary memory is more than 32 MB, glibc maps it anew for each call. For 512
atoms more than a third of the time of geojax's NequIP is page faults: 123 microseconds of processor
time per atom, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (huge pages) 77; for 64 atoms 66 without.
The results are without.

  run:     python experiments/inference-speed.py [--cases 3bpa 64 512 4096] [--rounds 5]
  time:    twenty minutes, most of it mlip's compilations
  expect:  on a CPU 3 times mlip and twice mace-torch, as many microseconds per atom at every size
  reached: results/inference-speed.json
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import numpy as np
from force_fields import (
    CUTOFF,
    environment,
    geojax_network,
    mace_model,
    mlip_batches,
    mlip_field,
    write_frames,
)
from timed import Interpreter, respond, turn

MOLECULES, STEPS = 10, 5
REPEATS = {"64": 2, "512": 4, "4096": 8}  # of a cubic cell of eight atoms
CASES = ("3bpa", *REPEATS)
RUNS = {"NequIP": ("geojax", "mlip"), "MACE": ("geojax", "mlip", "mace-torch")}
TARGETS = {"mlip": 3.0, "mace-torch": 2.0}
# seconds: of a turn; of a call whose library steps too, that has three turns, that has one
TURN, WHOLE, LONG, TOO_LONG = 0.6, 2.0, 5.0, 60.0


class Ready(NamedTuple):
    """A library with a case.

    Attributes:
        call: energy and forces of all frames from lists that are made; returns the forces.
        calculator: makes one of ASE, for one structure.
        facts: parameters, edges of the batch, temporary memory of the program where it is known.
        predict: geojax's own whole call, on all frames.
    """

    call: Callable[[], np.ndarray]
    calculator: Callable[[Any], Any]
    facts: dict[str, Any]
    predict: Callable[[], Any] | None = None


def of_geojax(kind: str, frames: list[Any]) -> Ready:
    import jax

    from geojax.datasets import from_ase
    from geojax.graphs import Budget, Properties, pad, sample
    from geojax.inference import Calculator, Predictor
    from geojax.model import Card, Model
    from geojax.networks import fit_to_data
    from geojax.outputs import Output

    structures = [from_ase(atoms, labels=False) for atoms in frames]
    samples = [sample(s, CUTOFF, labels=Properties()) for s in structures]
    network = fit_to_data(geojax_network(kind), samples)
    nodes = sum(len(s) for s in structures)
    edges = sum(int(s.graph.n_edge[0]) for s in samples)
    budget = Budget(nodes + 1, edges, len(samples) + 1)
    graph = jax.device_put(pad(samples, budget, np.dtype("float32")).graph)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    card = Card(outputs=(Output(),), elements=network.elements, forces=True)
    model = Model(network, params, card)
    predictor = Predictor(model)
    program = predictor.engine.program(True, False, False)  # the parameters are bound to it
    run = program.func.lower(*program.args, graph).compile()
    bound = jax.device_put(program.args)

    def call() -> np.ndarray:
        found = jax.block_until_ready(run(*bound, graph))
        return np.asarray(found.forces)[:nodes]

    def predict() -> Any:
        moved = [s.replace(positions=_moved(s.positions)) for s in structures]
        return predictor(moved, ["energy", "forces"])

    facts = {
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "edges": edges,
        "temporary": int(run.memory_analysis().temp_size_in_bytes),
    }
    return Ready(call, lambda atoms: Calculator(model, skin=0.0), facts, predict)


def of_mlip(kind: str, frames: list[Any], path: str) -> Ready:
    import jax
    from mlip.data.chemical_system import ChemicalSystem  # pyright: ignore
    from mlip.data.helpers.dynamically_batch import dynamically_batch  # pyright: ignore
    from mlip.graph import Graph  # pyright: ignore
    from mlip.graph.edge_ordering import DEFAULT_EDGE_ORDERING  # pyright: ignore
    from mlip.simulation.ase.mlip_ase_calculator import (  # pyright: ignore
        MLIPForceFieldASECalculator,
    )

    field = mlip_field(kind, mlip_batches(path, 1)[1])
    graphs = [
        Graph.from_chemical_system(
            ChemicalSystem.from_ase_atoms(atoms), CUTOFF, ordering=DEFAULT_EDGE_ORDERING
        )
        for atoms in frames
    ]
    nodes, edges = sum(map(len, frames)), sum(len(g.senders) for g in graphs)
    batched = dynamically_batch(graphs, nodes + 1, edges + 1, len(graphs) + 1)
    batch = jax.device_put(next(iter(batched)))
    run = jax.jit(field.calculate).lower(batch).compile()  # as in mlip's own calculator

    def call() -> np.ndarray:
        return np.asarray(jax.block_until_ready(run(batch)).nodes.forces)[:nodes]

    memory: Any = run.memory_analysis()
    facts = {
        "parameters": int(sum(x.size for x in jax.tree.leaves(field.params))),
        "edges": edges,
        "temporary": int(memory.temp_size_in_bytes),
    }
    return Ready(call, lambda atoms: MLIPForceFieldASECalculator(atoms, 1.25, field), facts)


def of_mace_torch(frames: list[Any]) -> Ready:
    model, graphs = mace_model(frames)
    from mace.calculators import MACECalculator  # pyright: ignore
    from mace.tools import torch_geometric  # pyright: ignore

    for weight in model.parameters():
        weight.requires_grad_(False)  # forces need no gradients of weights
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs))
    batch = next(iter(loader)).to_dict()

    def call() -> np.ndarray:
        return model(dict(batch), training=False, compute_force=True)["forces"].detach().numpy()

    def calculator(atoms: Any) -> Any:
        return MACECalculator(models=[model], device="cpu", default_dtype="float32")

    size = sum(p.numel() for p in model.parameters())
    return Ready(call, calculator, {"parameters": size, "edges": batch["edge_index"].shape[1]})


def _moved(positions: np.ndarray) -> np.ndarray:
    return positions + np.random.default_rng().normal(0, 0.01, positions.shape)


def prepared(library: str, kind: str, path: str) -> Ready:
    import ase.io

    frames: Any = ase.io.read(path, ":")
    if library == "mlip":
        return of_mlip(kind, frames, path)
    return of_geojax(kind, frames) if library == "geojax" else of_mace_torch(frames)


def serve(library: str, memory: float) -> None:
    """Answer requests for one case: "prepare", then times of turns."""
    limit = int(memory * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    compiled = [0]
    if library != "mace-torch":  # which compiles nothing
        import jax

        def listen(event: str, duration_secs: float, **unused: Any) -> None:
            compiled[0] += event == "/jax/core/compile/backend_compile_duration"

        jax.monitoring.register_event_duration_secs_listener(listen)
    ready: list[Ready] = []
    stepping: list[Any] = []

    def prepare(kind: str, path: str) -> dict[str, Any]:
        begin = time.perf_counter()
        ready[:] = [prepared(library, kind, path)]
        middle, made = time.perf_counter(), compiled[0]
        forces = ready[0].call()
        seconds = {"preparation": middle - begin, "first": time.perf_counter() - middle}
        if not np.isfinite(forces).all() or not forces.any():
            raise FloatingPointError("forces must be finite and not all zero; some are not")
        return ready[0].facts | seconds | {"compilations": made, "again": compiled[0] - made}

    def step() -> None:
        stepping[0].positions = _moved(stepping[0].positions)
        stepping[0].get_forces()

    def make_whole(path: str) -> dict[str, Any]:
        import ase.io

        stepping[:] = [ase.io.read(path, 0)]
        stepping[0].calc = ready[0].calculator(stepping[0])
        for whole in (step, ready[0].predict):
            if whole is not None:
                whole()
        return {}

    def answer(ask: str, case: list[Any], limit: float, **unused: Any) -> dict[str, Any]:
        if ask == "prepare":
            return prepare(*case)
        if ask == "whole":
            return make_whole(case[1])
        before = compiled[0]
        run = {"call": ready[0].call, "step": step, "predict": ready[0].predict}[ask]
        assert run is not None
        times = turn(run, limit, 20 if ask == "call" else STEPS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"times": times, "peak": peak, "compilations": compiled[0] - before}

    respond(answer)


def measured(
    case: str, kind: str, path: str, atoms: int, pythons: dict[str, str], arguments: Any
) -> dict[str, Any]:
    """Figures of each library, or the reason why there are none."""
    command = [str(Path(__file__)), "--memory", str(arguments.memory), "--serve"]
    sides = {
        library: Interpreter([pythons[library], *command, library], arguments.patience)
        for library in RUNS[kind]
    }
    found = {side: i.ask("prepare", (kind, path)) for side, i in sides.items()}
    print(f"prepared {case} {kind}", json.dumps(found), flush=True)
    edges = {row["edges"] for row in found.values() if "edges" in row}
    assert len(edges) < 2, f"all libraries have the same edges; {found}"
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side, interpreter in sides.items():
            most = arguments.rounds if min(times[side], default=0) < LONG else 3
            most = most if min(times[side], default=0) < TOO_LONG else 1
            if "error" in found[side] or number >= most:
                continue
            answer = interpreter.ask("call", limit=TURN)
            if "error" in answer:
                found[side] = answer
                continue
            times[side] += answer["times"]
            found[side]["peak"] = answer["peak"]
    for side, row in found.items():
        if "error" not in row:
            row |= per_atom(times[side], atoms)
    print(f"measured {case} {kind}", flush=True)
    whole_calls(case, kind, path, atoms, sides, found)
    for interpreter in sides.values():
        interpreter.stop()
    return found


def whole_calls(
    case: str,
    kind: str,
    path: str,
    atoms: int,
    sides: dict[str, Interpreter],
    found: dict[str, Any],
) -> None:
    """Adds a step of ASE and a call of the predictor, lists included."""
    one = atoms // MOLECULES if case == "3bpa" else atoms
    seconds = {s: 1e-6 * atoms * row["median"] for s, row in found.items() if "median" in row}
    able = [s for s in seconds if s == "geojax" or seconds[s] < WHOLE]
    answers = {side: sides[side].ask("whole", (kind, path)) for side in able}
    print(f"prepared {case} {kind}, whole", flush=True)
    for side, answer in answers.items():
        for ask in ("step", "predict") if side == "geojax" else ("step",):
            row = answer if "error" in answer else sides[side].ask(ask, limit=TURN)
            if "error" not in row:
                figures = per_atom(row["times"], atoms if ask == "predict" else one)
                row = figures | {"compilations": row["compilations"]}
            found[side][ask] = row
    print(f"measured {case} {kind}, whole", flush=True)


def per_atom(times: list[float], atoms: int) -> dict[str, Any]:
    """Microseconds."""
    micro = [1e6 * t / atoms for t in times]
    spread = quantiles(micro, n=4)[::2] if len(micro) > 1 else micro * 2
    return {"median": median(micro), "quartiles": spread, "runs": len(micro)}


def structures(case: str) -> list[Any]:
    """The frames of a case."""
    from ase.build import bulk

    from geojax import datasets
    from geojax.graphs import Structure

    if case == "3bpa":
        return list(datasets.load("3bpa").train[:MOLECULES])
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * ((REPEATS[case],) * 3)
    moved = atoms.positions + np.random.default_rng(0).normal(0, 0.1, atoms.positions.shape)
    return [Structure(moved, atoms.numbers, atoms.cell.array, (True, True, True))]


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """How often geojax is faster, and how far its time per atom is from flat in silicon."""
    ratios: dict[str, Any] = {}
    for case, kinds in rows.items():
        for kind, found in kinds.items():
            ours = found["geojax"].get("median")
            for side in set(found) & set(TARGETS):
                if ours and "median" in found[side]:
                    ratios.setdefault(f"{side} {kind}", {})[case] = found[side]["median"] / ours
    flat = {}
    for kind, sides in RUNS.items():
        for side in sides:
            there = [rows[c][kind][side].get("median") for c in REPEATS if c in rows]
            if len(there) > 1 and all(there):
                flat[f"{side} {kind}"] = max(there) / min(there)
    return {"ratios": ratios, "targets": TARGETS, "largest over smallest, silicon": flat}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=float, default=12.0, help="of a process [GB]")
    parser.add_argument("--patience", type=float, default=600.0, help="for a first call [s]")
    parser.add_argument("--mlip", help="a Python that has mlip; made where it is not given")
    parser.add_argument("--mace", help="a Python that has mace-torch; likewise")
    parser.add_argument("--dry", action="store_true", help="write no result")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.memory)
        return
    from results import result, write

    pythons = {
        "geojax": sys.executable,
        "mlip": arguments.mlip or environment("mlip"),
        "mace-torch": arguments.mace or environment("mace"),
    }
    old = (result("inference-speed") or {"rows": {}})["rows"]  # of the cases not asked for
    rows = {case: old[case] for case in CASES if case in old}
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.cases:
            path, frames = str(Path(folder) / f"{case}.xyz"), structures(case)
            write_frames(path, frames)
            atoms = sum(map(len, frames))
            rows[case] = {
                kind: measured(case, kind, path, atoms, pythons, arguments) for kind in RUNS
            }
            rows = {case: rows[case] for case in CASES if case in rows}
            print(case, json.dumps(rows[case], indent=1), flush=True)
            if not arguments.dry:
                write("inference-speed", {"rows": rows} | summary(rows), _command(arguments))
    print(json.dumps(summary(rows), indent=1))


def _command(arguments: Any) -> str:
    cases = "" if len(arguments.cases) == len(CASES) else " --cases " + " ".join(arguments.cases)
    return f"python experiments/inference-speed.py{cases} --rounds {arguments.rounds}"


if __name__ == "__main__":
    main()
