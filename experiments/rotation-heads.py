"""Which numbers should a network put out for a rotation? The continuity experiment of Zhou et al.

No four numbers or fewer describe all rotations continuously, and networks do not learn jumps.

"matrices": a perceptron reads a rotation matrix and puts out its numbers, of which the matrix is
made again. All it has to learn is the map to the numbers.

"shape": two samples of one chair, the second turned any way, go through one PointNet (`siamese`),
which puts out the rotation between them. Another chair with each seed; tested on other samples.

run:     python experiments/rotation-heads.py [--heads 6d svd ...] [--seeds 3]
time:    four minutes for each head and seed on one CPU core, 70 in all; a run that was stopped goes
         on, and what is done is not trained again
expect:  as published: 6D below 5D, quaternions, rotation vectors, Euler angles, and only the
         discontinuous ones with errors near 180°. Published of matrices, after 500,000 steps, mean
         and largest: 6D 0.49°, 1.98°, quaternion 3.32°, 179.9°; of 2290 airplanes, on average: 6D
         2.85°, 5D 4.78°, quaternion 9.03°, rotation vector 11.93°, Euler angles 14.13°
reached: results/rotation-heads.json
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from results import FOLDER, write
from scipy.spatial.transform import Rotation

from geojax import datasets, so3
from geojax.datasets import Dataset, registration_pair
from geojax.graphs import Structure
from geojax.inference import Predictor
from geojax.networks import PointNet, Siamese
from geojax.outputs import Output
from geojax.so3 import ROTATION_HEADS
from geojax.training import Optimizer, Options, train

STEPS, MATRICES = 100_000, 64  # of the perceptron, and matrices in a step
POINTS, PAIRS, TESTED = 128, 3200, 1000  # of each sample; pairs in a pass, and to test on
EPOCHS, BATCH = 40, 32
MEASURES = ("mean", "median", "p95", "max")


class Perceptron(nn.Module):
    """Four layers of 128 numbers, as published."""

    numbers: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(4):
            x = nn.leaky_relu(nn.Dense(128)(x))
        return nn.Dense(self.numbers)(x)


def of_matrices(head: str, seed: int) -> np.ndarray:
    """Errors [degree] of rotations that went through their numbers; mean squares are trained."""
    network = Perceptron(ROTATION_HEADS[head].numbers)
    rotations = partial(so3.random_rotation, shape=(MATRICES,))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, STEPS))
    first, key, test = jax.random.split(jax.random.key(seed), 3)
    params = network.init(first, jnp.zeros((1, 9)))

    def made_again(params: Any, matrices: jax.Array) -> jax.Array:
        numbers: Any = network.apply(params, matrices.reshape(-1, 9))
        return ROTATION_HEADS[head].decode(numbers)

    def step(state: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, memory = state
        matrices = rotations(key)
        loss = lambda params: jnp.mean(jnp.square(made_again(params, matrices) - matrices))
        updates, memory = optimizer.update(jax.grad(loss)(params), memory)
        return (optax.apply_updates(params, updates), memory), None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    params, _ = run((params, optimizer.init(params)), jax.random.split(key, STEPS))
    matrices = so3.random_rotation(test, shape=(100_000,))
    return np.degrees(so3.geodesic_angle(made_again(params, matrices), matrices))


def pairs(shape: Structure, count: int, seed: int) -> tuple[Structure, ...]:
    """Two samples of a shape, the second turned any way, with the rotation between them."""
    rng = np.random.default_rng(seed)
    turns = Rotation.random(count, rng=rng).as_matrix()
    rows = [rng.permutation(len(shape))[: 2 * POINTS].reshape(2, -1) for _ in range(count)]
    return tuple(
        registration_pair(
            Structure(shape.positions[one], shape.species[one]),
            Structure(shape.positions[two] @ turn.T, shape.species[two]),
            turn,
            np.zeros(3),
        )
        for (one, two), turn in zip(rows, turns, strict=True)
    )


def of_a_shape(head: str, seed: int) -> np.ndarray:
    """Errors [degree] on test pairs, after a training with the geodesic loss."""
    shapes = datasets.load("furniture", n_points=2048)
    chair = shapes.card["classes"].index("chair")
    shape = [s for s in shapes.train if s.properties.targets["label"] == chair][seed]
    data = Dataset(
        "chair", pairs(shape, PAIRS, seed), (), pairs(shape, TESTED, seed + 100), shapes.card
    )
    numbers = f"{ROTATION_HEADS[head].numbers}x0e"
    backbone = PointNet(widths=(64, 128, 256), head=())
    model = train(
        Siamese(backbone=backbone, irreps_out=numbers),
        data,
        outputs=[Output("targets.rotation", numbers, pool="mean", rotation=head, unit="rotation")],
        loss={"targets.rotation": {"kind": "geodesic"}},
        optimizer=Optimizer(learning_rate=3e-4, schedule="cosine"),
        options=Options(
            epochs=EPOCHS,
            batch_size=BATCH,
            seed=seed,
            ema=0.99,
            augment=[{"kind": "rotation", "partner": True}],
        ),
        folder=Path("runs") / f"rotation-heads-{head}-{seed}",
    )
    found = [p.targets["rotation"] for p in Predictor(model, batch_size=BATCH)(data.test)]
    wanted = [s.properties.targets["rotation"] for s in data.test]
    return np.degrees(so3.geodesic_angle(jnp.array(found), jnp.array(wanted)))


def measures(errors: np.ndarray) -> dict[str, float]:
    values = (errors.mean(), np.median(errors), np.percentile(errors, 95), errors.max())
    return dict(zip(MEASURES, map(float, values), strict=True))


TASKS = {"matrices": of_matrices, "shape": of_a_shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", nargs="+", choices=list(ROTATION_HEADS))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    path = FOLDER / "rotation-heads.json"
    rows = json.loads(path.read_text())["heads"] if path.exists() else {}
    for seed in range(chosen.seeds):
        for head in chosen.heads or ROTATION_HEADS:
            row = rows.setdefault(head, {"numbers": ROTATION_HEADS[head].numbers})
            for task, errors_of in TASKS.items():
                runs = row.setdefault(task, {"seeds": {}})
                if str(seed) not in runs["seeds"]:
                    runs["seeds"][str(seed)] = measures(errors_of(head, seed))
                    write("rotation-heads", {"heads": rows})
                print(task, head, seed, json.dumps(runs["seeds"][str(seed)]), flush=True)


if __name__ == "__main__":
    main()
