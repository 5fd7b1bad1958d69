"""How many structures per second does force training take, against mlip and mace-torch (BENCH B5)?

The same frames (3BPA at 300 K, 27 atoms, cutoff 5 Å, batch 10), loss on energies and forces,
AMSGrad, float32, one thread, the same run. The networks have the same widths: 2 layers, 64 channels
of degree 0 and 1, 8 Bessel functions; NequIP with the radial network [64, 64] and readout 32; MACE
with lmax 3, correlation 3 (body order 4), the radial network [64, 64, 64] and readout 16. The peers
count more parameters: mlip's NequIP makes vectors in its last layer that its readout drops, and has
a self-connection in its first; both MACEs have weights for couplings that span the same
polynomials more than once. mace-torch has the residual first layer, its default, which is less work
than ours. The peers live in environments of their own that the script makes.

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

HERE = Path(__file__).parent
CUTOFF, CHANNELS, LAYERS, BATCH, FRAMES, STEPS, ROUNDS = 5.0, 64, 2, 10, 100, 4, 5


def geojax_part(path: str, kind: str) -> dict:
    """The planned epoch program of geojax on the frames."""
    import jax
    import numpy as np

    from geojax.config import data_of
    from geojax.graphs import sample
    from geojax.networks import MACE, NequIP, fit_to_data
    from geojax.outputs import Output
    from geojax.potential import predict_fn
    from geojax.training import Optimizer, Options, Term
    from geojax.training.prepare import prepare

    data = data_of({"train": path, "valid": 1})
    network = {
        "NequIP": NequIP(CUTOFF, CHANNELS, 1, LAYERS, parity=False),
        "MACE": MACE(CUTOFF, CHANNELS, lmax=3, lmax_hidden=1, layers=LAYERS, correlation=3),
    }[kind]
    samples = [sample(s, CUTOFF, labels=s.properties) for s in data.train[: FRAMES - BATCH]]
    network = fit_to_data(network, samples)
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
    from mlip.data import ExtxyzReader, GraphDatasetBuilder  # pyright: ignore
    from mlip.models import ForceField, Mace, Nequip  # pyright: ignore
    from mlip.models.loss import MSELoss  # pyright: ignore
    from mlip.training.ema import exponentially_moving_average  # pyright: ignore
    from mlip.training.training_state import init_training_state  # pyright: ignore
    from mlip.training.training_step import make_train_step  # pyright: ignore

    config = GraphDatasetBuilder.Config(graph_cutoff_angstrom=CUTOFF, batch_size=BATCH)
    builder = GraphDatasetBuilder({"train": ExtxyzReader(path)}, config)
    batches = [b for b in _train_split(builder.get_datasets())][: FRAMES // BATCH - 1]
    info = builder.dataset_info
    if kind == "NequIP":
        irreps = f"{CHANNELS}x0e + {CHANNELS}x1o"
        options = {"target_irreps": irreps, "l_max": 1, "radial_mlp_hidden": [64, 64]}
        network = Nequip(Nequip.Config(num_layers=LAYERS, **options), info)
    else:
        options = {"num_channels": CHANNELS, "l_max": 3, "node_symmetry": 1, "correlation": 3}
        network = Mace(Mace.Config(num_layers=LAYERS, **options), info)
    field = ForceField.from_mlip_network(network)
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


def _train_split(splits):
    return splits["train"] if isinstance(splits, dict) else splits[0]


def mace_part(path: str, kind: str) -> dict:
    """A training step of mace-torch in the manner of its own loop."""
    assert kind == "MACE", "mace-torch has no other network"
    import ase.io
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]
    from e3nn import o3  # pyright: ignore[reportMissingImports]
    from mace import data, modules, tools  # pyright: ignore[reportMissingImports]
    from mace.tools import torch_geometric  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    frames: Any = ase.io.read(path, ":")
    frames = frames[: FRAMES - BATCH]
    table = tools.get_atomic_number_table_from_zs(z for atoms in frames for z in atoms.numbers)
    keys = data.KeySpecification(info_keys={"energy": "energy"}, arrays_keys={"forces": "forces"})
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["energy"], atoms.arrays["forces"] = energy, forces
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(atoms, key_specification=keys), z_table=table, cutoff=CUTOFF
        )
        for atoms in frames
    ]
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=BATCH, drop_last=True)
    batches = list(loader)
    neighbors = np.mean([g.edge_index.shape[1] / g.num_nodes for g in graphs])
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=LAYERS,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(table)),
        avg_num_neighbors=float(neighbors),
        atomic_numbers=table.zs,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
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
PEERS = {"mlip": ["mlip==0.2.5", "jax==0.10.1"], "mace": ["torch==2.13.0", "mace-torch==0.3.16"]}


def peer_environment(name: str) -> str:
    """The Python of an environment with the peer, made at the first run."""
    folder = HERE.parent / ".cache" / f"peer-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in PEERS[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
    return str(python)


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
        "mlip": arguments.mlip or peer_environment("mlip"),
        "mace-torch": arguments.mace or peer_environment("mace"),
    }
    one_thread = {
        "NPROC": "1",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    }
    measured: dict[str, dict] = {name: {"parameters": 0, "rates": []} for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "frames.xyz")
        _write_frames(path, datasets.load("3bpa").train[:FRAMES])
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


def _write_frames(path: str, structures) -> None:
    """The frames as ASE writes labelled frames, which every part can read."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    from geojax.datasets import to_ase

    frames = []
    for structure in structures:
        atoms = to_ase(structure)
        atoms.cell = None  # some files give a molecule one, and readers differ in what it means
        labels = {
            "energy": float(structure.properties.energy),
            "forces": structure.properties.forces,
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


if __name__ == "__main__":
    main()
