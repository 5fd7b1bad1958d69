import io

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.checks import doctor


@pytest.fixture(autouse=True)
def forget():
    """`check_jax` remembers its verdict for the process."""
    doctor.check_jax.cache_clear()
    yield
    doctor.check_jax.cache_clear()


def test_this_jax_is_sound():
    assert doctor.canary() < 1e-6
    doctor.check_jax()


@pytest.mark.parametrize("version", doctor.KNOWN_BAD)
def test_a_known_bad_version_is_refused_by_its_number(version, monkeypatch):
    monkeypatch.setattr(jax, "__version__", version)
    with pytest.raises(RuntimeError, match=f"refuses jax {version}: .*; install another one"):
        doctor.check_jax()


def test_an_unknown_bad_jax_is_refused_by_its_result(monkeypatch):
    """The fault of jax 0.10.2, put in by hand: some rows come out as zero."""

    def broken_jit(function):
        def call(*args):
            result = np.array(function(*args))
            result[32_768:] = 0
            return result

        return call

    monkeypatch.setattr(doctor.jax, "jit", broken_jit)
    with pytest.raises(RuntimeError, match=r"is off by \d+\.\d%; install another one"):
        doctor.check_jax()


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1.0])
def test_no_error_but_a_small_one_passes(error, monkeypatch):
    monkeypatch.setattr(doctor, "canary", lambda: error)
    with pytest.raises(RuntimeError, match="install another one"):
        doctor.check_jax()


def test_the_verdict_is_reached_once(monkeypatch):
    calls = []
    monkeypatch.setattr(doctor, "canary", lambda: calls.append(1) or 0.0)
    doctor.check_jax()
    doctor.check_jax()
    assert len(calls) == 1


def shown() -> tuple[bool, str]:
    console = Console(file=io.StringIO(), record=True, width=200)
    return doctor.report(console), console.export_text()


def test_the_report_names_versions_devices_and_the_canary():
    sound, text = shown()
    assert sound
    for expected in (jax.__version__, "cpu:0", "relative error", "verdict", "compile cache"):
        assert expected in text


def test_the_report_says_how_to_get_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'geojax[atoms]'" in shown()[1]


def test_the_report_of_a_bad_jax_is_not_sound(monkeypatch):
    monkeypatch.setattr(doctor, "canary", lambda: 0.5)
    sound, text = shown()
    assert not sound
    assert "off by 50.0%" in text
