"""The command: help without jax, messages without tracebacks, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geojax import cli

COMMANDS = (
    "train evaluate predict export certify md relax vibrations inspect data view doctor list"
).split()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


def test_help_names_every_command_and_imports_no_jax():
    code = (
        "import sys\nfrom geojax import cli\ntry: cli.app(['--help'])\n"
        "except SystemExit: pass\nassert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert all(command in found.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str):
    code, text = run(command, "--help")
    assert code == 0 and command in text


def test_list_names_what_is_registered():
    code, text = run("list")
    assert code == 0
    for kind, name in [("networks", "nequip"), ("products", "cg"), ("datasets", "ethanol")]:
        assert kind in text and name in text
    assert "egnn" in run("list", "networks")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "netwroks"), "networks"),
        (("data", "ethanal"), "ethanol"),
        (("train", "no-such-file.toml"), "no-such-file.toml"),
        (("certify", "no-such-model"), "no-such-model"),
        (("evaluate", "nequip-ethanol", __file__, "--inputs", "charge"), "'charge' has no key"),
    ],
)
def test_bad_input_ends_with_its_message_and_code_2(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["geojax", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_input_leaves_no_traceback():
    command = [sys.executable, "-m", "geojax", "train", "no-such-file.toml"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert "no-such-file.toml" in found.stderr and "Traceback" not in found.stderr


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


def test_a_cloud_is_told_of_and_shown(tmp_path: Path):
    cloud = tmp_path / "cloud.csv"
    cloud.write_text("x,y,z,ring\n0,0,0,1\n1,0,0,2\n0,2,0,2\n")
    code, text = run("data", str(cloud))
    assert code == 0 and "points" in text and "inputs.ring" in text
    page = tmp_path / "page.html"
    code, text = run("view", str(cloud), "--to", str(page), "--color", "ring")
    assert code == 0 and str(page) in text.replace("\n", "")
    assert "ring 2" in page.read_text()


def test_json_is_written(tmp_path: Path):
    cli._write(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    cli._write(None, {})


def test_without_a_test_set_validation_errors_are_shown_as_such(capsys: pytest.CaptureFixture[str]):
    results = {"name": "mine", "valid": {"valid.forces.mae": 0.0123}}
    cli._show_results(results)
    assert "mine, valid" in (shown := capsys.readouterr().out) and "12.3 meV/Å" in shown
    cli._show_results(results | {"test": {"forces.mae": 0.0456}, "baseline": {"forces.mae": 1.0}})
    assert "mine, test" in (shown := capsys.readouterr().out) and "45.6 meV/Å" in shown
