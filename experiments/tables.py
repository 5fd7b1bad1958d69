"""How the tables of README.md and docs are made: of the results, and of the fields in the source.

run:     python experiments/tables.py      (rewrites the tables in all pages)
time:    seconds
expect:  all unchanged where no result and no field has changed
"""

import re
from pathlib import Path

from acceptance_tables import acceptance
from cloud_tables import (
    clouds,
    crops,
    learned_registration,
    motion,
    registration,
    rotation_heads,
    rotations,
    segmentation,
    self_supervision,
)
from product_tables import harmonics, product_lines, products
from results import markdown, milli, result
from setting_tables import setting_tables

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = [HERE.parent / "README.md", *(DOCS / f"{n}.md" for n in ("results", "study", "networks"))]


def accuracy() -> str:
    """Every study that has a test error: reached beside published."""
    rows = []
    for study, name, metric, change, unit, published in ACCURACY:
        found = result(study)
        if found is None or metric not in found["test"]:
            continue
        value = f"{change(found['test'][metric]):.3g} {unit}".strip()
        rows.append([name, WORDS.get(metric, metric.replace(".", " ")), value, published])
    return markdown(["study", "error", "reached", "published"], rows)


POSITIONS = "node_targets.positions.rmse"
WORDS = {POSITIONS: "positions mse"}
ACCURACY = [
    ("nequip-ethanol", "NequIP, bundled ethanol", "energy.mae", milli, "meV", ""),
    ("nequip-ethanol", "NequIP, bundled ethanol", "forces.mae", milli, "meV/Å", ""),
    ("nbody-egnn", "EGNN, charged 5-body", POSITIONS, lambda x: x * x, "", "0.0071"),
    ("acac-nequip", "NequIP, acetylacetone 300 K", "energy.rmse", milli, "meV", "0.81 (MACE 0.9)"),
    (
        "acac-nequip",
        "NequIP, acetylacetone 300 K",
        "forces.rmse",
        milli,
        "meV/Å",
        "5.9 (MACE 5.1)",
    ),
    ("acac-mace", "MACE, acetylacetone 300 K", "energy.rmse", milli, "meV", "0.9, 256 channels"),
    ("acac-mace", "MACE, acetylacetone 300 K", "forces.rmse", milli, "meV/Å", "5.1, 256 channels"),
    (
        "mlearn-cu-nequip",
        "NequIP, copper (mlearn)",
        "energy_per_atom.rmse",
        milli,
        "meV/atom",
        "0.56 GAP, 0.52 MTP, 0.87 SNAP, 1.68 NNP",
    ),
    (
        "mlearn-cu-nequip",
        "NequIP, copper (mlearn)",
        "forces.rmse",
        milli,
        "meV/Å",
        "20 GAP, 10 MTP, 80 SNAP, 60 NNP",
    ),
    ("mlearn-cu-nequip", "NequIP, copper (mlearn)", "stress.rmse", milli, "meV/Å³", ""),
]


def nbody() -> str:
    """The charged 5-body system: mean over seeds and spread, beside the published error."""
    found = result("nbody") or {"budgets": {}}
    rows = []
    if "linear" in found:
        rows.append(["x + v t", "", "", f"{found['linear']['mse']:.4f}", "", "0.0819"])
    for steps, networks in found["budgets"].items():
        for network, row in networks.items():
            spread = f" ± {row['spread']:.4f}" if row["spread"] is not None else ""
            rows.append(
                [
                    network,
                    f"{row['parameters']:,}",
                    f"{int(steps):,}",
                    f"{row['mse']:.4f}{spread}",
                    str(len(row["seeds"])),
                    NBODY[network],
                ]
            )
    heads = [
        "charged 5-body",
        "parameters",
        "steps",
        "test MSE",
        "seeds",
        "published, 300,000 steps",
    ]
    return markdown(heads, rows)


NBODY = {
    "egnn": "0.0071",
    "tfn": "0.0155",
    "se3-transformer": "0.0244",
    "segnn": "0.0043",
    "ponita": "0.0043",
    "cgenn": "0.0039",
}


def networks() -> str:
    """Networks trained alike: errors, size, speed and certificate."""
    found = (result("compare") or {"studies": {}})["studies"]
    rows = []
    for study, (title, metrics) in COMPARED.items():
        for name, row in found.get(study, {}).items():
            errors = [f"{milli(row['test'][metric]):.3g} {unit}" for metric, unit in metrics]
            errors += ["(validation)"] if row["split"] != "test" else []
            rows.append(
                [
                    title,
                    name,
                    ", ".join(errors),
                    f"{row['parameters']:,}",
                    f"{row['seconds'] / 60:.0f}",
                    f"{row['structures_per_second']:.0f}",
                    f"{row['microseconds_per_atom']:.0f}",
                    "passed"
                    if row["certificate"]["passed"]
                    else "failed: " + ", ".join(row["certificate"]["failed"]),
                ]
            )
    heads = ["study", "network", "test error", "parameters", "minutes", "structures/s, training"]
    return markdown([*heads, "µs per atom, forces", "certificate"], rows)


COMPARED = {
    "ethanol": (
        "rMD17 ethanol, 850 frames, MAE",
        [("energy.mae", "meV"), ("forces.mae", "meV/Å")],
    ),
    "acac": (
        "acetylacetone 300 K, 450 frames, RMSE",
        [("energy.rmse", "meV"), ("forces.rmse", "meV/Å")],
    ),
    "mlearn": (
        "mlearn, RMSE",
        [
            ("energy_per_atom.rmse", "meV/atom"),
            ("forces.rmse", "meV/Å"),
            ("stress.rmse", "meV/Å³"),
        ],
    ),
    "flla": ("FLLA formation energy, MAE", [("targets.formation_energy.mae", "meV/atom")]),
    "perov5": ("Perov-5 heat of formation, MAE", [("targets.heat_all.mae", "meV/atom")]),
    "dielectric": ("dielectric tensor, MAE", [("targets.dielectric.mae", "10⁻³")]),
}


def hessians() -> str:
    """Hessians from a head that was trained on them, and by differentiation."""
    found = result("hessians") or {"test": {}, "cost": {}}
    rows = []
    for kind, name in (("derived", "derived from the energy"), ("direct", "HIP's head")):
        runs = found["test"].get(kind, [])
        if not runs:
            continue
        mean = lambda key, runs=runs: sum(run[key] for run in runs) / len(runs)
        cost = found["cost"][kind]["30"]
        rows.append(
            [
                name,
                *(f"{mean(key):.3g}" for key in ("hessian.mae", "eigenvalue.mae")),
                f"{mean('lowest.cosine'):.4f}",
                f"{milli(mean('zpe.mae')):.2g}",
                f"{milli(cost['seconds']):.3g}",
                f"{cost['bytes'] / 1e6:.3g}",
            ]
        )
    heads = ["Hessians of small molecules, 3 seeds", "MAE eV/Å²", "eigenvalues eV/Å²"]
    heads += ["lowest mode, cosine", "zero-point meV", "ms, 30 atoms", "MB, 30 atoms"]
    return markdown(heads, rows)


def learning() -> str:
    """Errors by the number of training structures."""
    molecules = (result("compare") or {"studies": {}})["studies"].get("qm9", {})
    rows = []
    for name, row in molecules.items():
        network, target, size = name.split()
        what, metric, factor, unit = MOLECULAR[target]
        error = factor * row["test"][metric]
        rows.append([f"{network}, QM9 {what}", size, f"{error:.3g} {unit}"])
    return markdown(["learning curve", "training structures", "mae"], rows)


MOLECULAR = {
    "mu": ("dipole moment", "targets.mu.mae", 1.0, "D"),
    "alpha": ("polarizability", "targets.alpha.mae", 1.0, "Bohr³"),
    "gap": ("gap", "targets.gap.mae", 1e3, "meV"),
    "U0": ("energy", "energy.mae", 1e3, "meV"),
}


def fine_tuning() -> str:
    """Errors with few frames, from scratch and from a model of other data."""
    rows = [
        [
            molecule,
            frames,
            way,
            *(f"{1e3 * errors[key]:.3g}" for key in ("energy.mae", "forces.mae")),
        ]
        for molecule, sizes in (result("fine-tuning") or {"molecules": {}})["molecules"].items()
        for frames, ways in sizes.items()
        for way, errors in ways.items()
    ]
    return markdown(["molecule", "frames", "NequIP", "MAE, meV", "MAE, meV/Å"], rows)


def training() -> str:
    """Force training against other packages, in the same run."""
    found = result("train-speed") or {"structures_per_second": {}, "ratios": {}}
    rows = [
        [
            name,
            f"{s['parameters']:,}",
            f"{s['median']:.3g}",
            f"{found['ratios'][name]:.1f}×" if name in found["ratios"] else "",
        ]
        for name, s in found["structures_per_second"].items()
    ]
    names = ["force training, 3BPA, batch 10", "parameters", "structures per second"]
    return markdown([*names, "geojax is faster by"], rows)


def inference() -> str:
    """Energy and forces beside other packages, in the same run."""
    rows = []
    for case, kinds in (result("inference-speed") or {"rows": {}})["rows"].items():
        for kind, found in kinds.items():
            sides = [found.get(side, {}) for side in ("geojax", "mlip", "mace-torch")]
            failed = lambda s: "does not fit" if "error" in s else ""
            times = [f"{s['median']:,.0f}" if "median" in s else failed(s) for s in sides]
            ratios = [
                f"{s['median'] / sides[0]['median']:.1f}×" if "median" in s else ""
                for s in sides[1:]
            ]
            memory = [f"{s['peak']:,.0f}" if "peak" in s else "–" for s in sides]
            step = sides[0].get("step", {}).get("median")
            rows.append([INFERENCE[case], kind, *times, *ratios, " / ".join(memory)])
            rows[-1].append("" if step is None else f"{step:,.0f}")
    heads = ["energy + forces, µs per atom", "network", "geojax", "mlip", "mace-torch"]
    heads += ["faster than mlip", "than mace-torch", "MB of each process"]
    return markdown([*heads, "geojax, a step of ASE with its list"], rows)


def neighbor_lines() -> dict[str, dict[str, dict[int, float]]]:
    """Milliseconds of a list: panel -> library -> atoms -> time."""
    panels: dict[str, dict[str, dict[int, float]]] = {}
    ours = {"host": "geojax, host", "device": "geojax, device"}
    for atoms, row in (result("neighbors-speed") or {"sizes": {}})["sizes"].items():
        for name, found in row["milliseconds"].items():
            panel = panels.setdefault("neighbour lists of silicon, 5 Å", {})
            label = ours[name] if name in ours else name
            panel.setdefault(label, {})[int(atoms)] = found["median"]
    return panels


def inference_lines() -> dict[str, dict[str, dict[int, float]]]:
    """Microseconds per atom of silicon: network -> library -> atoms -> time."""
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for case, kinds in (result("inference-speed") or {"rows": {}})["rows"].items():
        for kind, sides in kinds.items() if case.isdigit() else ():
            for side, found in sides.items():
                if "median" in found:
                    panels.setdefault(kind, {}).setdefault(side, {})[int(case)] = found["median"]
    return panels


INFERENCE = {
    "3bpa": "10 × 27 atoms (3BPA)",
    "64": "silicon, 64",
    "512": "silicon, 512",
    "4096": "silicon, 4,096",
}


def speed() -> str:
    """EGNN training against the published layer structure in PyTorch, in the same run."""
    found = result("egnn-speed") or {"steps_per_second": {}, "ratios": {}}
    rows = [
        [
            name,
            f"{s['median']:.0f}",
            f"{found['ratios'][name]:.2f}×" if name in found["ratios"] else "",
        ]
        for name, s in found["steps_per_second"].items()
    ]
    return markdown(
        ["EGNN, charged 5-body, batch 100", "steps per second", "geojax is faster by"], rows
    )


def neighbors() -> str:
    """Neighbour lists of silicon, in the same run."""
    sizes = (result("neighbors-speed") or {"sizes": {}})["sizes"]
    names = ["host", "vesin", "vesin, sorted", "device", "jax-md"]
    rows = [
        [f"{int(atoms):,}", *(f"{row['milliseconds'][name]['median']:.3g}" for name in names)]
        + [f"{ratio:.1f}×" for ratio in row["ratios"].values()]
        for atoms, row in sizes.items()
    ]
    heads = ["silicon, 5 Å, ms: atoms", "geojax, host", *names[1:3], "geojax, device", names[4]]
    faster = ["host / vesin", "host / vesin, sorted", "device / jax-md"]
    return markdown([*heads, *faster], rows)


def startup() -> str:
    """Whole processes, median seconds."""
    found = result("startup-time")
    seconds = (found or {"seconds": {}})["seconds"]
    return markdown(["", "seconds"], [[name, f"{s['median']:.2f}"] for name, s in seconds.items()])


def render() -> dict[str, str]:
    """All tables by name."""
    return {
        "accuracy": accuracy(),
        "nbody": nbody(),
        "networks": networks(),
        "hessians": hessians(),
        "registration": registration(),
        "crops": crops(),
        "learned-registration": learned_registration(),
        "motion": motion(),
        "rotations": rotations(),
        "segmentation": segmentation(),
        "rotation-heads": rotation_heads(),
        "self-supervision": self_supervision(),
        "acceptance": acceptance(),
        "learning": learning(),
        "fine-tuning": fine_tuning(),
        "training": training(),
        "inference": inference(),
        "speed": speed(),
        "neighbors": neighbors(),
        "clouds": clouds(),
        "products": products(),
        "harmonics": harmonics(),
        "startup": startup(),
    } | setting_tables()


def main() -> None:
    made = render()
    for page in PAGES:
        text = page.read_text()
        for name, table in made.items():
            pattern = rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)"
            text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
        page.write_text(text)
    from lines import draw

    draw(HERE / "results" / "neighbors-speed.svg", neighbor_lines(), "ms", "atoms")
    draw(HERE / "results" / "inference-speed.svg", inference_lines(), "µs per atom", "atoms")
    for device in list((result("products-speed") or {"rows": {}})["rows"])[:1]:
        picture = HERE / "results" / "products-speed.svg"
        y_label = f"value and gradient [ms], {device}"
        draw(picture, product_lines(device), y_label, "largest degree L")


if __name__ == "__main__":
    main()
