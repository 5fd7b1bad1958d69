"""Networks from tables and back; fields that wait for the data."""

import numpy as np
import pytest

from geojax.graphs import Structure, sample
from geojax.networks import NETWORKS, fit_to_data, from_table, to_table
from geojax.networks.egnn import EGNN

SAMPLES = [sample(Structure(np.eye(3) * 2, np.array([8, 1, 1])), 5.0)]


@pytest.mark.parametrize("name", NETWORKS)
def test_tables_round_trip(name):
    network = from_table({"name": name, "cutoff": 4.0, "channels": 8})
    assert from_table(to_table(network)) == network


def test_r_max_is_the_cutoff():
    assert from_table({"name": "egnn", "r_max": 4.5}).cutoff == 4.5


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
