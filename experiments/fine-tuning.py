"""How much does it help to begin with a model of other data?

The bundled nequip-ethanol (PBE/def2-SVP, 300 to 600 K) and few labelled frames: of ethanol from
another program (rMD17, 500 K), and of another molecule, acetylacetone (PBE-D3/def2-SVP, 300 K). Its
network as it starts, and with the parameters of the model: the same frames, steps and batches, and
a tenth of the learning rate. "0" is the model as it is, with E0s shifted to 50 frames.

run:     python experiments/fine-tuning.py [--sizes 10 50] [--steps 3000]
time:    ten minutes on one CPU core
expect:  several times smaller errors than from scratch for ethanol; for another molecule hardly
reached: results/fine-tuning.json
"""

import argparse
import tempfile
from dataclasses import replace
from typing import Any

from results import write
from rich.console import Console

import geojax
from geojax.config import evaluate
from geojax.datasets import Dataset
from geojax.training.start import shifted_E0s

MODEL, BATCH = "nequip-ethanol", 5
RATES = {"from scratch": 1e-2, "from the model": 1e-3}
DATA = {"ethanol": ("rmd17-ethanol", {"n_test": 500}), "acetylacetone": ("acac", {})}
KEPT = ("energy.mae", "forces.mae")


def one(way: str, data: Dataset, steps: int) -> dict[str, Any]:
    """The test errors of one training."""
    model = geojax.load(MODEL)
    network = model if way == "from the model" else replace(model.network, elements=())
    passes = -(-len(data.train) // BATCH)
    with tempfile.TemporaryDirectory() as folder:
        found = geojax.train(
            network,
            data,
            loss={"energy": 1.0, "forces": 10.0},
            E0s="shifted" if way == "from the model" else "ridge",
            optimizer=geojax.Optimizer(
                "amsgrad", learning_rate=RATES[way], schedule="cosine", final=0.01
            ),
            options=geojax.Options(
                epochs=steps // passes,
                batch_size=BATCH,
                watch="forces.mae",
                validate_every=max(1, 150 // passes),
            ),
            folder=folder,
            console=Console(stderr=True),
        )
    errors = evaluate(found, data.test)
    return {key: errors[key] for key in KEPT} | {"seconds": found.card.training["seconds"]}


def untrained(data: Dataset) -> dict[str, Any]:
    """The test errors of the model as it is."""
    model = geojax.load(MODEL)
    model = model.replace_card(E0s=shifted_E0s(model, data.train[:50]))
    errors = evaluate(model, data.test)
    return {key: errors[key] for key in KEPT}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--steps", type=int, default=3000)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    for molecule, (name, options) in DATA.items():
        data = geojax.datasets.load(name, **options)
        rows = found[molecule] = {"0": {"from the model": untrained(data)}}
        for frames in chosen.sizes:
            few = replace(data, train=data.train[:frames])
            rows[str(frames)] = {way: one(way, few, chosen.steps) for way in RATES}
            print(molecule, frames, rows, flush=True)
    write("fine-tuning", {"steps": chosen.steps, "molecules": found})


if __name__ == "__main__":
    main()
