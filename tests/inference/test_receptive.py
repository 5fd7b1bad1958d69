"""The receptive field found is the one that is built in; networks without one are refused."""

import jax
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference.receptive import receptive_hops, receptive_radius
from geojax.model import Card, Model
from geojax.networks import NETWORKS
from geojax.networks.network import with_fields
from geojax.outputs import Output

SMALL = {"channels": 4, "elements": (1, 8), "average_neighbors": 4.0, "cutoff": 3.0}


def model_of(name: str, **fields) -> Model:
    network = with_fields(NETWORKS[name](), **SMALL | fields)
    graph = pad([sample(Structure(np.eye(3), np.array([1, 8, 1])), 3.0)], Budget(4, 16, 2)).graph
    params = jax.jit(network.init)(jax.random.key(0), graph)
    return Model(network, params, Card(elements=(1, 8)))


@pytest.mark.parametrize(
    ("layers", "cutoff"), [pytest.param(1, 3.0, marks=pytest.mark.slow), (3, 4.5)]
)
def test_each_layer_of_messages_adds_a_cutoff(layers: int, cutoff: float):
    model = model_of("painn", layers=layers, cutoff=cutoff)
    assert receptive_hops(model) == layers
    assert receptive_radius(model) == layers * cutoff


def test_a_strictly_local_network_sees_one_cutoff_whatever_its_layers():
    model = model_of("allegro", layers=2, lmax=1, two_body=(8,), latent=(8,))
    assert receptive_hops(model) == 1


def test_weights_that_are_zero_hide_nothing():
    model = model_of("painn", layers=2)
    silent = jax.tree.map(np.zeros_like, model.params)
    assert receptive_hops(Model(model.network, silent, model.card)) == 2


@pytest.mark.parametrize("name", ["egnn", "symmetrized"])
def test_networks_that_look_at_everything_are_refused(name: str):
    network = NETWORKS[name]()
    with pytest.raises(ValueError, match="finite number of edges"):
        receptive_hops(Model(network, {}, Card()))


def test_a_mean_over_the_structure_is_found(monkeypatch: pytest.MonkeyPatch):
    model = model_of("painn", layers=1)
    apply = type(model.network).apply

    def meddling(self, params, graph, *rest, **more):
        out = apply(self, params, graph, *rest, **more)
        x = graph.nodes["positions"]
        return out * (1 + (x * x).mean())

    monkeypatch.setattr(type(model.network), "apply", meddling)
    with pytest.raises(ValueError, match="39 edges away"):
        receptive_hops(model)


def test_a_count_of_atoms_is_found(monkeypatch: pytest.MonkeyPatch):
    model = model_of("painn", layers=1)
    apply = type(model.network).apply

    def counting(self, params, graph, *rest, **more):
        return apply(self, params, graph, *rest, **more) * (1.0 * graph.n_node[0])

    monkeypatch.setattr(type(model.network), "apply", counting)
    with pytest.raises(ValueError, match="atom count"):
        receptive_hops(model)


def test_without_an_energy_there_is_no_receptive_field():
    model = model_of("painn", layers=1).replace_card(outputs=(Output("targets.mu"),))
    with pytest.raises(ValueError, match="predicts none"):
        receptive_hops(model)
