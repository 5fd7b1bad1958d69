"""One self-contained HTML page about a run: curves, parity, certificate, dynamics.

The page needs no network: plotly's script is inside. Every function makes one section from plain
records; `page` joins them.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geojax.elements import colour, covalent_radius, symbol
from geojax.metrics import in_words
from geojax.page import facts, figure_html, page, plotly_modules, table

__all__ = ["certificate", "curves", "drift", "facts", "page", "parity", "table", "viewer"]

DTYPES = ("float64", "float32")


def curves(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Metrics against the epoch, training and validation, on logarithmic axes.

    Args:
        history: the lines of `metrics.jsonl`.
        names: metrics such as "forces.mae".
    """
    plotly = plotly_modules()
    figure = plotly.subplots.make_subplots(cols=max(len(names), 1), rows=1, subplot_titles=names)
    epochs = [line["epoch"] for line in history]
    colours = {"train": "#9db4c8", "valid": "#1f77b4"}
    for column, name in enumerate(names, 1):
        unit = _milli_unit(name)
        for split, shade in colours.items():
            values = [line.get(f"{split}.{name}") for line in history]
            if not any(v is not None for v in values):
                continue
            scaled = [None if v is None else v * (1e3 if unit else 1) for v in values]
            line = {"color": shade, "width": 2}
            trace = plotly.graph_objects.Scatter(
                x=epochs, y=scaled, name=split, line=line, showlegend=column == 1
            )
            figure.add_trace(trace, row=1, col=column)
        figure.update_yaxes(type="log", title=unit, row=1, col=column)
        figure.update_xaxes(title="epoch", row=1, col=column)
    return figure_html(figure, 340)


def _milli_unit(name: str) -> str:
    return in_words({name: 1.0})[name].partition(" ")[2]


def parity(panels: Sequence[tuple[str, np.ndarray, np.ndarray, str]], most: int = 5000) -> str:
    """Predictions against labels; panels are (title, labels, predictions, unit)."""
    plotly = plotly_modules()
    titles = [title for title, *_ in panels]
    figure = plotly.subplots.make_subplots(cols=len(panels), rows=1, subplot_titles=titles)
    rng = np.random.default_rng(0)
    for column, (_, labels, predictions, unit) in enumerate(panels, 1):
        x, y = np.ravel(labels), np.ravel(predictions)
        keep = np.sort(rng.permutation(len(x))[:most])
        ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
        line = {"color": "#9aa7b4", "width": 1}
        add = lambda trace, column=column: figure.add_trace(trace, row=1, col=column)
        scatter = plotly.graph_objects.Scatter
        add(scatter(x=ends, y=ends, mode="lines", line=line, showlegend=False))
        marker = {"size": 4, "opacity": 0.5, "color": "#1f77b4"}
        digits = lambda values: [float(f"{v:.5g}") for v in values]
        x, y = digits(x[keep]), digits(y[keep])
        add(scatter(x=x, y=y, mode="markers", marker=marker, showlegend=False))
        figure.update_xaxes(title=f"label [{unit}]", row=1, col=column)
        figure.update_yaxes(title=f"prediction [{unit}]", row=1, col=column)
    return figure_html(figure, 420)


def certificate(record: Mapping[str, Any]) -> str:
    """The checks of a certificate record (see `checks.certificate`)."""
    dtypes = [d for d in DTYPES if any(c["dtype"] == d for c in record["checks"])]
    head = ["check", "figure", *(name for d in dtypes for name in (d, "limit")), "unit", ""]
    rows = []
    for name in dict.fromkeys(check["name"] for check in record["checks"]):
        mine = {c["dtype"]: c for c in record["checks"] if c["name"] == name}
        one = next(iter(mine.values()))
        pair = lambda c: (f"{c['value']:.2g}", f"{c['limit']:.0e}") if c else ("", "")
        cells = [one["figure"], *(cell for d in dtypes for cell in pair(mine.get(d))), one["unit"]]
        plain = "".join(f"<td>{html.escape(cell)}</td>" for cell in (name, *cells))
        mark = ("ok", "passed") if all(c["passed"] for c in mine.values()) else ("bad", "FAILED")
        rows.append(f"<tr>{plain}<td class='{mark[0]}'>{mark[1]}</td></tr>")
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in head)}</tr>{''.join(rows)}</table>"


def drift(time: np.ndarray, total: np.ndarray, kinetic: np.ndarray, atoms: int) -> str:
    """Total and kinetic energy [eV] of constant-energy dynamics against the time [fs]."""
    plotly = plotly_modules()
    titles = ("total energy above the start", "kinetic energy")
    figure = plotly.subplots.make_subplots(cols=2, rows=1, subplot_titles=titles)
    for column, values in enumerate((total - total[0], kinetic), 1):
        per_atom = 1e3 * np.asarray(values) / atoms
        line = plotly.graph_objects.Scatter(x=time, y=per_atom, mode="lines", showlegend=False)
        figure.add_trace(line, row=1, col=column)
        figure.update_xaxes(title="time [fs]", row=1, col=column)
        figure.update_yaxes(title="meV/atom", row=1, col=column)
    return figure_html(figure, 340)


def viewer(positions: np.ndarray, species: Sequence[int], time: Sequence[float]) -> str:
    """A trajectory to turn and to play.

    Args:
        positions: `[frame, node, 3]` [Å].
        species: `[node]` atomic numbers.
        time: of each frame [fs].
    """
    plotly = plotly_modules()
    go = plotly.graph_objects
    positions = np.round(positions - positions.mean((0, 1)), 3)
    pairs = _bonds(positions[0], species)
    radius = [covalent_radius(z) for z in species]
    marker = {
        "size": [22 * r**0.5 for r in radius],
        "color": [colour(z) for z in species],
        "line": {"color": "#333", "width": 1},
    }
    names = [f"{symbol(z)} {i}" for i, z in enumerate(species)]

    def traces(x: np.ndarray) -> list[Any]:
        ends = [c for i, j in pairs for c in (x[i], x[j], [None] * 3)]
        columns = list(zip(*ends, strict=True)) if ends else [[], [], []]
        sticks = {"color": "#8a949e", "width": 9}
        bonds = dict(zip("xyz", columns, strict=True), mode="lines", line=sticks)
        atoms = dict(zip("xyz", x.T.tolist(), strict=True), mode="markers", marker=marker)
        return [
            go.Scatter3d(**bonds, hoverinfo="skip"),
            go.Scatter3d(**atoms, text=names, hoverinfo="text"),
        ]

    moving = [
        go.Frame(data=traces(x), name=f"{t:.0f}") for x, t in zip(positions, time, strict=True)
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    steps = [{"args": [[f.name], still], "label": f.name, "method": "animate"} for f in moving]
    play = {"frame": {"duration": 60, "redraw": True}, "fromcurrent": True}
    buttons = [
        {"label": "play", "method": "animate", "args": [None, play]},
        {"label": "pause", "method": "animate", "args": [[None], still]},
    ]
    figure = go.Figure(data=traces(positions[0]), frames=moving)
    reach = float(np.abs(positions).max()) + 0.5
    axis = {"visible": False, "range": [-reach, reach]}
    figure.update_layout(
        showlegend=False,
        scene={"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "cube"},
        sliders=[{"steps": steps, "currentvalue": {"prefix": "time [fs]: "}}],
        updatemenus=[{"type": "buttons", "buttons": buttons, "x": 0, "y": 0.1}],
    )
    return figure_html(figure, 520)


def _bonds(x: np.ndarray, species: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs nearer than 1.25 times the sum of their covalent radii."""
    radius = np.array([covalent_radius(z) for z in species])
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    near = distance < 1.25 * (radius[:, None] + radius[None])
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)]
