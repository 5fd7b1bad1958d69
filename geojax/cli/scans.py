"""Scans: brought together."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from geojax.cli.command import PointsOf, app, say, show_figures, write_json

__all__ = ["register"]


@app.command()
def register(
    source: Annotated[Path, typer.Argument(help="a file of the scan that is moved")],
    target: Annotated[Path, typer.Argument(help="a file of the scan that stays")],
    voxel: Annotated[float, typer.Option(help="in the unit of the points, see geojax data")],
    to: Annotated[Path, typer.Option(help="the pose, in JSON")] = Path("pose.json"),
    page: Annotated[Path | None, typer.Option(help="a page of before and after, in HTML")] = None,
    from_origin: Annotated[
        bool, typer.Option("--from-origin", help="both were taken from their origin")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="a model of descriptors; FPFH without it")
    ] = None,
    points: PointsOf = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
):
    """The pose that takes one scan of a scene, or of an object, onto another.

    Normals of a file tell which side of a surface is seen; without them, and without
    --from-origin, it is the side away from the middle.

    Places are told by FPFH, or by what a model has learned of pairs like these; the voxel is then
    about the distance between the points that it was trained on.

    A fitness far below the overlap of the two, or one that changes with the seed, means that the
    pose is wrong.
    """
    import numpy as np
    from scipy.spatial.transform import Rotation

    from geojax import inference, zoo
    from geojax import points as clouds
    from geojax.assets import compile_cache
    from geojax.datasets import structure_of
    from geojax.view import view

    first, second = (structure_of(str(path), 0, points=points) for path in (source, target))
    compile_cache()
    if from_origin:
        sides: dict[str, Any] = dict.fromkeys(("source_viewpoint", "target_viewpoint"), np.zeros(3))
    else:
        known = [scan.inputs.get("normals") for scan in (first, second)]
        sides = dict(zip(("source_normals", "target_normals"), known, strict=True))
    by = clouds.register if model is None else partial(inference.register, zoo.load(model))
    found = by(first.positions, second.positions, voxel=voxel, seed=seed, **sides)
    turn = Rotation.from_matrix(found.matrix[:3, :3]).magnitude()
    figures = {"turned by [degree]": float(np.degrees(turn)), **found._asdict()}
    matrix = figures.pop("matrix").tolist()
    show_figures(f"{source} onto {target}", figures)
    pose = {"rotation": [row[:3] for row in matrix[:3]], "translation": [r[3] for r in matrix[:3]]}
    told = {"voxel": voxel, "source": str(source), "target": str(target), "model": model}
    write_json(to, pose | figures | told)
    say(f"pose written to {to}")
    if page is not None:
        say(f"page: {view(source, page, second=target, pose=to, points=points)}")
