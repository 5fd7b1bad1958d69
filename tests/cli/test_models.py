"""The road of a model, as a user goes it."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.inference.conftest import molecule
from tests.inference.test_ensemble import members


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


def test_the_road_of_an_ensemble(untrained, tmp_path: Path):
    """calibrate, evaluate, predict, select and dynamics with the folder of an ensemble."""
    from geojax import zoo
    from geojax.datasets import formats
    from geojax.graphs import Properties
    from geojax.inference import Ensemble

    where, pool, out = tmp_path / "committee", tmp_path / "pool.xyz", tmp_path / "out.xyz"
    zoo.save(Ensemble(members(untrained, 2)), where)
    structures = [molecule(5, seed) for seed in range(6)]
    structures = [
        s.replace(properties=Properties(energy=1.0 + i)) for i, s in enumerate(structures)
    ]
    formats.write(pool, structures)
    figures = tmp_path / "calibration.json"
    code, text = run("calibrate", str(where), str(pool), "--json", str(figures))
    factor = json.loads(figures.read_text())["energy"]["factor"]
    assert code == 0 and "miscalibration" in text and zoo.load(where).factors == {"energy": factor}
    assert run("evaluate", str(where), str(pool))[0] == 0
    assert run("predict", str(where), str(pool), str(out))[0] == 0
    assert "geojax_energy_std" in out.read_text() and "geojax_forces_std:R:3" in out.read_text()
    code, text = run("select", str(where), str(pool), str(out), "--count", "2")
    assert code == 0 and "2 of 6 structures" in text
    chosen = formats.read(out).structures
    spread = [s.info["largest_forces_std"] for s in chosen]
    assert spread[0] > 0 and len({s.info["pool_index"] for s in chosen}) == 2
    moved = run("md", str(where), str(pool), "--steps", "2", "--folder", str(tmp_path / "md"))
    assert moved[0] == 0
    with pytest.raises(TypeError, match="is one model"):
        run("calibrate", str(where / "0"), str(pool))
    with pytest.raises(TypeError, match="is one model"):
        run("select", str(where / "0"), str(pool), str(out), "--count", "1")
    with pytest.raises(TypeError):
        run("certify", str(where))


def test_the_road_of_clouds_in_folders(tmp_path: Path, monkeypatch):
    """A folder for each class, meshes sampled and scaled: train, evaluate, predict."""
    trimesh = pytest.importorskip("trimesh", reason="meshes are read by trimesh")
    for kind, size in (("flat", (9, 9, 1)), ("long", (1, 1, 9))):
        for split, count in (("train", 4), ("test", 1)):
            (tmp_path / kind / split).mkdir(parents=True)
            for i in range(count):
                box = trimesh.creation.box(extents=[side + i for side in size])
                box.export(tmp_path / kind / split / f"{i}.off")
    (tmp_path / "study.toml").write_text(
        '[data]\ntrain = "*/train/*.off"\ntest = "*/test/*.off"\nvalid = 2\npoints = 16\n'
        'unit_ball = true\nkeys = { "targets.label" = "*" }\n'
        '[network]\nname = "pointnet"\nwidths = [8]\nhead = [8]\nirreps_out = "2x0e"\n'
        '[[outputs]]\nname = "targets.label"\nirreps = "2x0e"\npool = "mean"\nunit = ""\n'
        '[loss]\n"targets.label" = { kind = "cross-entropy" }\n[train]\nepochs = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    assert run("train", "study.toml")[0] == 0
    model = "runs/study/model"
    assert "flat, long" in run("inspect", model)[1]
    code, text = run("evaluate", model, "*/test/*.off", "--keys", "targets.label=*")
    assert code == 0 and "accuracy" in text
    assert run("predict", model, "*/test/*.off", "out.xyz")[0] == 0
    written = (tmp_path / "out.xyz").read_text()
    assert written.count("geojax_class=") == 2 and "file=flat/test/0.off" in written
    assert written.startswith("16\n")
    with pytest.raises(ValueError, match="has none of what .* predicts.* name them by --keys"):
        run("evaluate", model, "*/test/*.off")
