"""Model folders come back bit by bit, or every mismatch is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from geojax import networks, zoo
from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference import Ensemble, export, predict
from geojax.model import Card, Model
from geojax.outputs import Output
from tests.inference.conftest import energy_model, molecule  # noqa: F401  (a fixture)
from tests.inference.test_ensemble import members


def test_round_trip(energy_model, tmp_path):  # noqa: F811
    model = energy_model().replace_card(metrics={"test.forces.mae": 0.01}, description="d'''\n")
    back = zoo.load(zoo.save(model, tmp_path))
    assert back.network == model.network
    assert back.card == model.card
    for a, b in zip(jax.tree.leaves(back.params), jax.tree.leaves(model.params), strict=True):
        np.testing.assert_array_equal(a, b)
    structure = molecule()
    assert predict(back, [structure])[0].energy == predict(model, [structure])[0].energy
    text = (tmp_path / "README.md").read_text()
    assert "# small" in text and "10 meV/Å" in text


def test_ensembles_come_back_whole(energy_model, tmp_path):  # noqa: F811
    scale = {"factor": 2.0, "count": 9, "nll": [1.0, 0.5], "area": [0.2, 0.01]}
    ensemble = Ensemble(members(energy_model())).replace_card(calibration={"forces": scale})
    back = zoo.load(zoo.save(ensemble, tmp_path / "e"))
    assert back.card == ensemble.card and len(back) == 3 and back.factors == {"forces": 2.0}
    one, other = (predict(e, [molecule()])[0] for e in (back, ensemble))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    console = Console(record=True, width=200)
    for part in zoo.describe(str(tmp_path / "e")):
        console.print(part)
    text = console.export_text()
    assert "egnn" in text and "members" in text and "deviations times 2" in text
    assert "3 members" in (tmp_path / "e" / "README.md").read_text()
    with pytest.raises(ValueError, match="a Model was to be saved"):
        zoo.save(ensemble.models[0], tmp_path / "e")
    zoo.save(ensemble.models[0], tmp_path / "e" / "1")
    with pytest.raises(ValueError, match="1 is another model than the member"):
        zoo.load(tmp_path / "e")


def test_artifacts_load_too(energy_model, tmp_path):  # noqa: F811
    path = export(energy_model(), tmp_path / "x.geojax", platforms=["cpu"])
    assert zoo.load(path).card.name == "small"
    console = Console(record=True, width=120)
    for part in zoo.describe(str(path)):
        console.print(part)
    text = console.export_text()
    assert "egnn" in text and "energy [eV]" in text and "E0s [eV]" in text


def test_damaged_weights_are_refused(energy_model, tmp_path):  # noqa: F811
    zoo.save(energy_model(), tmp_path)
    path = tmp_path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        zoo.load(tmp_path)


def test_weights_that_do_not_fit_are_all_named(energy_model, tmp_path):  # noqa: F811
    zoo.save(energy_model(), tmp_path)
    path = tmp_path / "model.toml"
    changed = path.read_text().replace("channels = 6", "channels = 7")
    path.write_text(changed)
    with pytest.raises(
        ValueError, match=r"model.toml is damaged: its content .*; get it again, or"
    ):
        zoo.load(tmp_path)
    path.write_text(changed.partition("\n")[2])  # without the hash
    with pytest.raises(ValueError, match=r"embedding/kernel: file .* network .*; params/"):
        zoo.load(tmp_path)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(KeyError, match="no 'nequip-etanol'"):
        zoo.load("nequip-etanol")


def test_bundled_models_load():
    for name in zoo.names():
        assert zoo.load(name).card.name == name


def test_a_network_that_reads_normals_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    inputs = {"normals": rng.normal(size=(5, 3)), "radius": rng.uniform(size=5)}
    cloud = Structure(rng.normal(size=(5, 3)), np.zeros(5, int), inputs=inputs)
    network = networks.EGNN(
        cutoff=4.0,
        channels=4,
        layers=1,
        axes=("normals",),
        scalars=("radius",),
        average_neighbors=4.0,
    )
    graph = jax.tree.map(jnp.asarray, pad([sample(cloud, 4.0)], Budget(6, 20, 2)).graph)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    model = Model(network, params, Card("shapes", outputs=(Output("targets.size"),)))
    back = zoo.load(zoo.save(model, tmp_path))
    assert back.network == network
    (found,), (expected,) = predict(back, [cloud]), predict(model, [cloud])
    np.testing.assert_array_equal(found.targets["size"], expected.targets["size"])


@pytest.mark.slow
def test_a_network_that_reads_several_numbers_or_vectors_of_a_name_comes_back(tmp_path):
    """Their shapes are in the card."""
    rng = np.random.default_rng(0)
    inputs = {"history": rng.normal(size=(5, 4, 3)), "code": rng.normal(size=(5, 2))}
    cloud = Structure(rng.normal(size=(5, 3)), np.zeros(5, int), inputs=inputs)
    network = networks.EqMotion(
        irreps_out="1o", channels=4, vector_channels=3, layers=1, scalars=("code",)
    )
    graph = jax.tree.map(jnp.asarray, pad([sample(cloud, np.inf)], Budget(6, 20, 2)).graph)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    shapes = {"history": [4, 3], "code": [2]}
    card = Card("walk", outputs=(Output("node_targets.last", "1o"),), data={"inputs": shapes})
    back = zoo.load(zoo.save(Model(network, params, card), tmp_path))
    (found,), (expected,) = (predict(m, [cloud]) for m in (back, Model(network, params, card)))
    np.testing.assert_array_equal(found.node_targets["last"], expected.node_targets["last"])
