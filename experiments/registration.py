"""How well are clouds registered without learning, with FPFH, RANSAC and closest points?

Outdoors: the real pair of car scans, its source turned at random each time. The clouds are thinned
to voxels (of axes that do not turn with the cloud), normals point to the sensor, matches are mutual
nearest FPFH, three of them make a hypothesis, and the best is refined by point-to-plane ICP. A
success is within 1 degree and 0.2 m of the printed pose; "from the printed pose" is where ICP goes
from there, so how far the two disagree. Open3D runs the same steps with the same sizes, on one
thread, in an interpreter of its own, its RANSAC with the checks and the end of its tutorial.

Crops: synthetic pairs of furniture (the validation shapes, about 1000 points a cloud before the
crop, noise 0.01, any rotation) that share a given part; the same steps without voxels, the sign of
normals known, and of many draws of three matches those with similar sides; Open3D alike. A success
is within 5 degrees and 0.1, for clouds about 2 wide. Shapes that look alike from several sides
count as failures where the wrong side is found: many errors are near 90 and 180 degrees, with more
inliers than the right pose has.

run:     python experiments/registration.py [--rotations 100] [--open3d PYTHON]
time:    a quarter of an hour on one CPU core
expect:  outdoors 90 % or more; recall of crops that falls with the overlap; Open3D alike
reached: results/registration.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

VOXEL = 1.0  # [m]; points of a cloud lie up to 120 m apart
NORMAL_RADIUS, FEATURE_RADIUS, INLIER_RADIUS, ICP_RADIUS = 2.0, 5.0, 1.5, 1.0  # [m]
NORMAL_POINTS, FEATURE_POINTS, SLOTS = 30, 100, 6144
HYPOTHESES, ICP_STEPS = 1024, 20
DRAWS = 100_000  # of Open3D, and of geojax for crops, where few matches are right
ANGLE, DISTANCE = 1.0, 0.2  # [degree], [m], of a success
STUDIES = ("outdoors", "crops")
OVERLAPS = (1.0, 0.7, 0.5, 0.3)
CROP_NORMAL, CROP_FEATURE, CROP_INLIER = 0.2, 0.5, 0.1  # radii


def outdoors(path: Path) -> list[list[float]]:
    """Errors of rotation and translation, CPU seconds of each pair in a file, once compiled."""
    import jax
    import jax.numpy as jnp

    from geojax import points

    describe = lambda x, view: points.describe_scan(x, voxel=VOXEL, slots=SLOTS, viewpoint=view)

    @jax.jit
    def register(key, source, source_view, target, target_view):
        a, b = describe(source, source_view), describe(target, target_view)
        options = {"voxel": VOXEL, "hypotheses": HYPOTHESES, "iterations": ICP_STEPS}
        found = points.register_scans(key, a, b, **options)
        return found.pose, found.agreement, a.overflow | b.overflow

    @jax.jit
    def refined(start, source, source_view, target, target_view):
        a, b = describe(source, source_view), describe(target, target_view)
        options = {"radius": ICP_RADIUS, "iterations": ICP_STEPS}
        clouds = a.positions, b.positions, b.normals, a.mask, b.mask
        return points.icp_to_plane(start, *clouds, **options).pose

    errors = lambda pose, truth: [
        float(points.rotation_error(pose, truth)),
        float(points.translation_error(pose, truth)),
    ]
    rows, near = [], []
    data = {name: jnp.asarray(value, jnp.float32) for name, value in np.load(path).items()}
    target = data["target"], data["target_view"]
    for i, turn in enumerate(data["turns"]):
        source = data["source"] @ turn.T, turn @ data["source_view"]
        truth = points.Pose(data["rotation"] @ turn.T, data["translation"])
        key = jax.random.key(i)
        if not i:
            jax.block_until_ready(register(key, *source, *target))
        begin = time.process_time()
        pose, inliers, overflow = jax.block_until_ready(register(key, *source, *target))
        seconds = time.process_time() - begin
        if overflow:
            raise ValueError(f"there are {SLOTS} slots for voxels, and more are occupied")
        rows.append([*errors(pose, truth), seconds, float(inliers)])
        if not i:
            near = errors(refined(truth, *source, *target), truth)
        rows[-1] += near
    return rows


def open3d_pose(source: Any, target: Any, inlier: float, closest: float) -> np.ndarray:
    """[4, 4], by Open3D's RANSAC and ICP of clouds with their features; radii of both."""
    import open3d  # pyright: ignore[reportMissingImports]

    registration = open3d.pipelines.registration
    first = registration.registration_ransac_based_on_feature_matching(
        source[0],
        target[0],
        source[1],
        target[1],
        True,
        inlier,
        registration.TransformationEstimationPointToPoint(False),
        3,
        [
            registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
            registration.CorrespondenceCheckerBasedOnDistance(inlier),
        ],
        registration.RANSACConvergenceCriteria(DRAWS, 0.999),
    )
    return registration.registration_icp(
        source[0],
        target[0],
        closest,
        first.transformation,
        registration.TransformationEstimationPointToPlane(),
        registration.ICPConvergenceCriteria(max_iteration=ICP_STEPS),
    ).transformation


def outdoors_open3d(path: Path) -> list[list[float]]:
    """Run in the peer's environment: what `outdoors` does."""
    import open3d  # pyright: ignore[reportMissingImports]

    data = dict(np.load(path))

    def describe(x, viewpoint):
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(x))
        cloud = cloud.voxel_down_sample(VOXEL)
        hybrid = open3d.geometry.KDTreeSearchParamHybrid
        cloud.estimate_normals(hybrid(NORMAL_RADIUS, NORMAL_POINTS))
        cloud.orient_normals_towards_camera_location(viewpoint)
        around = hybrid(FEATURE_RADIUS, FEATURE_POINTS)
        return cloud, open3d.pipelines.registration.compute_fpfh_feature(cloud, around)

    rows = []
    for i, turn in enumerate(data["turns"]):
        open3d.utility.random.seed(i)
        x, viewpoint = data["source"] @ turn.T, turn @ data["source_view"]
        begin = time.process_time()
        source, target = describe(x, viewpoint), describe(data["target"], data["target_view"])
        found = open3d_pose(source, target, INLIER_RADIUS, ICP_RADIUS)
        seconds = time.process_time() - begin
        truth = data | {"rotation": data["rotation"] @ turn.T}
        rows.append([*errors_of(found[:3, :3], found[:3, 3], truth), seconds])
    return rows


def outdoors_file(path: Path, rotations: int) -> None:
    """The outdoor pair and the turns of its source, for both."""
    from geojax.datasets import load
    from geojax.datasets.pairs import parts_of, random_rotation_matrix

    pair = load("outdoor-scans").test[0]
    source, target = parts_of(pair)
    rng = np.random.default_rng(0)
    sensor = -np.asarray(pair.info["centre"])  # both scans are in the frame of their sensor
    np.savez(
        path,
        source=source.positions,
        target=target.positions,
        source_view=sensor,
        target_view=sensor,
        turns=np.stack([random_rotation_matrix(rng) for _ in range(rotations)]),
        **pair.properties.targets,
    )


def summary(rows: list[list[float]]) -> dict[str, Any]:
    columns = list(zip(*rows, strict=True))
    right = [
        angle <= ANGLE and distance <= DISTANCE
        for angle, distance in zip(*columns[:2], strict=True)
    ]
    found = {
        "success": float(np.mean(right)),
        "median rotation error [degree]": median(columns[0]),
        "median translation error [m]": median(columns[1]),
        "median CPU seconds": median(columns[2]),
        "pairs": len(rows),
    }
    if len(columns) > 3:
        found["median share of inliers"] = median(columns[3])
        found["from the printed pose [degree, m]"] = [median(columns[4]), median(columns[5])]
    return found


def crops_file(path: Path) -> None:
    """Pairs of each overlap, for both."""
    from geojax.datasets import load
    from geojax.datasets.pairs import parts_of

    arrays = {}
    for overlap in OVERLAPS:
        for i, pair in enumerate(load("partial-overlap", overlap=overlap).valid):
            for side, cloud in zip(("source", "target"), parts_of(pair), strict=True):
                arrays[f"{overlap}/{i}/{side}"] = cloud.positions
                arrays[f"{overlap}/{i}/{side} normals"] = cloud.inputs["normals"]
            for name in ("rotation", "translation"):
                arrays[f"{overlap}/{i}/{name}"] = pair.properties.targets[name]
    np.savez(path, **arrays)


def crop_pairs(path: Path) -> Iterator[tuple[float, int, dict[str, np.ndarray]]]:
    """Overlap, number and arrays of each pair in a file."""
    with np.load(path) as file:
        for overlap, number in sorted({tuple(key.split("/")[:2]) for key in file.files}):
            names = (key for key in file.files if key.startswith(f"{overlap}/{number}/"))
            pair = {name.rpartition("/")[2]: file[name] for name in names}
            yield float(overlap), int(number), pair


def crops(path: Path) -> list[list[float]]:
    """Overlap, errors of rotation and translation, CPU seconds of each pair, once compiled."""
    import jax
    import jax.numpy as jnp

    from geojax import points

    size = 1024

    def describe(x, mask, given):
        near = points.within(x, x, mask, radius=CROP_NORMAL, k=NORMAL_POINTS, query_mask=mask)
        normals = points.orient(points.estimate_normals(x, near, mask).normals, given)
        near = points.within(
            x, x, mask, radius=CROP_FEATURE, k=300, query_mask=mask, exclude_self=True
        )
        return points.fpfh(x, normals, near), normals

    @jax.jit
    def register(key, source, target, source_mask, target_mask, given):
        f, _ = describe(source, source_mask, given[0])
        g, normals = describe(target, target_mask, given[1])
        match = points.mutual_nearest(f, g, source_mask, target_mask)
        pairs = source[match.source], target[match.target]
        start = points.ransac(
            key, *pairs, match.mask, radius=CROP_INLIER, hypotheses=HYPOTHESES, draws=DRAWS
        ).pose
        masks = source_mask, target_mask
        return points.icp_to_plane(
            start, source, target, normals, *masks, radius=CROP_INLIER, iterations=ICP_STEPS
        ).pose

    padded = lambda x: jnp.pad(jnp.asarray(x, jnp.float32), ((0, size - len(x)), (0, 0)))
    rows = []
    for overlap, number, pair in crop_pairs(path):
        clouds = [padded(pair[side]) for side in ("source", "target")]
        masks = [jnp.arange(size) < len(pair[side]) for side in ("source", "target")]
        given = jnp.stack([padded(pair[f"{side} normals"]) for side in ("source", "target")])
        arguments = jax.random.key(number), *clouds, *masks, given
        if not rows:
            jax.block_until_ready(register(*arguments))
        begin = time.process_time()
        pose = jax.block_until_ready(register(*arguments))
        seconds = time.process_time() - begin
        turn, shift = np.asarray(pose.rotation), np.asarray(pose.translation)
        rows.append([overlap, *errors_of(turn, shift, pair), seconds])
    return rows


def crops_open3d(path: Path) -> list[list[float]]:
    """Run in the peer's environment: what `crops` does."""
    import open3d  # pyright: ignore[reportMissingImports]

    hybrid = open3d.geometry.KDTreeSearchParamHybrid

    def describe(x, given):
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(x))
        cloud.estimate_normals(hybrid(CROP_NORMAL, NORMAL_POINTS))
        normals = np.asarray(cloud.normals)
        sides = np.sign(np.sum(normals * given, -1, keepdims=True))
        cloud.normals = open3d.utility.Vector3dVector(np.where(sides < 0, -normals, normals))
        return cloud, open3d.pipelines.registration.compute_fpfh_feature(
            cloud, hybrid(CROP_FEATURE, 300)
        )

    rows = []
    for overlap, number, pair in crop_pairs(path):
        open3d.utility.random.seed(number)
        begin = time.process_time()
        source, target = (describe(pair[s], pair[f"{s} normals"]) for s in ("source", "target"))
        found = open3d_pose(source, target, CROP_INLIER, CROP_INLIER)
        seconds = time.process_time() - begin
        rows.append([overlap, *errors_of(found[:3, :3], found[:3, 3], pair), seconds])
    return rows


def errors_of(turn: np.ndarray, shift: np.ndarray, pair: Mapping[str, np.ndarray]) -> list[float]:
    """Of a pose: degrees, and the distance of the translations."""
    cosine = np.clip((np.trace(turn.T @ pair["rotation"]) - 1) / 2, -1, 1)
    return [
        float(np.degrees(np.arccos(cosine))),
        float(np.linalg.norm(shift - pair["translation"])),
    ]


def recalls(rows: list[list[float]]) -> dict[str, Any]:
    """Recall and median errors for each overlap."""
    table = {}
    for overlap in OVERLAPS:
        angle, shift, seconds = np.array([row[1:] for row in rows if row[0] == overlap]).T
        table[f"{overlap:.0%}"] = {
            "recall": float(np.mean((angle <= 5) & (shift <= 0.1))),
            "median rotation error [degree]": float(np.median(angle)),
            "median translation error": float(np.median(shift)),
            "median CPU seconds": float(np.median(seconds)),
            "pairs": len(angle),
        }
    return table


def part(python: str, name: str, path: Path) -> list[list[float]]:
    command = [python, __file__, "--part", name, "--pair", str(path)]
    one_thread = {"NPROC": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=os.environ | one_thread, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{name}: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rotations", type=int, default=100)
    parser.add_argument("--open3d", help="a Python that has Open3D; left out where not given")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=STUDIES)
    parser.add_argument("--part", choices=PARTS, help="run one part and print its rows")
    parser.add_argument("--pair", type=Path, help="the file that a part reads")
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part](chosen.pair)))
        return
    from results import FOLDER, write

    found: dict[str, Any] = {"outdoors": {}, "crops": {}}
    peer = " --open3d PYTHON" if chosen.open3d else ""
    command = f"python experiments/registration.py --rotations {chosen.rotations}{peer}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.npz"
        for study in chosen.studies:
            if study == "outdoors":
                outdoors_file(path, chosen.rotations)
            else:
                crops_file(path)
            for name, python in (("geojax", sys.executable), ("open3d", chosen.open3d)):
                if python:
                    rows = part(python, f"{study} {name}", path)
                    found[study][name] = summary(rows) if study == "outdoors" else recalls(rows)
                    print(study, name, found[study][name], flush=True)
    done = FOLDER / "registration.json"
    table = json.loads(done.read_text()) if done.exists() else {}
    write("registration", {name: found[name] or table.get(name, {}) for name in found}, command)


PARTS = {
    "outdoors geojax": outdoors,
    "outdoors open3d": outdoors_open3d,
    "crops geojax": crops,
    "crops open3d": crops_open3d,
}

if __name__ == "__main__":
    main()
