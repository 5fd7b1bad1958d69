"""Lines on logarithmic axes, panel beside panel, as a picture in SVG that needs no library."""

import math
from pathlib import Path

Series = dict[str, dict[int, float]]  # name -> x -> y
WIDTH, HEIGHT, LEFT, TOP, KEY = 330, 300, 50, 40, 15
COLORS = "#1b6ca8 #d1495b #2e933c #e08e0b #7b4fa3 #0aa1a1 #8c564b #c2549d #6b7280 #a3a300 #111111"


def draw(path: Path, panels: dict[str, Series], y_label: str, x_label: str) -> None:
    """Write the panels; a name has one colour in all of them, and names of peers are dashed.

    Args:
        panels: by their titles; "peer" is every series that does not begin with "geojax".
        y_label: of the upright axis of all panels.
        x_label: of the other axes.
    """
    names = sorted({name for panel in panels.values() for name in panel})
    names.sort(key=lambda name: not name.startswith("geojax"))
    colors = {name: COLORS.split()[i % 11] for i, name in enumerate(names)}
    columns = 3
    height = TOP + HEIGHT + 50 + KEY * -(-len(names) // columns)
    width = (WIDTH + LEFT) * len(panels) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for number, (title, series) in enumerate(panels.items()):
        parts += _panel(LEFT + number * (WIDTH + LEFT), title, series, colors, x_label)
    parts.append(_text(14, TOP + HEIGHT / 2, y_label, 'transform="rotate(-90 14 190)"'))
    for i, name in enumerate(names):
        x, y = LEFT + i % columns * (width - LEFT) / columns, TOP + HEIGHT + 50 + i // columns * KEY
        parts.append(_line([(x, y - 4), (x + 24, y - 4)], colors[name], name))
        parts.append(_text(x + 30, y, name, 'text-anchor="start"'))
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(left: float, title: str, series: Series, colors: dict[str, str], x_label: str):
    xs = sorted({x for line in series.values() for x in line})
    values = [y for line in series.values() for y in line.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    span, bottom = max(math.log(xs[-1] / xs[0]), 1e-9), TOP + HEIGHT
    across = lambda x: left + 8 + math.log(x / xs[0]) / span * (WIDTH - 24)
    up = lambda y: bottom - (math.log10(y) - low) / max(high - low, 1) * HEIGHT
    yield _text(left + WIDTH / 2, TOP - 14, title, 'font-size="13" font-weight="bold"')
    for power in range(low, high + 1):
        y = up(10.0**power)
        yield _line([(left, y), (left + WIDTH, y)], "#dddddd", "geojax", 1)
        yield _text(left - 4, y + 4, f"{10.0**power:g}", 'text-anchor="end"')
    for x in xs:
        yield _text(across(x), bottom + 15, str(x))
    yield _text(left + WIDTH / 2, bottom + 30, x_label)
    for name, line in series.items():
        points = [(across(x), up(y)) for x, y in sorted(line.items())]
        yield _line(points, colors[name], name)
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colors[name]}"/>'


def _line(points, color: str, name: str, width: float = 1.8) -> str:
    dashes = "" if name.startswith("geojax") else ' stroke-dasharray="5 3"'
    listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{listed}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'
    )


def _text(x: float, y: float, text: str, options: str = "") -> str:
    anchor = "" if "text-anchor" in options else 'text-anchor="middle" '
    return f'<text x="{x:.1f}" y="{y:.1f}" {anchor}{options}>{text}</text>'
