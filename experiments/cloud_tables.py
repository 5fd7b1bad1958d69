"""Tables of the studies on point clouds."""

from statistics import median
from typing import Any

from results import markdown, result


def registration() -> str:
    """Two scans of a street without learning, beside Open3D in the same run."""
    found = (result("registration") or {"outdoors": {}})["outdoors"]
    rows = [
        [
            name,
            f"{100 * row['success']:.0f} % of {row['pairs']}",
            f"{row['median rotation error [degree]']:.3f}°",
            f"{row['median translation error [m]']:.3f} m",
            f"{row['median CPU seconds']:.2f}",
        ]
        for name, row in found.items()
    ]
    heads = ["outdoor scans: FPFH, RANSAC, ICP", "within 1° and 0.2 m", "median rotation error"]
    return markdown([*heads, "median translation error", "CPU seconds"], rows)


def crops() -> str:
    """Made pairs that overlap in part, without learning."""
    found = (result("registration") or {}).get("crops", {})
    ours, peer = found.get("geojax", {}), found.get("open3d", {})
    cell = lambda row: (
        f"{100 * row['recall']:.0f} %, {row['median CPU seconds']:.2f}" if row else ""
    )
    rows = [
        [overlap, str(row["pairs"]), cell(row), cell(peer.get(overlap, {}))]
        for overlap, row in ours.items()
    ]
    heads = ["furniture, overlap of the two clouds", "pairs", "geojax, within 5° and 0.1; CPU s"]
    return markdown([*heads, "Open3D"], rows)


def learned_registration() -> str:
    """Recall by the descriptors that networks learned, beside FPFH, in one chain."""
    rows = []
    for name, row in (result("learned-registration") or {"rows": {}})["rows"].items():
        cells = [f"{100 * o['recall']:.0f} %" for o in row["overlaps"].values()]
        cost = f"{row['seconds'] / 60:.0f}" if "seconds" in row else ""
        rows.append([name, *cells, f"{row['parameters']:,}" if "parameters" in row else "", cost])
    heads = ["furniture, 67 pairs within 5° and 0.1, overlap:", "100 %", "70 %", "50 %", "30 %"]
    return markdown([*heads, "parameters", "minutes of training"], rows)


def motion() -> str:
    """Forecasts of a walk, 30 frames ahead."""
    found = result("motion") or {"baselines": {}, "rows": {}}
    rows = []
    for name, row in (found["baselines"] | found["rows"]).items():
        rows.append(
            [
                name,
                f"{row['mse_in_file_units']:.3g}",
                f"{100 * row['fde']:.2f}",
                str(len(row["seeds"])) if "seeds" in row else "",
                f"{row['parameters']:,}" if "parameters" in row else "",
            ]
        )
    heads = ["walk of subject 35, 30 frames ahead", "MSE, file units x 1e-2", "distance [cm]"]
    return markdown([*heads, "seeds", "parameters"], rows)


def rotations() -> str:
    """Accuracy of each way to be blind to rotations, for each way of turning shapes."""
    rows = []
    for name, row in (result("furniture") or {"rows": {}})["rows"].items():
        several = len(row["seeds"]) > 1
        spread = lambda a, several=several: f" ± {100 * a['std']:.1f}" if several else ""
        cells = [f"{100 * a['mean']:.1f}{spread(a)} %" for a in row["accuracy"].values()]
        cost = [f"{row['parameters']:,}", f"{row['seconds'] / 60:.1f}", str(len(row["seeds"]))]
        rows.append([name, *cells, *cost])
    heads = ["furniture, 14 classes: train / test", "z/z", "z/SO(3)", "SO(3)/SO(3)"]
    return markdown([*heads, "parameters", "minutes", "seeds"], rows)


def self_supervision() -> str:
    """What a linear probe finds in features that were learned without labels."""
    found = (result("self-supervision") or {"rows": {}})["rows"]
    rows = [
        [name, f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} %", str(len(row["seeds"]))]
        for name, row in found.items()
    ]
    return markdown(["linear probe of a PointNet, 14 classes", "accuracy", "seeds"], rows)


def rotation_heads() -> str:
    """Errors of the numbers that networks put out for rotations, medians over the seeds."""
    rows, degrees = [], lambda x: f"{x:.0f}°" if x >= 10 else f"{x:.2g}°"
    for name, row in (result("rotation-heads") or {"heads": {}})["heads"].items():
        cells = []
        for task in ("matrices", "shape"):
            runs = row[task]["seeds"].values()
            cells += [degrees(median(r[m] for r in runs)) for m in ("mean", "p95", "max")]
        rows.append([name, str(row["numbers"]), *cells, str(len(row["shape"]["seeds"]))])
    heads = ["rotation head", "numbers", "matrices: mean", "95 %", "largest"]
    return markdown([*heads, "a chair: mean", "95 %", "largest", "seeds"], rows)


def segmentation() -> str:
    """Parts and normals of points for each way of turning shapes."""
    found = (result("segmentation") or {"rows": {}})["rows"]
    rows = []
    for name, row in found.items():
        cells = []
        for figures in row["columns"].values():
            cell = f"{100 * figures['miou']['mean']:.1f} %"
            if "degrees" in figures:
                cell += f", {figures['degrees']['mean']:.1f}°"
            cells.append(cell)
        rows.append([name, *cells, f"{row['parameters']:,}", str(len(row["seeds"]))])
    heads = ["parts (mIoU) and normals of composed shapes", "z/z", "z/SO(3)", "SO(3)/SO(3)"]
    return markdown([*heads, "parameters", "seeds"], rows)


def clouds() -> str:
    """Searches, sampling and DGCNN beside PyTorch's, in the same run."""
    found = (result("points-speed") or {"rows": {}})["rows"]
    rows = []
    for name, cases in found.items():
        for case in cases:
            sides: list[dict[str, Any]] = [case["geojax"], case.get("torch", {})]
            rows.append(
                [
                    f"{name}, {case['points']} points"
                    + (f", {case['clouds']} clouds" if case["clouds"] > 1 else ""),
                    *(f"{s['milliseconds']:.3g}" if "milliseconds" in s else "" for s in sides),
                    f"{case['ratio']:.1f}×" if "ratio" in case else "",
                    *(f"{s['peak']:.0f}" if "peak" in s else "" for s in sides),
                ]
            )
    heads = ["point clouds, one thread", "geojax, ms per cloud", "PyTorch, ms per cloud"]
    return markdown([*heads, "geojax is faster by", "geojax, MB", "PyTorch, MB"], rows)
