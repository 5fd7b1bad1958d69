"""How fast are searches, sampling and networks on clouds, beside PyTorch's?

Each case is timed in turn in an interpreter of its own for geojax and for PyTorch (torch-cluster's
searches, PyTorch Geometric's layers), on one thread, float32, compiled (geojax) or without gradient
bookkeeping (torch, but where it trains). The clouds are uniform in a ball. What is compared:

    farthest       farthest-point sampling of a quarter of the points
    nearest        the 20 nearest points of each
    abstraction    PointNet++: a quarter of the points, 32 around each, layers 64 64 128, maximum
    dgcnn          the published classifier (k = 20, widths 64 64 128 256, 1024), forward
    dgcnn, training    loss, gradients of all parameters; no optimizer

Norms act by constants in both (as they do once trained): torch's are identities.

run:     python experiments/points-speed.py --torch PYTHON   (one with torch, torch-geometric and
         torch-cluster)
time:    fifteen minutes on one CPU core
expect:  networks and sampling faster, searches of a tree faster than those that compare all pairs
reached: results/points-speed.json
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timed import Interpreter, respond, turn

NEIGHBORS, BALL = 20, 32
CASES = {
    "farthest": [(1024, 1), (16384, 1)],
    "nearest": [(1024, 1), (16384, 1)],
    "abstraction": [(1024, 1), (16384, 1)],
    "dgcnn": [(1024, 1), (1024, 16), (16384, 1)],
    "dgcnn, training": [(1024, 4)],
}
WIDTHS, EMBEDDING, HEAD, CLASSES = (64, 64, 128, 256), 1024, (512, 256), 40
PERCEPTRON = (64, 64, 128)
PATIENCE, TURN, TURNS = 600.0, 3.0, 5  # seconds, seconds, how often each is timed


def clouds(points: int, number: int) -> np.ndarray:
    """Uniform in the unit ball."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(number, points, 3))
    x *= rng.random((number, points, 1)) ** (1 / 3) / np.linalg.norm(x, axis=-1, keepdims=True)
    return x.astype(np.float32)


def radius_of(points: int) -> float:
    """Of a ball with about 32 of them in its middle."""
    return (BALL / points) ** (1 / 3)


def of_geojax(name: str, points: int, number: int) -> Callable[[], Any]:
    """A compiled case."""
    import jax
    import jax.numpy as jnp

    from geojax.graphs import Budget, Structure, pad, sample
    from geojax.networks import DGCNN
    from geojax.points import farthest_points, nearest, within
    from geojax.points.search import gather

    x = jnp.asarray(clouds(points, number))

    def abstraction(x, weights):
        chosen = farthest_points(x, count=points // 4).index
        centres = jnp.take_along_axis(x, chosen[..., None], 1)
        near = within(centres, x, radius=radius_of(points), k=BALL)
        h = gather(x, near.index) - centres[:, :, None]
        for w in weights:
            h = jax.nn.relu(h @ w)
        return jnp.where(near.mask[..., None], h, -jnp.inf).max(2)

    if name.startswith("dgcnn"):
        one = sample(Structure(np.zeros((points, 3)), np.zeros(points, int)), 0.0, members=points)
        graph = pad([one] * number, Budget(number * points + 1, 1, number + 1)).graph
        network = DGCNN(NEIGHBORS, WIDTHS, EMBEDDING, HEAD, irreps_out=f"{CLASSES}x0e")
        place = jnp.concatenate([x.reshape(-1, 3), jnp.zeros((1, 3))])
        graph = graph._replace(nodes={**graph.nodes, "positions": place})
        params = jax.jit(network.init)(jax.random.key(0), graph)

        def loss(params: Any, graph: Any) -> Any:
            answer: Any = network.apply(params, graph)
            return jnp.square(answer.array).mean()

        function = jax.value_and_grad(loss) if "training" in name else network.apply
        run = jax.jit(function).lower(params, graph).compile()
        return lambda: jax.block_until_ready(run(params, graph))
    sizes = (3, *PERCEPTRON)
    weights = [jnp.ones((a, b)) / a for a, b in zip(sizes, sizes[1:], strict=False)]
    function, arguments = {
        "farthest": (lambda x: farthest_points(x, count=points // 4).index, (x,)),
        "nearest": (lambda x: nearest(x, x, k=NEIGHBORS).index, (x,)),
        "abstraction": (abstraction, (x, weights)),
    }[name]
    run = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(run(*arguments))


def of_torch(name: str, points: int, number: int) -> Callable[[], Any]:
    """A case of PyTorch, with the layers of PyTorch Geometric."""
    import torch  # pyright: ignore[reportMissingImports]
    import torch_cluster  # pyright: ignore[reportMissingImports]
    from torch_geometric.nn import (  # pyright: ignore[reportMissingImports]
        MLP,
        DynamicEdgeConv,
        PointNetConv,
        global_max_pool,
    )

    torch.set_num_threads(1)
    x = torch.from_numpy(clouds(points, number).reshape(-1, 3))
    batch = torch.arange(number).repeat_interleave(points)
    perceptron = lambda sizes: MLP(list(sizes), norm=None, plain_last=False, act="relu")
    layer = PointNetConv(perceptron((3, *PERCEPTRON)), add_self_loops=False)

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = (3, *WIDTHS)
            self.layers = torch.nn.ModuleList(
                DynamicEdgeConv(perceptron((2 * a, b)), NEIGHBORS, aggr="max")
                for a, b in zip(sizes, sizes[1:], strict=False)
            )
            self.embedding = perceptron((sum(WIDTHS), EMBEDDING))
            self.head = MLP([EMBEDDING, *HEAD, CLASSES], norm=None)

        def forward(self, x, batch):
            found = []
            for layer in self.layers:
                x = layer(x, batch)
                found.append(x)
            return self.head(global_max_pool(self.embedding(torch.cat(found, 1)), batch))

    network = Classifier()

    def abstraction():
        chosen = torch_cluster.fps(x, batch, ratio=0.25, random_start=False)
        row, column = torch_cluster.radius(
            x, x[chosen], radius_of(points), batch, batch[chosen], max_num_neighbors=BALL
        )
        return layer((None, None), (x, x[chosen]), torch.stack([column, row]))

    def training():
        network.zero_grad()
        loss = network(x, batch).square().mean()
        loss.backward()
        return loss

    function = {
        "farthest": lambda: torch_cluster.fps(x, batch, ratio=0.25, random_start=False),
        "nearest": lambda: torch_cluster.knn(x, x, NEIGHBORS, batch, batch),
        "abstraction": abstraction,
        "dgcnn": lambda: network(x, batch),
        "dgcnn, training": training,
    }[name]

    def run():
        with torch.set_grad_enabled(name.endswith("training")):
            return function()

    return run


def serve(side: str) -> None:
    """Answer requests for one case: "compile", then times of turns."""
    prepare = {"geojax": of_geojax, "torch": of_torch}[side]
    ready: list[Callable[[], Any]] = []

    def answer(ask: str, case: list[Any], limit: float, **unused: Any) -> dict[str, Any]:
        if ask == "compile":
            begin = time.perf_counter()
            ready[:] = [prepare(*case)]
            ready[0]()
            return {"first": time.perf_counter() - begin}
        times = turn(ready[0], limit)
        return {"times": times, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    respond(answer)


def measured(name: str, points: int, number: int, pythons: dict[str, str]) -> dict[str, Any]:
    """Milliseconds a cloud, and the largest memory of the process [MB]; in turns."""
    sides = {
        side: Interpreter([python, str(Path(__file__)), "--serve", side], PATIENCE)
        for side, python in pythons.items()
    }
    case, found = (name, points, number), {}
    for side, interpreter in sides.items():
        found[side] = interpreter.ask("compile", case)
    for _ in range(TURNS):
        for side, interpreter in sides.items():
            if "error" not in found[side]:
                answer = interpreter.ask("times", limit=TURN)
                if "error" in answer:
                    found[side] = answer
                    continue
                found[side].setdefault("times", []).extend(answer["times"])
                found[side]["peak"] = answer["peak"]
    for side, interpreter in sides.items():
        interpreter.stop()
        times = found[side].pop("times", None)
        if times:
            quarter, middle, most = (1e3 / number * np.quantile(times, (0.25, 0.5, 0.75))).tolist()
            found[side] |= {"milliseconds": middle, "quartiles": [quarter, most]}
    if all("milliseconds" in found[side] for side in sides) and len(sides) == 2:
        found["ratio"] = found["torch"]["milliseconds"] / found["geojax"]["milliseconds"]
    return {"points": points, "clouds": number} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", help="a Python that has torch, torch-geometric, torch-cluster")
    parser.add_argument("--serve", choices=("geojax", "torch"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    from results import write

    pythons = {"geojax": sys.executable} | ({"torch": chosen.torch} if chosen.torch else {})
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, cases in CASES.items():
        for points, number in cases:
            rows.setdefault(name, []).append(measured(name, points, number, pythons))
            print(name, json.dumps(rows[name][-1]), flush=True)
    command = "python experiments/points-speed.py" + " --torch PYTHON" * bool(chosen.torch)
    write("points-speed", {"rows": rows}, command)


if __name__ == "__main__":
    main()
