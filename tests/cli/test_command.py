"""The command: help without jax, messages without tracebacks, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from geojax import cli
from geojax.cli import command as parts
from tests.cli.conftest import run

COMMANDS = (
    "train evaluate predict export certify calibrate select inspect md relax neb vibrations "
    "phonons elastic data check view doctor list"
).split()


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


def test_json_is_written(tmp_path: Path):
    parts.write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    parts.write_json(None, {})


def test_without_a_test_set_validation_errors_are_shown_as_such(capsys: pytest.CaptureFixture[str]):
    results = {"name": "mine", "valid": {"valid.forces.mae": 0.0123}}
    parts.show_results(results)
    assert "mine, valid" in (shown := capsys.readouterr().out) and "12.3 meV/Å" in shown
    parts.show_results(results | {"test": {"forces.mae": 0.0456}, "baseline": {"forces.mae": 1.0}})
    assert "mine, test" in (shown := capsys.readouterr().out) and "45.6 meV/Å" in shown


def test_whole_numbers_are_read():
    assert parts.whole_numbers("2,3,4") == (2, 3, 4)
    with pytest.raises(ValueError, match="separated by commas; got '2;3'"):
        parts.whole_numbers("2;3")
