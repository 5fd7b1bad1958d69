"""What is written is the model; models that LAMMPS cannot feed are refused before."""

import hashlib
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from geojax_lammps.comparison import small_structure
from geojax_lammps.convert import TEXT, convert, open_model
from geojax_lammps.program import INPUTS, edge_program

import geojax
from geojax import zoo
from geojax.inference import Ensemble
from geojax.model import Model
from tests.geojax_lammps import small
from tests.geojax_lammps.test_comparison import Boxed
from tests.geojax_lammps.test_program import inputs_of
from tests.inference.test_elasticity import springs
from tests.test_potential import Springs


def egnn(**fields) -> Model:
    """A tiny model of one layer."""
    model = small.model("egnn", "float32")
    return replace(model, network=model.network.clone(**fields))


class Whole(Springs):
    """A network that says itself that it looks at whole structures."""

    local = False


class Directed(Springs):
    conservative = False


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: springs(Boxed()), "energies of 'springs' are not functions of edge"),
        (lambda: springs(Whole()), "finite number of edges"),
        (lambda: springs(Directed()), "conservative = False"),
        (lambda: Ensemble([egnn()] * 2), "got Ensemble"),
        (lambda: egnn(scalars=("charge",)), "reads charge too, which LAMMPS does not give"),
        (lambda: egnn(nearest=4), "the nearest 4 atoms"),
        (lambda: egnn(cutoff=float("inf")), "finite"),
        (lambda: egnn().replace_card(elements=()), "no list of elements"),
        (lambda: egnn().replace_card(E0s={8: -1.0}), "no E0 for Si"),
        (lambda: egnn().replace_card(outputs=()), "predicts none"),
    ],
)
def test_models_that_lammps_cannot_feed_are_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(model(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched(tmp_path):
    with pytest.raises(FileExistsError, match="exists; remove it"):
        convert(springs(Springs()), tmp_path)


def test_tensorflow_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="pip install 'tensorflow-cpu"):
        convert(springs(Springs()), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_models_from_folders_and_files(tmp_path):
    model = small.model("egnn", "float32", channels=4, layers=1)
    zoo.save(model, tmp_path / "folder")
    geojax.export(model, tmp_path / "model.geojax", platforms=("cpu",))
    for path in (tmp_path / "folder", str(tmp_path / "model.geojax")):
        opened = open_model(path)
        assert opened.network == model.network and opened.card.E0s == small.E0S
        jax.tree.map(np.testing.assert_array_equal, opened.params, model.params)
    geojax.export(Ensemble([model] * 2), tmp_path / "two.geojax", platforms=("cpu",))
    with pytest.raises(ValueError, match="is an ensemble; convert one of its members"):
        open_model(tmp_path / "two.geojax")


@pytest.mark.slow
def test_the_folder(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = springs(Springs()).replace_card(E0s={8: -0.1, 14: -1 / 3})
    folder = convert(model, tmp_path / "model")
    text = (folder / TEXT).read_text()
    body, _, digest = text.rpartition("sha256 ")
    assert digest == hashlib.sha256(body.encode()).hexdigest() + "\n"
    facts = [line.split() for line in body.splitlines()]
    assert ["dtype", "float64"] in facts and ["cutoff", "3.0"] in facts and ["hops", "1"] in facts
    assert ["element", "Si", "14", repr(-1 / 3)] in facts
    files = {words[3]: words[2] for words in facts if words[0] == "file"}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {*files, TEXT}
    for name, digest in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    run = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    with jax.enable_x64(True):
        program = jax.jit(edge_program(model))
        for spare in (1, 30):  # one program for any size
            given = inputs_of(small_structure(model), 3.0, spare)
            found = run(**dict(zip(INPUTS, map(tf.constant, given), strict=True)))
            for name, expected in program(*given).items():
                np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-13)
