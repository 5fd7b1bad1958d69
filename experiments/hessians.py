"""Is a Hessian that is predicted better than one that is derived, and how much does it cost?

The same backbone twice, on water, formaldehyde and methanol at RHF/def2-SVP: trained on energies
and forces, with the Hessian by differentiation; and as the backbone of HIP, trained on energies,
forces and Hessians (mean absolute error and the eight lowest eigenpairs), with the Hessian from its
head.
Then one Hessian of longer and longer alcohols, dense by differentiation and from the head.

  run:     python experiments/hessians.py [--quick]
  time:    --quick ten minutes on one CPU core; an hour without; a training that was stopped goes on
  expect:  from the head ten times faster at 30 atoms, and more accurate than derived; published on
           reactions (not these data), eV/Å² and cosine of the lowest mode: HIP 0.030, 0.982;
           trained on energies and forces 2.25, 0.28 (EquiformerV2), 0.36, 0.95 (LEFTNet)
  reached: results/hessians.json
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from results import write

from geojax.curvature import dense_hessian
from geojax.datasets import Dataset, load
from geojax.graphs import Properties, Structure, sample
from geojax.inference import Predictor, vibrations
from geojax.metrics import compare
from geojax.model import Model
from geojax.networks import HIP, NequIP
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training import Optimizer, Options, train

CUTOFF = 6.0  # [Å], of the Hessian
ENERGY = {"energy": 1.0, "forces": 10.0}
HESSIAN = [{"kind": "mae", "weight": 1.0}, {"kind": "eigenpairs", "weight": 0.1}]
BOND, ANGLE = 1.53, np.deg2rad(109.47)  # of the carbon chain [Å]


class Size(NamedTuple):
    """How much is done."""

    channels: int
    layers: int
    epochs: int
    atoms: tuple[int, ...]  # of the alcohols
    seeds: int


QUICK = Size(channels=8, layers=1, epochs=40, atoms=(6, 12, 30), seeds=1)
FULL = Size(channels=32, layers=2, epochs=200, atoms=(6, 12, 18, 30, 45, 60), seeds=3)


def backbone(size: Size) -> NequIP:
    return NequIP(cutoff=5.0, channels=size.channels, lmax=2, layers=size.layers, parity=False)


def trained(kind: str, data: Dataset, size: Size, seed: int) -> Model:
    """ "derived" or "direct"."""
    network: Any = backbone(size)
    outputs, loss = [Output()], dict[str, Any](ENERGY)
    if kind == "direct":
        network = HIP(backbone=network, cutoff=CUTOFF, channels=size.channels)
        outputs, loss = [*outputs, Output("hessian")], loss | {"hessian": HESSIAN}
    return train(
        network,
        data,
        loss=loss,
        outputs=outputs,
        optimizer=Optimizer(learning_rate=5e-3, schedule="cosine", final=0.01, clip=10.0),
        options=Options(
            epochs=size.epochs,
            batch_size=10,
            ema=0.99,
            seed=seed,
            validate_every=max(1, size.epochs // 10),
        ),
        folder=Path("runs") / f"hessians-{kind}-{size.epochs}-{seed}",
        name=kind,
    )


def errors(model: Model, structures: Sequence[Structure]) -> dict[str, float]:
    """Of energies, forces and Hessians, and of what people calculate from Hessians.

    `eigenvalue.mae` [eV/Å²] over all eigenvalues; `lowest.mae` [cm⁻¹] and `lowest.cosine` of the
    softest mode that is left after the projection of rigid motions (as displacements times the
    root of mass); `zpe.mae` [eV].
    """
    found = Predictor(model)(structures, ("energy", "forces", "hessian"))
    table = compare(found, structures)
    rows = []
    for guess, s in zip(found, structures, strict=True):
        rows_of = 3 * len(s), 3 * len(s)
        mine = np.asarray(guess.hessian).reshape(rows_of)
        label = np.asarray(s.properties.hessian).reshape(rows_of)
        spread = np.abs(np.linalg.eigvalsh(mine) - np.linalg.eigvalsh((label + label.T) / 2))
        a, b = (vibrations(h.reshape(len(s), 3, len(s), 3), s) for h in (mine, label))
        root = np.sqrt(_masses(s))[:, None]
        cosine = abs(np.sum(a.modes[0] * root * b.modes[0] * root))
        lowest = abs(a.frequencies[0] - b.frequencies[0])
        rows.append((spread.mean(), lowest, cosine, abs(a.zero_point_energy - b.zero_point_energy)))
    names = ("eigenvalue.mae", "lowest.mae", "lowest.cosine", "zpe.mae")
    return table | dict(zip(names, np.mean(rows, 0).tolist(), strict=True))


def _masses(structure: Structure) -> np.ndarray:
    from geojax.elements import MASSES

    return np.array(MASSES)[structure.species]


def alcohol(n_atom: int) -> Structure:
    """A straight chain CH3-(CH2)n-OH of 6, 9, 12 ... atoms."""
    carbons = n_atom // 3 - 1
    rise, run = BOND * np.cos(ANGLE / 2), BOND * np.sin(ANGLE / 2)
    chain = np.array([[run * i, rise * (i % 2), 0] for i in range(carbons + 1)])
    up = lambda i: np.array([0, 1.0 if i % 2 else -1.0, 0])
    places, species = list(chain), [6] * carbons + [8]
    for i in range(carbons):
        for side in (-1, 1):
            places.append(chain[i] + 0.63 * up(i) + np.array([0, 0, 0.89 * side]))
    places.append(chain[0] + np.array([-0.89, -0.63 * up(0)[1], 0]))
    places.append(chain[-1] + np.array([0.9, -0.32 * up(carbons)[1], 0]))
    return Structure(np.array(places), np.array([*species, *[1] * (2 * carbons + 2)]))


def cost(model: Model, structure: Structure, repeat: int = 5) -> dict[str, float]:
    """Seconds and bytes of one Hessian of one molecule: the best of some runs, by XLA's account."""
    predictor = Predictor(model)
    ready = sample(structure, model.network.cutoff, labels=Properties())
    graph = jax.tree.map(jax.numpy.asarray, predictor.padded([ready]))
    outputs = model.card.outputs
    if any(output.name == "hessian" for output in outputs):
        predict = predict_fn(model.network, outputs)
        run = lambda params, graph: predict(params, graph).hessian
    else:
        run = partial(dense_hessian, predict_fn(model.network, outputs, forces=True))
    begin = time.perf_counter()
    compiled = jax.jit(run).lower(model.params, graph).compile()
    built = time.perf_counter() - begin
    memory: Any = compiled.memory_analysis()
    times = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(model.params, graph))
        times.append(time.perf_counter() - begin)
    used = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return {"seconds": min(times[1:]), "bytes": float(used), "compile": built}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small networks, one seed")
    size = QUICK if parser.parse_args().quick else FULL
    data = load("hessians")
    accuracy: dict[str, list[dict[str, float]]] = {"derived": [], "direct": []}
    costs: dict[str, dict[str, dict[str, float]]] = {}
    for kind, rows in accuracy.items():
        for seed in range(size.seeds):
            model = trained(kind, data, size, seed)
            rows.append(
                errors(model, data.test) | {"train seconds": model.card.training["seconds"]}
            )
            print(json.dumps({kind: rows[-1]}), flush=True)
            if not seed:
                costs[kind] = {str(n): cost(model, alcohol(n)) for n in size.atoms}
    speedup = {
        n: costs["derived"][n]["seconds"] / costs["direct"][n]["seconds"] for n in costs["direct"]
    }
    values = {"size": size._asdict(), "test": accuracy, "cost": costs, "speedup": speedup}
    print(json.dumps({"cost": costs, "speedup": speedup}, indent=1))
    if size is FULL:
        write("hessians", values)


if __name__ == "__main__":
    main()
