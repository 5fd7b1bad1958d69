"""The page holds everything it shows and asks nothing of the network."""

import re

import numpy as np
import plotly.offline

from geojax import report


def test_a_page_with_every_section_needs_no_network(tmp_path):
    rng = np.random.default_rng(0)
    history = [{"epoch": i, "train.forces.mae": 1 / i, "valid.forces.mae": 2 / i} for i in (1, 2)]
    checks = [
        {
            "name": "rotation",
            "figure": "A1",
            "dtype": "float64",
            "value": 1e-15,
            "limit": 1e-12,
            "unit": "relative",
        }
    ]
    labels, time = rng.normal(size=50), np.arange(5.0)
    sections = [
        ("Errors", report.table([["forces", "<b>"]], ["", "model"])),
        ("Facts", report.facts({"structures": 3})),
        ("Curves", report.curves(history, ["forces.mae"])),
        ("Parity", report.parity([("forces", labels, labels + 0.1, "eV/Å")])),
        ("Certificate", report.certificate({"checks": [c | {"passed": True} for c in checks]})),
        ("Drift", report.drift(time, np.ones(5), np.ones(5), 3)),
        ("Trajectory", report.viewer(rng.normal(size=(5, 3, 3)), [8, 1, 1], time.tolist())),
    ]
    path = report.page(tmp_path / "page.html", "A <title>", "lead", sections)
    text = path.read_text()
    assert "A &lt;title&gt;" in text and "&lt;b&gt;" in text
    assert all(f"<h2>{heading}</h2>" in text for heading, _ in sections)
    markup = text.replace(plotly.offline.get_plotlyjs(), "")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", markup)
    assert ">passed<" in text


def test_bonds_join_near_atoms_only():
    water = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    assert report._bonds(water, [8, 1, 1]) == [(0, 1), (0, 2)]
