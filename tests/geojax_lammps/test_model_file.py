"""The C++ that reads a converted model: right values, and every damage is told. No TensorFlow."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from geojax_lammps.build import SOURCES
from geojax_lammps.convert import TEXT, signed

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")

MAIN = """
#include "model_file.h"
#include "sha256.h"
#include <cstdio>
#include <exception>
#include <string>
int main(int count, char **words)
{
  if (std::string(words[1]) == "digest") {
    for (int i = 2; i < count; i++)
      std::puts(geojax::sha256(std::string(std::stoi(words[i]), 'a')).c_str());
    return 0;
  }
  try {
    const geojax::ModelFile model = geojax::read_model(words[1]);
    std::printf("%s|%s|", model.name.c_str(), model.dtype.c_str());
    std::printf("%.17g|%d\\n", model.cutoff, model.hops);
    for (const auto &[symbol, element] : model.elements)
      std::printf("%s|%d|%.17g\\n", symbol.c_str(), element.number, element.reference);
    for (const auto &[name, place] : model.tensors)
      std::printf("%s|%s\\n", name.c_str(), place.c_str());
  } catch (const std::exception &problem) {
    std::puts(problem.what());
    return 1;
  }
}
"""
BODY = """format 1
name a model of two words
dtype float32
cutoff 4.75
hops 3
element O 8 -430.12345678901234
element Si 14 -0.1
tensor species serving_default_species:0
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "main.cpp").write_text(MAIN)
    sources = [folder / "main.cpp", SOURCES / "model_file.cpp"]
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", *sources]
    subprocess.run([*command, "-o", folder / "reader"], check=True)
    return folder / "reader"


def read(program: Path, *words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([program, *words], capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    data = np.random.default_rng(0).bytes(1000)
    (tmp_path / "saved model.pb").write_bytes(data)
    line = f"file 1000 {hashlib.sha256(data).hexdigest()} saved model.pb\n"
    (tmp_path / TEXT).write_bytes(signed(BODY + line))
    return tmp_path


def test_the_digest_is_sha256(program):
    sizes = (0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 1000, 100_000)
    found = read(program, "digest", *map(str, sizes)).stdout.split()
    assert found == [hashlib.sha256(b"a" * size).hexdigest() for size in sizes]


def test_values(program, folder):
    lines = read(program, folder).stdout.splitlines()
    name, dtype, cutoff, hops = lines[0].split("|")
    assert (name, dtype, float(cutoff), hops) == ("a model of two words", "float32", 4.75, "3")
    oxygen, silicon = (line.split("|") for line in lines[1:3])
    assert oxygen[:2] == ["O", "8"] and float(oxygen[2]) == -430.12345678901234
    assert silicon[:2] == ["Si", "14"] and float(silicon[2]) == -0.1
    assert lines[3:] == ["species|serving_default_species:0"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format 1", "format 2", "reads format 1; "),
        ("format 1\n", "", "format are missing"),
        ("hops 3", "hops three", "the line 'hops three' is not whole"),
        ("hops 3", "hops 0", "its cutoff, hops, elements or format are missing"),
        ("cutoff 4.75", "cutoff nan", "is not whole"),
        ("cutoff 4.75", "cutoff -1", "are missing"),
        ("float32", "float16", "numbers are float32 or float64; "),
        ("element O 8 -430.12345678901234", "element O 8", "is not whole"),
        ("hops 3", "jumps 3", "a line begins with 'jumps'"),
        ("file 1000", "file 999", "saved model.pb is damaged: its SHA-256"),
        ("saved model.pb", "other.pb", "other.pb cannot be read; convert the model again"),
    ],
)
def test_facts_that_cannot_be(program, folder, old, new, message):
    text = (folder / TEXT).read_text().rpartition("sha256 ")[0]
    assert old in text
    (folder / TEXT).write_bytes(signed(text.replace(old, new)))
    done = read(program, folder)
    assert done.returncode == 1 and message in done.stdout


@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_flipped_bit_of_a_file(program, folder, place):
    data = bytearray((folder / "saved model.pb").read_bytes())
    data[place] ^= 4
    (folder / "saved model.pb").write_bytes(data)
    assert "saved model.pb is damaged: its SHA-256" in read(program, folder).stdout


def test_a_changed_text(program, folder):
    text = (folder / TEXT).read_text()
    for wrong, message in (
        (text.replace("-0.1", "-0.2"), "its SHA-256 is not the one in its last line"),
        (text[:-1], "its SHA-256 is not the one"),
        (text[: text.index("sha256")], "its own SHA-256 is missing"),
        ("", "its own SHA-256 is missing"),
    ):
        (folder / TEXT).write_text(wrong)
        assert message in read(program, folder).stdout
    (folder / TEXT).unlink()
    assert f"a folder with {TEXT}" in read(program, folder).stdout
