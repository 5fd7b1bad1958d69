"""Two files brought together from the shell."""

import json

import numpy as np
import pytest

from tests.cli.conftest import run
from tests.points.test_scans import SHIFT, TURN, VOXEL, scene


def test_two_files_are_registered(tmp_path):
    pytest.importorskip("plotly", reason="the page is drawn by plotly")
    above = np.array([0.0, 0.0, 9.0])  # the origin of both files
    clouds = {"a": scene(0) - above, "b": (scene(1) - above) @ TURN.T}
    for name, x in clouds.items():
        np.savetxt(tmp_path / f"{name}.csv", x, header="x,y,z", delimiter=",", comments="")
    files = [str(tmp_path / f"{name}.csv") for name in "ab"]
    pose, page = tmp_path / "pose.json", tmp_path / "page.html"
    told = ["--voxel", str(VOXEL), "--from-origin", "--to", str(pose), "--page", str(page)]
    code, text = run("register", *files, *told)
    found = json.loads(pose.read_text())
    assert code == 0 and "fitness" in text and found["fitness"] > 0.9
    assert np.allclose(found["rotation"], TURN, atol=0.02)
    assert np.allclose(found["translation"], 0, atol=0.2) and SHIFT.any()
    assert "after" in page.read_text()
