"""How many training steps per second does EGNN take on the charged 5-body system (BENCH B7)?

The published layer structure in PyTorch (eager, and torch.compile where it works) against geojax's
whole epoch as one program: same data shapes, batch 100, 4 layers of 64 channels, Adam, one thread,
the same run. PyTorch lives in an environment of its own that the script makes.

  run:     python experiments/egnn-speed.py [--peer PYTHON]
  time:    five minutes
  expect:  3 times eager and 2 times torch.compile on a CPU
  reached: results/egnn-speed.json
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
LAYERS, WIDTH, BATCH, NODES = 4, 64, 100, 5
STEPS = 60


def torch_steps_per_second(compiled: bool) -> list[float]:
    """Run in the peer's environment: EGNN with velocities as published, fully connected."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.manual_seed(0)

    def mlp(inputs: int, out: int, last_bias: bool = True, end: bool = False) -> nn.Sequential:
        parts = [nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, out, bias=last_bias)]
        return nn.Sequential(*parts, *[nn.SiLU()] * end)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.edge = mlp(2 * WIDTH + 3, WIDTH, end=True)
            self.node, self.pull = mlp(2 * WIDTH, WIDTH), mlp(WIDTH, 1, last_bias=False)
            self.speed = mlp(WIDTH, 1)

        def forward(self, h, x, v, row, col, attributes, count):
            r = x[row] - x[col]
            square = (r * r).sum(1, keepdim=True)
            m = self.edge(torch.cat([h[row], h[col], square, attributes], 1))
            pull = torch.zeros_like(x).index_add(0, row, r * self.pull(m)) / count
            x = x + pull + self.speed(h) * v
            total = torch.zeros(len(h), WIDTH).index_add(0, row, m)
            return h + self.node(torch.cat([h, total], 1)), x

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Linear(1, WIDTH)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

        def forward(self, x, v, q, row, col, count):
            h = self.embedding(v.norm(dim=1, keepdim=True))
            square = ((x[row] - x[col]) ** 2).sum(1, keepdim=True)
            attributes = torch.cat([q[row] * q[col], square], 1)
            for layer in self.layers:
                h, x = layer(h, x, v, row, col, attributes, count)
            return x

    pairs = [(i, j) for i in range(NODES) for j in range(NODES) if i != j]
    offsets = range(0, BATCH * NODES, NODES)
    row, col = torch.tensor([(i + o, j + o) for o in offsets for i, j in pairs]).T.contiguous()
    n = BATCH * NODES
    x, v, target = torch.randn(n, 3), torch.randn(n, 3), torch.randn(n, 3)
    q, count = torch.sign(torch.randn(n, 1)), torch.full((n, 1), NODES - 1.0)
    network = Network()
    assert sum(p.numel() for p in network.parameters()) == 134_020
    run = torch.compile(network) if compiled else network
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(run(x, v, q, row, col, count), target).backward()
        optimizer.step()

    return _rates(step, lambda: None)


def _rates(step, wait, rounds: int = 7) -> list[float]:
    for _ in range(5):
        step()
    rates = []
    for _ in range(rounds):
        wait()
        begin = time.perf_counter()
        for _ in range(STEPS // rounds + 1):
            step()
        wait()
        rates.append((STEPS // rounds + 1) / (time.perf_counter() - begin))
    return rates


def geojax_steps_per_second(layout: str) -> list[float]:
    """The compiled epoch on random data of the same shape."""
    import jax
    import numpy as np

    from geojax.graphs import Properties, Structure, sample
    from geojax.networks import EGNN
    from geojax.outputs import Output
    from geojax.potential import predict_fn
    from geojax.training import Optimizer, Options, Term
    from geojax.training.prepare import prepare

    rng = np.random.default_rng(0)
    slots = NODES - 1 if layout == "table" else None
    samples = []
    for _ in range(10 * BATCH):
        inputs = {
            "velocities": rng.normal(size=(NODES, 3)),
            "charges": rng.choice([-1.0, 1], NODES),
        }
        structure = Structure(rng.normal(size=(NODES, 3)), np.zeros(NODES, int), inputs=inputs)
        labels = Properties(node_targets={"positions": rng.normal(size=(NODES, 3))})
        samples.append(sample(structure, np.inf, slots=slots, labels=labels))
    network = EGNN(velocity="velocities", charge="charges", update_positions=True, irreps_out="1o")
    output = Output("node_targets.positions", "1o", relative_to="positions")
    run = prepare(
        network.init,
        predict_fn(network, [output]),
        samples,
        [],
        [Term("node_targets.positions")],
        Optimizer(learning_rate=5e-4),
        Options(batch_size=BATCH, ema=0.0, devices=1),
        slots=slots,
    )
    assert run.plan.parameters == 134_020
    store = jax.device_put(run.chunks[0])
    state = run.plan.programs["init"].run(store)
    rates, done, stride = [], 0, 20
    for _ in range(8):
        bounds = np.int32(10 * BATCH), np.int32(0), np.int32(done), np.int32(done + stride)
        begin = time.perf_counter()
        state, losses, _ = run.plan.programs["epoch"].run(state, store, *bounds)
        jax.block_until_ready(losses)
        rates.append(stride / (time.perf_counter() - begin))
        done += stride
    return rates[1:]


def peer_environment() -> str:
    folder = HERE.parent / ".cache" / "peer-torch"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch==2.13.0"], check=True)
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", help="a Python that has PyTorch; made where it is not given")
    parser.add_argument("--part", help="run one part and print its rates")
    arguments = parser.parse_args()
    parts = {
        "torch eager": lambda: torch_steps_per_second(False),
        "torch.compile": lambda: torch_steps_per_second(True),
        "geojax list": lambda: geojax_steps_per_second("list"),
        "geojax table": lambda: geojax_steps_per_second("table"),
    }
    if arguments.part:
        print(json.dumps(parts[arguments.part]()))
        return
    peer = arguments.peer or peer_environment()
    one_thread = {"NPROC": "1", "OMP_NUM_THREADS": "1"}
    rates: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(3):  # in turn, so that a busy moment of the machine hits all of them
        for name in parts:
            python = sys.executable if name.startswith("geojax") else peer
            command = [python, __file__, "--part", name]
            run = subprocess.run(
                command, env=os.environ | one_thread, capture_output=True, text=True
            )
            if run.returncode:
                print(f"{name}: {run.stderr.strip().splitlines()[-1]}")
                continue
            rates[name] += json.loads(run.stdout.splitlines()[-1])
    from statistics import median, quantiles

    from results import write

    speeds = {
        name: {"median": median(r), "quartiles": quantiles(r, n=4)[::2], "runs": len(r)}
        for name, r in rates.items()
        if r
    }
    best = max(s["median"] for name, s in speeds.items() if name.startswith("geojax"))
    ratios = {
        name: best / s["median"] for name, s in speeds.items() if not name.startswith("geojax")
    }
    found = {"steps_per_second": speeds, "ratios": ratios, "targets": [3.0, 2.0]}
    write("egnn-speed", found, "python experiments/egnn-speed.py")
    print(json.dumps({"steps_per_second": speeds, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
