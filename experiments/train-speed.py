"""How many structures per second does force training take, against mlip and mace-torch (BENCH B5)?

The same frames (3BPA at 300 K, 27 atoms, cutoff 5 Å, batch 10), loss on energies and forces,
AMSGrad, float32, one thread, the same run, the networks of `force_fields.py`. The peers live in
environments of their own that the script makes.

  run:     python experiments/train-speed.py [--mlip PYTHON] [--mace PYTHON]
  time:    fifteen minutes
  expect:  on a CPU 3 times mlip and twice mace-torch
  reached: results/train-speed.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from force_fields import (
    CUTOFF,
    environment,
    geojax_network,
    mace_model,
    mlip_batches,
    mlip_field,
    write_frames,
)

BATCH, FRAMES, STEPS, ROUNDS = 10, 100, 4, 5


def geojax_part(path: str, kind: str) -> dict:
    """The planned epoch program of geojax on the frames."""
    import jax
    import numpy as np

    from geojax.config import data_of
    from geojax.graphs import sample
    from geojax.networks import fit_to_data
    from geojax.outputs import Output
    from geojax.potential import predict_fn
    from geojax.training import Optimizer, Options, Term
    from geojax.training.prepare import prepare

    data = data_of({"train": path, "valid": 1})
    samples = [sample(s, CUTOFF, labels=s.properties) for s in data.train[: FRAMES - BATCH]]
    network = fit_to_data(geojax_network(kind), samples)
    run = prepare(
        network.init,
        predict_fn(network, [Output()], forces=True),
        samples,
        [],
        [Term("energy", per_atom=True), Term("forces", 10.0)],
        Optimizer("amsgrad", learning_rate=0.01),
        Options(batch_size=BATCH, devices=1),
    )
    store = jax.device_put(run.chunks[0])
    state = [run.plan.programs["init"].run(store)]
    done = [0]

    def steps() -> None:
        bounds = (len(samples), 0, done[0], done[0] + STEPS)
        state[0], losses, _ = run.plan.programs["epoch"].run(
            state[0], store, *map(np.int32, bounds)
        )
        jax.block_until_ready(losses)
        done[0] += STEPS

    return {"parameters": run.plan.parameters, "rates": _rates(steps)}


def mlip_part(path: str, kind: str) -> dict:
    """mlip's own training step on its own batches."""
    import jax  # as installed beside mlip
    import optax
    from mlip.models.loss import MSELoss  # pyright: ignore
    from mlip.training.ema import exponentially_moving_average  # pyright: ignore
    from mlip.training.training_state import init_training_state  # pyright: ignore
    from mlip.training.training_step import make_train_step  # pyright: ignore

    batches, info = mlip_batches(path, BATCH)
    batches = batches[: FRAMES // BATCH - 1]
    field = mlip_field(kind, info)
    optimizer, ema = optax.amsgrad(0.01), exponentially_moving_average(0.99)
    step = make_train_step(field.predictor, MSELoss(), optimizer, ema, float(BATCH))
    state = [init_training_state(field.params, optimizer, ema)]
    count = [0]

    def steps() -> None:
        for _ in range(STEPS):
            batch = batches[count[0] % len(batches)]
            state[0], metrics = step(state[0], batch, 0)
            count[0] += 1
        jax.block_until_ready(metrics)

    size = sum(x.size for x in jax.tree.leaves(field.params))
    return {"parameters": int(size), "rates": _rates(steps)}


def mace_part(path: str, kind: str) -> dict:
    """A training step of mace-torch in the manner of its own loop."""
    assert kind == "MACE", "mace-torch has no other network"
    import ase.io

    frames: Any = ase.io.read(path, ":")
    model, graphs = mace_model(frames[: FRAMES - BATCH])
    import torch  # pyright: ignore[reportMissingImports]
    from mace import modules  # pyright: ignore[reportMissingImports]
    from mace.tools import torch_geometric  # pyright: ignore[reportMissingImports]

    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=BATCH, drop_last=True)
    batches = list(loader)
    loss = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=10.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
    count = [0]

    def steps() -> None:
        for _ in range(STEPS):
            batch = batches[count[0] % len(batches)]
            optimizer.zero_grad(set_to_none=True)
            found = model(batch.to_dict(), training=True, compute_force=True)
            loss(pred=found, ref=batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            count[0] += 1

    size = sum(p.numel() for p in model.parameters())
    return {"parameters": size, "rates": _rates(steps)}


def _rates(steps) -> list[float]:
    """Structures per second of each round, after one that warms up."""
    steps()
    rates = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        steps()
        rates.append(STEPS * BATCH / (time.perf_counter() - begin))
    return rates


PARTS = {"geojax": geojax_part, "mlip": mlip_part, "mace-torch": mace_part}  # by library
RUNS = ("geojax NequIP", "mlip NequIP", "geojax MACE", "mlip MACE", "mace-torch MACE")
TARGETS = {"mlip NequIP": 3.0, "mlip MACE": 3.0, "mace-torch MACE": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mlip", help="a Python that has mlip; made where it is not given")
    parser.add_argument("--mace", help="a Python that has mace-torch; likewise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FRAMES"), help="run one part")
    arguments = parser.parse_args()
    if arguments.part:
        name, path = arguments.part
        library, kind = name.split()
        print(json.dumps(PARTS[library](path, kind)))
        return
    from statistics import median, quantiles

    from results import write

    from geojax import datasets

    pythons = {
        "geojax": sys.executable,
        "mlip": arguments.mlip or environment("mlip"),
        "mace-torch": arguments.mace or environment("mace"),
    }
    one_thread = {
        "NPROC": "1",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    measured: dict[str, dict] = {name: {"parameters": 0, "rates": []} for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "frames.xyz")
        write_frames(path, datasets.load("3bpa").train[:FRAMES])
        for _ in range(arguments.rounds):  # in turn, so that a busy moment hits all of them
            for name in RUNS:
                command = [pythons[name.split()[0]], __file__, "--part", name, path]
                run = subprocess.run(
                    command, env=os.environ | one_thread, capture_output=True, text=True
                )
                if run.returncode:
                    print(f"{name}: {run.stderr.strip().splitlines()[-1]}")
                    continue
                result = json.loads(run.stdout.splitlines()[-1])
                measured[name]["parameters"] = result["parameters"]
                measured[name]["rates"] += result["rates"]
                print(name, [round(r, 2) for r in result["rates"]], flush=True)
    speeds = {
        name: {
            "parameters": f["parameters"],
            "median": median(f["rates"]),
            "quartiles": quantiles(f["rates"], n=4)[::2],
            "runs": len(f["rates"]),
        }
        for name, f in measured.items()
        if f["rates"]
    }
    ratios = {
        name: speeds[f"geojax {name.split()[1]}"]["median"] / speeds[name]["median"]
        for name in speeds
        if not name.startswith("geojax")
    }
    found = {"structures_per_second": speeds, "ratios": ratios, "targets": TARGETS}
    write("train-speed", found, f"python experiments/train-speed.py --rounds {arguments.rounds}")
    print(json.dumps({"structures_per_second": speeds, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
