"""From labelled frames to a certified, exported force field, and a page that shows it.

Question: does the whole road work on this machine, and what comes out of a few minutes of training?
  run:     make demo      (python experiments/demo.py [--epochs N] [--folder runs/demo])
  time:    under 8 minutes on 2 CPU cores
  expect:  force errors far below the baseline that looks at no geometry; every check of the
           certificate passed; 2 ps of dynamics without drift
  reached: printed at the end, and in <folder>/demo.json
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = ROOT / "experiments" / "ethanol-demo.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, help="in place of those in ethanol-demo.toml")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--picoseconds", type=float, default=2.0)
    arguments = parser.parse_args()
    console, begin, folder = Console(), time.perf_counter(), arguments.folder

    from geojax import checks, config, datasets, inference, report, zoo

    step = lambda text: console.rule(f"{text}  [{time.perf_counter() - begin:.0f} s]", align="left")
    step("train")
    overrides = [] if arguments.epochs is None else [f"train.epochs={arguments.epochs}"]
    study = config.read(EXPERIMENT, overrides)
    model, results = config.run(study, folder, console)

    step("test errors")
    head = ("", "trained on", "energy MAE [meV]", "force MAE [meV/Å]")
    rows = [_row(*entry) for entry in _beside(results)]
    table = Table(*head, title="ethanol, PBE/def2-SVP")
    for row in rows:
        table.add_row(*row)
    console.print(table)

    step("certify")
    data = datasets.load(study.data["name"])
    certificate = checks.certify(model, data.test[:4])
    console.print(certificate.table())
    model = model.replace_card(certificate=certificate.record())
    zoo.save(model, folder / "model")

    step("export, and 2 ps of dynamics in a process without the network's code")
    artifact = folder / "ethanol.geojax"
    inference.export(model, artifact)
    dynamics = folder / "dynamics.npz"
    script = [sys.executable, __file__, "--dynamics", str(artifact), str(dynamics)]
    subprocess.run([*script, str(arguments.picoseconds)], check=True)
    motion = np.load(dynamics)

    step("report")
    predicted = inference.predict(model, data.test)
    join = lambda values: np.concatenate([np.ravel(v) for v in values])
    panels = [
        (
            "energy above the mean",
            _centred(join([s.properties.energy for s in data.test])),
            _centred(join([p.energy for p in predicted])),
            "eV",
        ),
        (
            "forces",
            join([s.properties.forces for s in data.test]),
            join([p.forces for p in predicted]),
            "eV/Å",
        ),
    ]
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plan = model.card.training["plan"]
    page = report.page(
        folder / "report.html",
        "NequIP on ethanol",
        f"{len(data.train)} training frames, {plan['parameters']:,} parameters, "
        f"{results['seconds']:.0f} s of training",
        [
            ("Test errors", report.table(rows, head)),
            ("Learning curves", report.curves(history, ["energy_per_atom.mae", "forces.mae"])),
            ("Predictions against labels", report.parity(panels)),
            ("Certificate", report.certificate(certificate.record())),
            (
                f"Constant-energy dynamics at {motion['temperature']:.0f} K: drift "
                f"{1e3 * motion['drift']:.3g} meV/atom/ps",
                report.drift(motion["time"], motion["total"], motion["kinetic"], 9),
            ),
            (
                "Trajectory",
                report.viewer(motion["positions"], motion["species"], motion["time"]),
            ),
            ("Plan", report.facts({k: v for k, v in plan.items() if k != "programs"})),
        ],
    )
    record = results | {
        "certificate": certificate.passed,
        "drift_meV_per_atom_ps": float(1e3 * motion["drift"]),
        "wall_seconds": time.perf_counter() - begin,
    }
    (folder / "demo.json").write_text(json.dumps(record, indent=1))
    step("done")
    console.print(f"report: {page}\nmodel:  {folder / 'model'}\nfile:   {artifact}")
    if not certificate.passed:
        sys.exit("the certificate did not pass")


# Mean absolute errors on rMD17 ethanol (PBE/def2-SVP, 500 K, 1000 test frames), from table 1 of
# Batatia et al. 2022, https://arxiv.org/abs/2206.07697: other frames than ours, so a scale only.
PUBLISHED = {"NequIP (lmax 3), published": (0.4, 2.8), "MACE, published": (0.4, 2.1)}


def _beside(results: dict) -> list[tuple[str, str, float, float]]:
    """Errors of this run between the baseline and those of others."""
    from geojax import zoo

    pair = lambda errors: (1e3 * errors["energy.mae"], 1e3 * errors["forces.mae"])
    counts = results["counts"]["train"]
    rows = [
        ("constant forces and energy per atom", f"{counts} frames", *pair(results["baseline"])),
        ("NequIP, this run", f"{counts} frames", *pair(results["test"])),
    ]
    bundled = zoo.load("nequip-ethanol").card
    metrics = {k.removeprefix("test."): v for k, v in bundled.metrics.items()}
    rows.append(
        ("NequIP, bundled model", f"{bundled.data['counts']['train']} frames", *pair(metrics))
    )
    published = [(name, "rMD17, 950 frames", *errors) for name, errors in PUBLISHED.items()]
    return rows + published


def _row(name: str, source: str, energy: float, forces: float) -> tuple[str, str, str, str]:
    return name, source, f"{energy:.3g}", f"{forces:.3g}"


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def dynamics(artifact: str, output: str, picoseconds: float) -> None:
    """2 ps at constant energy from the exported file alone; refuses to load the network's code."""
    from geojax.datasets import load, to_ase
    from geojax.inference import calculator, open_artifact
    from geojax.simulation import Dynamics, molecular_dynamics

    atoms = to_ase(load("ethanol").test[0])
    atoms.calc = calculator(open_artifact(artifact))
    steps = int(picoseconds * 1000 / 0.5)
    record = molecular_dynamics(atoms, Dynamics(start=300.0), steps=steps, every=20)
    assert "geojax.networks" not in sys.modules, "the artifact must not need the network's code"
    np.savez(
        output,
        species=atoms.numbers,
        time=record.time,
        total=record.total,
        kinetic=record.kinetic,
        positions=np.array(record.positions),
        temperature=record.temperature.mean(),
        drift=record.drift,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--dynamics"]:
        dynamics(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        main()
