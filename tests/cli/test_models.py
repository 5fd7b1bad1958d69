"""The road of a model, as a user goes it."""

import json
from pathlib import Path

from tests.cli.conftest import run


def test_the_road_of_a_model(tmp_path: Path):
    """train, inspect, evaluate, predict, export, certify on the bundled data, as a user would."""
    study = tmp_path / "small.toml"
    study.write_text(
        '[data]\nname = "ethanol"\nn_train = 8\n[network]\nname = "egnn"\ncutoff = 4.0\n'
        "channels = 4\nlayers = 1\n[train]\nepochs = 1\nbatch_size = 4\n"
    )
    folder = tmp_path / "run"
    results = tmp_path / "results" / "small.json"
    assert run("train", str(study), "--folder", str(folder), "--json", str(results))[0] == 0
    assert json.loads(results.read_text())["test"]["forces.mae"] > 0
    model = str(folder / "model")
    assert "egnn" in run("inspect", model)[1]
    figures = tmp_path / "errors.json"
    assert run("evaluate", model, "ethanol", "--split", "valid", "--json", str(figures))[0] == 0
    assert json.loads(figures.read_text())["errors"]["forces.mae"] > 0
    artifact = tmp_path / "small.geojax"
    assert run("export", model, str(artifact), "--platforms", "cpu")[0] == 0
    frames, predicted = tmp_path / "frames.xyz", tmp_path / "predicted.xyz"
    from geojax import datasets

    datasets.formats.write(frames, datasets.load("ethanol").test[:3])
    assert run("predict", str(artifact), str(frames), str(predicted))[0] == 0
    assert "geojax_forces" in predicted.read_text() and "forces" in predicted.read_text()
    assert run("inspect", str(artifact))[0] == 0
    fresh = tmp_path / "fresh.geojax"
    assert run("export", str(artifact), str(fresh), "--platforms", "cpu")[0] == 0
    assert fresh.exists()
