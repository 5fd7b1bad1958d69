"""No jax that computes wrong numbers can get in: by requirement, by pin, or by what runs here."""

import tomllib
from pathlib import Path

import jax
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from geojax.checks import doctor

ROOT = Path(__file__).resolve().parents[2]


def required(name: str) -> Requirement:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = map(Requirement, table["project"]["dependencies"])
    return next(requirement for requirement in found if requirement.name == name)


def pinned() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_jax_that_runs_here_computes_right_numbers():
    assert doctor.canary() < 1e-6


@pytest.mark.parametrize("version", doctor.KNOWN_BAD)
def test_a_bad_jax_is_never_installed(version):
    assert not required("jax").specifier.contains(version)


def test_pins_are_exact_and_allowed():
    for pin in pinned():
        assert [clause.operator for clause in pin.specifier] == ["=="], f"{pin} is no pin"
        if pin.name == "jax":
            version = str(pin.specifier).removeprefix("==")
            assert required("jax").specifier.contains(version), f"{pin} is refused by geojax"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_python_has_one_pin_of_each_package(python):
    environment = {**default_environment(), "python_version": python}
    names = [pin.name for pin in pinned() if not pin.marker or pin.marker.evaluate(environment)]
    assert len(names) == len(set(names))
    assert {"jax", "jaxlib", "flax", "numpy"} <= set(names)


def test_constraints_name_no_index():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]


def test_this_jax_is_a_supported_one():
    assert required("jax").specifier.contains(jax.__version__)
