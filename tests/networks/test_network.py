"""Networks from tables and back; fields that wait for the data."""

import numpy as np
import pytest

from geojax.graphs import Structure, sample
from geojax.networks import NETWORKS, fit_to_data, from_table, to_table
from geojax.networks.egnn import EGNN

SAMPLES = [sample(Structure(np.eye(3) * 2, np.array([8, 1, 1])), 5.0)]


@pytest.mark.parametrize("name", NETWORKS)
def test_tables_round_trip(name):
    network = from_table({"name": name})
    assert from_table(to_table(network)) == network


def test_r_max_is_the_cutoff():
    assert from_table({"name": "egnn", "r_max": 4.5}).cutoff == 4.5


def test_a_network_inside_a_network_is_a_table_inside_a_table():
    inner = {"name": "nequip", "r_max": 3.0, "lmax": 2, "channels": [4, 2, 2]}
    network = from_table({"name": "hip", "cutoff": 6.0, "channels": 2, "backbone": inner})
    assert network.backbone.cutoff == 3.0 and network.backbone.channels == (4, 2, 2)
    table = to_table(network)
    assert table["backbone"]["name"] == "nequip" and from_table(table) == network
    with pytest.raises(KeyError, match="'nequip' has no 'lmx'; did you mean 'lmax'"):
        from_table({"name": "hip", "backbone": {"name": "nequip", "lmx": 2}})


def test_a_network_inside_is_fitted_to_the_edges_that_it_reads():
    line = Structure(np.outer(np.arange(4.0), np.eye(3)[0]), np.array([1, 1, 8, 1]))
    inner = {"name": "nequip", "cutoff": 1.5, "lmax": 2}
    network = from_table({"name": "hip", "cutoff": 9.0, "backbone": inner})
    for slots in (None, 5):
        fitted = fit_to_data(network, [sample(line, 9.0, slots=slots)])
        assert fitted.backbone.average_neighbors == 1.5
        assert fitted.backbone.elements == (1, 8)
    kept = from_table({"name": "hip", "backbone": inner | {"elements": [1, 6, 8]}})
    assert fit_to_data(kept, [sample(line, 9.0)]).backbone.elements == (1, 6, 8)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"name": "egnm"}, KeyError, "egnn"),
        ({"cutoff": 5.0}, ValueError, "has a name"),
        ({"name": "egnn", "chanels": 5}, KeyError, "channels"),
        ({"name": "egnn", "r_max": 4.0, "cutoff": 5.0}, ValueError, "came twice"),
    ],
)
def test_bad_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        from_table(table)


def test_the_data_fill_what_waits_for_them():
    network = fit_to_data(EGNN(cutoff=5.0), SAMPLES)
    assert network.elements == (1, 8)
    assert network.average_neighbors == 2.0
    kept = fit_to_data(EGNN(cutoff=5.0, elements=(1, 6, 8), average_neighbors=7.0), SAMPLES)
    assert (kept.elements, kept.average_neighbors) == ((1, 6, 8), 7.0)


def test_elements_that_the_network_does_not_know_are_refused():
    with pytest.raises(ValueError, match=r"hold \[8\] as well"):
        fit_to_data(EGNN(cutoff=5.0, elements=(1, 6)), SAMPLES)
