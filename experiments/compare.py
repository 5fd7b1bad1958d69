"""Networks on equal terms: one trainer, the same data, split, loss and certificate.

`compare/studies.toml` holds the networks, and for every study its data, loss and budget. The budget
is a number of passes over the data, chosen so that every network of a study trains for about
equally long on one CPU core.

run:     python experiments/compare.py [--studies mlearn ...] [--networks nequip mace ...]
time:    ten to forty minutes for each network and study on one CPU core; a run that was stopped
         goes on, and what is done is not trained again
expect:  the published errors stand there; they are of larger networks and longer runs
reached: results/compare.json
"""

import argparse
import json
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
from results import FOLDER, write
from rich.console import Console

from geojax import config
from geojax.checks import certify
from geojax.graphs import Structure
from geojax.inference import Predictor
from geojax.model import Model

HERE = Path(__file__).parent
INFERENCE, REPEATS = 50, 5  # structures of a call, calls
EQUIVARIANCE = "equivariance"  # the check of the certificate that the table shows


class Run(NamedTuple):
    """One network on one data set."""

    row: str
    tables: dict[str, Any]  # of an experiment, see `config`


def runs_of(study: str, table: Mapping[str, Any], only: Sequence[str] | None) -> Iterator[Run]:
    """All runs of a study: every network with every combination of its `axes`."""
    chosen = table["studies"][study]
    base = {key: chosen[key] for key in ("data", "outputs", "loss", "train") if key in chosen}
    base |= {"optimizer": table["optimizer"]}
    for network, budget in chosen["budget"].items():
        if only is not None and network not in only:
            continue
        for variant in product(*chosen.get("axes", [])):
            labels = [v for change in variant for v in change.get("data", {}).values()]
            row = " ".join([network, *(str(v) for v in labels if isinstance(v, str | int))])
            tables = merged(base | {"network": table["networks"][network]}, budget, *variant)
            yield Run(row, tables | {"name": f"{study}-{row}".replace(" ", "-")})


def merged(tables: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with the keys of others put into them; what is no table is replaced."""
    found = dict(tables)
    for change in changes:
        for key, value in change.items():
            inner = isinstance(value, Mapping) and key in found
            found[key] = merged(found[key], value) if inner else value
    return found


def done(run: Run) -> dict[str, Any]:
    """What is known of a run after training, which goes on where it was stopped."""
    study = config.from_tables(run.tables)
    model, found = config.run(study, Path("runs") / "compare" / study.name, Console(stderr=True))
    data = config.data_of(study.data)
    split, test = ("test", data.test) if data.test else ("validation", data.valid)
    errors = found.get("test") or {k.removeprefix("valid."): v for k, v in found["valid"].items()}
    certificate = certify(model, test[:4])
    worst = [m for m in certificate.measurements if m.name == EQUIVARIANCE]
    return {
        "split": split,  # the published test structures are not always at hand
        "test": errors,
        "baseline": found.get("baseline"),
        "parameters": found["parameters"],
        "epochs": run.tables["train"]["epochs"],
        "seconds": found["seconds"],
        "structures_per_second": found["steps"] * study.options.batch_size / found["seconds"],
        "microseconds_per_atom": 1e6 * inference(model, test),
        "certificate": {
            "passed": certificate.passed,
            "failed": certificate.failed,
            EQUIVARIANCE: {m.dtype: m.value for m in worst},
        },
    }


def inference(model: Model, structures: Sequence[Structure]) -> float:
    """Seconds for each atom: the median of some calls, compilation and neighbour lists left out."""
    some = structures[:INFERENCE]
    predictor, wanted = Predictor(model), tuple(o.name for o in model.card.outputs)
    if "energy" in wanted:
        wanted = (*wanted, "forces")
    times = []
    for _ in range(1 + REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(predictor(some, wanted))
        times.append(time.perf_counter() - begin)
    return median(times[1:]) / sum(map(len, some))


def main() -> None:
    table = tomllib.loads((HERE / "compare" / "studies.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", nargs="+", choices=table["studies"], default=table["studies"])
    parser.add_argument("--networks", nargs="+", choices=table["networks"])
    chosen = parser.parse_args()
    path = FOLDER / "compare.json"
    found = json.loads(path.read_text())["studies"] if path.exists() else {}
    for study in chosen.studies:
        rows = found.setdefault(study, {})
        for run in runs_of(study, table, chosen.networks):
            if rows.get(run.row, {}).get("epochs") != run.tables["train"]["epochs"]:
                rows[run.row] = done(run)
                write("compare", {"studies": found}, "python experiments/compare.py")
            print(study, run.row, json.dumps(rows[run.row]["test"]), flush=True)


if __name__ == "__main__":
    main()
