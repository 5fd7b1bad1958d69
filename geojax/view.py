"""One self-contained HTML page to look at a structure and turn it: points, atoms, a registration.

Points are coloured by a label, an input, an error; atoms by their element, with the edges of the
cell. Clouds that are to be brought together are shown before and after: registration pairs and
pieces (see `datasets.pairs`, `datasets.pieces`), or two files and a pose between them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from geojax.datasets import formats, parts_of, registration_pair, structure_of
from geojax.elements import colour, covalent_radius, symbol
from geojax.graphs import Structure, leaves
from geojax.page import facts, figure_html, page, plotly_modules
from geojax.registry import did_you_mean

__all__ = ["Panel", "paint", "panels_html", "read_pose", "view"]

MOST = 50_000  # points on a page
MOST_CLASSES = 30
PALETTE = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
LABELS = ("node_targets.label", "label", "labels", "classification", "class", "segment")
FIRST = ("label", "part", "colors", "element", "intensity", "normals", "height")  # if none is named
CORNERS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
EDGES = [(a, b) for a in range(8) for b in range(a) if np.abs(CORNERS[a] - CORNERS[b]).sum() == 1]
ORTHOGONAL = 1e-3


class Paint(NamedTuple):
    """What colours points: one of classes, numbers or colours of their own, and its name."""

    name: str
    classes: np.ndarray | None = None  # [node], text
    numbers: np.ndarray | None = None  # [node]
    shades: np.ndarray | None = None  # [node, 3], from 0 to 1


class Panel(NamedTuple):
    """One of the pictures beside each other: a title, and where the points are in it."""

    title: str
    positions: np.ndarray


def view(
    source: str | Path,
    to: str | Path = "view.html",
    *,
    color: str | None = None,
    second: str | Path | None = None,
    pose: str | Path | None = None,
    split: str = "train",
    index: int = 0,
    inputs: Mapping[str, str] | None = None,
    points: int | None = None,
) -> Path:
    """Write the page.

    Args:
        source: the name of a data set, or a file.
        color: what points are coloured by: label, part, colors, normals, height, element, error,
            forces, or the name of an input or label. Of what is there, the first that says most.
        second: a file of the cloud that the first is registered to.
        pose: a file with the pose (see `read_pose`) that takes the first cloud to the second, or
            the source of a pair to its target, in place of the pair's own.
        split: of a data set.
        index: of the structure in the file or split.
        inputs: of a file, see `formats.read`.
        points: sample so many points on the surface of a mesh.

    Raises:
        ImportError: plotly is not installed.
        KeyError, ValueError, FileNotFoundError: the source cannot be read; nothing of the name
            `color` is there; the pose is none, or there is nothing that it could move.
    """
    plotly_modules()  # before work is done in vain
    structure = structure_of(str(source), index, split, inputs=inputs, points=points)
    told = {"read from": str(source), "index": str(index)}
    moved = None if pose is None else read_pose(Path(pose))
    if second is not None:
        other = formats.read(second, points=points).structures[0]
        whole = registration_pair(structure, other, np.eye(3), np.zeros(3))
        targets = {} if moved is None else _about(whole, *moved)
        structure = whole.replace(properties=whole.properties._replace(targets=targets))
        told["second"], moved = str(second), None
    panels, errors, more = _panels(structure, moved)
    chosen = paint(structure, color, errors)
    rows = np.arange(len(structure))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST])
        told["shown"] = f"{MOST} of {len(structure)}, chosen at random"
    told |= _facts(structure) | more | {"colour": chosen.name}
    picture = panels_html(structure, panels, chosen, rows)
    lead = f"{len(structure)} {'atoms' if structure.species.any() else 'points'}"
    lead += f"; shown are {told['shown']}" if "shown" in told else ""
    return page(to, Path(source).name, lead, [("Picture", picture), ("What it is", facts(told))])


def read_pose(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation of a file, x -> R x + t.

    `.npy` holds a matrix 4 × 4 or 3 × 4, `.json` that or {"rotation": …, "translation": …}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another content; R is no proper rotation to 1e-3.
    """
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        else:
            found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, Mapping):
            found = np.column_stack([found["rotation"], np.ravel(found["translation"])])
        matrix = np.asarray(found, np.float64)
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: a pose is a matrix 4 × 4 or 3 × 4, or rotation and translation; {error!r}"
        ) from error
    last = matrix.shape == (4, 4) and np.array_equal(matrix[3], [0, 0, 0, 1])
    if not (last or matrix.shape == (3, 4)) or not np.isfinite(matrix).all():
        raise ValueError(
            f"{path}: a pose is a finite matrix 3 × 4, or 4 × 4 with the last row 0 0 0 1; got "
            f"shape {list(matrix.shape)}"
        )
    rotation = matrix[:3, :3]
    off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if off > ORTHOGONAL or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{path}: a pose has a proper rotation; R Rᵀ differs from 1 by {off:.2g}, the "
            f"determinant is {np.linalg.det(rotation):.6g}; is it transposed or scaled?"
        )
    return rotation, matrix[:3, 3]


def _about(pair: Structure, rotation: np.ndarray, translation: np.ndarray) -> dict[str, Any]:
    """The pose of two files as that of their pair, whose origin is another."""
    centre = pair.info["centre"]
    return {"rotation": rotation, "translation": translation + rotation @ centre - centre}


def _panels(
    structure: Structure, pose: tuple[np.ndarray, np.ndarray] | None
) -> tuple[list[Panel], np.ndarray | None, dict[str, str]]:
    """The pictures, the error of each point where there is one, and figures about them."""
    here = [Panel("", structure.positions)]
    targets = structure.properties.targets
    assembled = structure.properties.node_targets.get("assembled")
    if assembled is not None and pose is None:
        errors = np.linalg.norm(structure.positions - assembled, axis=1)
        return (
            [Panel("in pieces", structure.positions), Panel("put together", assembled)],
            errors,
            {},
        )
    part = structure.inputs.get("part")
    truth = (targets["rotation"], targets["translation"]) if "rotation" in targets else None
    if part is None or part.max() != 1:
        if pose is not None:
            raise ValueError("a pose moves the first of two clouds; give a second file, or a pair")
        return here, None, {}
    source, target = (cloud.positions for cloud in parts_of(structure))
    tree = KDTree(target)
    gap = lambda x: tree.query(x)[0]
    figures = {"median distance to the target, before": f"{np.median(gap(source)):.4g}"}
    used = pose or truth
    if used is None:
        distance = np.concatenate([gap(source), np.zeros(len(target))])
        return here, distance, figures
    moved = source @ used[0].T + used[1]
    error = gap(moved)
    figures["median distance to the target, after"] = f"{np.median(error):.4g}"
    if pose is not None and truth is not None:
        error = np.linalg.norm(moved - source @ truth[0].T - truth[1], axis=1)
        half = np.linalg.norm(used[0] - truth[0]) / np.sqrt(8)  # the sine of half the angle
        angle = np.degrees(2 * np.arcsin(min(half, 1.0)))
        figures["rotation error [degree]"] = f"{angle:.4g}"
        figures["translation error"] = f"{np.linalg.norm(used[1] - truth[1]):.4g}"
        figures["error of points, root mean square"] = f"{np.sqrt(np.mean(error**2)):.4g}"
    after = structure.positions.copy()
    after[part == 0] = moved
    both = [Panel("before", structure.positions), Panel("after", after)]
    return both, np.concatenate([error, np.zeros(len(target))]), figures


def paint(
    structure: Structure, color: str | None = None, errors: np.ndarray | None = None
) -> Paint:
    """The colours of the nodes by name; see `view`.

    Args:
        errors: of each node, for the name "error".

    Raises:
        KeyError: nothing of that name is given per node.
    """
    known = _colourable(structure) | ({} if errors is None else {"error": errors})
    name = color or next(name for name in FIRST if name in known)
    if name not in known:
        raise KeyError(f"points are coloured by what each of them has; {did_you_mean(name, known)}")
    value = known[name]
    if name == "element":
        return Paint(name, classes=np.array([symbol(z) for z in range(119)])[structure.species])
    if name == "part" and "rotation" in structure.properties.targets:
        return Paint(name, classes=np.where(value == 0, "source", "target"))
    if value.ndim == 2 and value.shape[1] == 3 and name == "colors":
        return Paint(name, shades=np.clip(value, 0, 1))
    if value.ndim == 2 and value.shape[1] == 3 and name == "normals":
        length = np.linalg.norm(value, axis=1, keepdims=True)
        return Paint(name, shades=(value / np.where(length > 0, length, 1) + 1) / 2)
    if value.ndim > 1:
        size = np.linalg.norm(value.reshape(len(value), -1), axis=1)
        return Paint(f"|{name}|", numbers=size)
    whole = (value == np.floor(value)).all() and len(np.unique(value)) <= MOST_CLASSES
    if whole and name not in ("height", "error", "intensity"):
        return Paint(name, classes=np.array([f"{name} {int(v)}" for v in value]))
    return Paint(name, numbers=value)


def _colourable(structure: Structure) -> dict[str, np.ndarray]:
    """Everything that is given per node, by name."""
    known: dict[str, np.ndarray] = {"height": structure.positions[:, 2]}
    for name, value in leaves(structure.properties).items():
        per_node = name in ("forces", "energies") or name.startswith("node_targets.")
        if per_node:
            known[name] = value
            known.setdefault(name.removeprefix("node_targets."), value)
    known |= structure.inputs
    if label := next((name for name in LABELS if name in known), None):
        known["label"] = known[label]
    if structure.species.any():
        known["element"] = structure.species
    return known


def panels_html(
    structure: Structure, panels: Sequence[Panel], chosen: Paint, rows: np.ndarray
) -> str:
    """The pictures beside each other.

    Args:
        rows: the nodes that are shown.
    """
    plotly = plotly_modules()
    columns = len(panels)
    figure = plotly.subplots.make_subplots(
        rows=1,
        cols=columns,
        specs=[[{"type": "scene"}] * columns],
        subplot_titles=[panel.title for panel in panels],
        horizontal_spacing=0.02,
    )
    for column, panel in enumerate(panels, 1):
        for trace in _traces(structure, panel.positions[rows], chosen, rows, column == 1):
            figure.add_trace(trace, row=1, col=column)
        if structure.cell is not None:
            figure.add_trace(_cell(structure.cell), row=1, col=column)
    figure.update_scenes(aspectmode="data")
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "colorbar": {"title": {"text": chosen.name}}},
        legend={"itemsizing": "constant"},
    )
    return figure_html(figure, 640)


def _traces(
    structure: Structure, x: np.ndarray, chosen: Paint, rows: np.ndarray, first: bool
) -> list[Any]:
    """Markers of the nodes `rows`: a trace of each class, or one of all."""
    scatter = plotly_modules().graph_objects.Scatter3d
    size = 1.5 if len(rows) > 20_000 else 2.5 if len(rows) > 3000 else 4
    places = lambda at: dict(zip("xyz", x[at].astype(np.float32).T, strict=True))
    if chosen.classes is None:
        shade: Any = None if chosen.numbers is None else chosen.numbers[rows].astype(np.float32)
        marker: dict[str, Any] = {"size": size, "color": shade, "coloraxis": "coloraxis"}
        if chosen.shades is not None:
            levels = np.round(chosen.shades[rows] * 255).astype(int)
            marker = {"size": size, "color": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in levels]}
        every = slice(None)
        return [scatter(**places(every), mode="markers", marker=marker, name="", showlegend=False)]
    found = []
    for i, name in enumerate(dict.fromkeys(np.sort(chosen.classes).tolist())):
        at = chosen.classes[rows] == name
        marker = {"size": size, "color": PALETTE[i % len(PALETTE)]}
        if chosen.name == "element":
            z = int(structure.species[chosen.classes == name][0])
            line = {"color": "#333333", "width": 1}
            width = (18 if len(rows) < 100 else 9) * covalent_radius(z) ** 0.5
            marker = {"size": width, "color": colour(z), "line": line}
        options = {"legendgroup": name, "showlegend": first, "name": name}
        found.append(scatter(**places(at), mode="markers", marker=marker, **options))
    return found


def _cell(cell: np.ndarray) -> Any:
    """The twelve edges of the cell."""
    corners = (CORNERS @ cell).tolist()
    ends = [end for a, b in EDGES for end in (corners[a], corners[b], [None] * 3)]
    line = {"color": "#8a949e", "width": 3}
    places = dict(zip("xyz", zip(*ends, strict=True), strict=True))
    scatter = plotly_modules().graph_objects.Scatter3d
    return scatter(
        **places, mode="lines", line=line, name="cell", showlegend=False, hoverinfo="skip"
    )


def _facts(structure: Structure) -> dict[str, str]:
    """What is worth knowing beside the picture."""
    numbers = lambda values: " ".join(f"{value:.4g}" for value in np.ravel(values))
    extent = np.ptp(structure.positions, axis=0)
    found = {"nodes": str(len(structure)), "extent": " × ".join(f"{side:.4g}" for side in extent)}
    if structure.species.any():
        kinds, counts = np.unique(structure.species, return_counts=True)
        found["composition"] = " ".join(
            f"{symbol(int(z))}{n}" for z, n in zip(kinds, counts, strict=True)
        )
    if structure.cell is not None:
        found["cell"] = "; ".join(numbers(row) for row in structure.cell)
    if structure.inputs:
        found["inputs"] = ", ".join(structure.inputs)
    for name, value in leaves(structure.properties).items():
        if np.size(value) <= 12 and not name.startswith("node_targets."):
            found[name] = numbers(value)
    small = {key: value for key, value in structure.info.items() if np.size(value) <= 12}
    return found | {
        key: numbers(value) if np.asarray(value).dtype.kind == "f" else str(value)
        for key, value in small.items()
    }
