"""A self-contained HTML page: its frame, tables, and figures of plotly, whose script is inside."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["facts", "figure_html", "page", "plotly_modules", "table"]

STYLE = """
:root { --ink: #1d2733; --soft: #5b6b7b; --line: #dde4ea; --accent: #1f77b4; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); margin: 0; background: #f6f8fa; }
main { max-width: 1060px; margin: 0 auto; padding: 24px; }
h1 { font-size: 28px; margin: 8px 0 0; } h2 { font-size: 20px; margin: 0 0 8px; }
p.lead { color: var(--soft); margin: 4px 0 20px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 22px; margin: 0 0 18px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.ok { color: #18794e; } td.bad { color: #c62828; }
footer { color: var(--soft); font-size: 14px; }
"""


def page(path: str | Path, title: str, lead: str, sections: Sequence[tuple[str, str]]) -> Path:
    """Write the page; `sections` are (heading, HTML) pairs.

    Raises:
        ImportError: plotly is not installed.
    """
    body = "\n".join(
        f"<section><h2>{html.escape(heading)}</h2>{content}</section>"
        for heading, content in sections
    )
    text = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><script>{plotly_modules().offline.get_plotlyjs()}</script></head>"
        f"<body><main><h1>{html.escape(title)}</h1><p class='lead'>{html.escape(lead)}</p>"
        f"{body}<footer>written by geojax</footer></main></body></html>"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def plotly_modules() -> Any:
    """plotly with the modules that figures and pages need.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly
        import plotly.graph_objects
        import plotly.offline
        import plotly.subplots
    except ImportError as error:
        raise ImportError("pages are drawn by plotly; pip install 'geojax[viz]'") from error
    return plotly


def figure_html(figure: Any, height: int) -> str:
    """A plotly figure in the look of the page, `height` pixels high."""
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    options = {"displaylogo": False, "responsive": True}
    return figure.to_html(full_html=False, include_plotlyjs=False, config=options)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """A plain table; cells are escaped."""
    cells = lambda row, tag: "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row)
    head = f"<tr>{cells(header, 'th')}</tr>" if any(header) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def facts(values: Mapping[str, Any]) -> str:
    """A two-column table of names and values."""
    return table([(name, str(value)) for name, value in values.items()], ("", ""))
