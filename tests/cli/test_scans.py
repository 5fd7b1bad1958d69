"""Two files brought together from the shell."""

import json

import numpy as np
import pytest

from geojax import points as clouds
from tests.cli.conftest import run
from tests.points.test_scans import SHIFT, TURN, VOXEL, scene


def test_two_files_are_registered(tmp_path):
    pytest.importorskip("plotly", reason="the page is drawn by plotly")
    above = np.array([0.0, 0.0, 9.0])  # the origin of both files
    scans = {"a": scene(0) - above, "b": (scene(1) - above) @ TURN.T}
    for name, x in scans.items():
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


def test_normals_in_the_files_tell_the_sides(tmp_path, monkeypatch):
    given = []
    real = clouds.register
    monkeypatch.setattr(clouds, "register", lambda *a, **k: given.append(k) or real(*a, **k))
    up = np.tile([0.0, 0.0, 1.0], (2500, 1))
    for name, x, normals in (("a", scene(0), up), ("b", scene(1) @ TURN.T, up @ TURN.T)):
        rows = np.column_stack([x, normals])
        head = "x,y,z,nx,ny,nz"
        np.savetxt(tmp_path / f"{name}.csv", rows, header=head, delimiter=",", comments="")
    files = [str(tmp_path / f"{name}.csv") for name in "ab"]
    pose = tmp_path / "pose.json"
    code, _ = run("register", *files, "--voxel", str(VOXEL), "--to", str(pose))
    assert code == 0 and json.loads(pose.read_text())["fitness"] > 0.9
    (told,) = given
    np.testing.assert_allclose(told["target_normals"], up @ TURN.T, atol=1e-6)
    assert "target_viewpoint" not in told
