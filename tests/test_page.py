"""The frame of a page: what is written is escaped, and nothing is asked of the network."""

import builtins

import pytest

from geojax.page import facts, figure_html, page, plotly_modules, table


def test_text_is_escaped_and_sections_follow_each_other(tmp_path):
    sections = [("A & B", table([["<i>", "2"]], ["x", "y"])), ("C", facts({"k": "<v>"}))]
    text = page(tmp_path / "new" / "a.html", "<t>", "lead & more", sections).read_text()
    body = text[text.index("<body>") :]
    assert "<h1>&lt;t&gt;</h1>" in body and "lead &amp; more" in body
    assert body.index("<h2>A &amp; B</h2>") < body.index("<h2>C</h2>")
    assert "<th>x</th><th>y</th>" in body and "<td>&lt;i&gt;</td>" in body
    assert "<th>" not in facts({"k": 1})


def test_figures_bring_no_script_of_their_own():
    plotly = plotly_modules()
    text = figure_html(plotly.graph_objects.Figure(), 123)
    assert "123" in text and "src=" not in text and "http" not in text


def test_without_plotly_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'geojax\[viz\]'"):
        plotly_modules()
