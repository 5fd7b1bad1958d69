"""Nearest atoms against the full neighbour list, and where that one gives up."""

import numpy as np
import pytest

from geojax.datasets.check.shells import nearest
from geojax.graphs import Structure, neighbor_list
from tests.datasets.check.samples import crystals, ethanol


def lengths(s: Structure, count: int) -> np.ndarray:
    edges = neighbor_list(s, 9.0)
    x = s.positions
    away = x[edges.receivers] - x[edges.senders]
    if s.cell is not None:
        away = away + edges.shifts @ s.cell
    norm = np.linalg.norm(away, axis=1)
    return np.array([np.sort(norm[edges.receivers == i])[:count] for i in range(len(s))])


def skewed() -> Structure:
    cell = np.array([[3.0, 0, 0], [2.4, 2.0, 0], [-1.0, 1.2, 2.8]])
    return Structure(
        np.array([[0.1, 0, 0], [1.4, 1.1, 1.3]]), np.array([29, 29]), cell, (True, True, True)
    )


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("make", [lambda: ethanol().train[0], lambda: crystals()[0], skewed])
def test_as_the_neighbour_list_has_them(make, count):
    s = make()
    distance, index = nearest(s, count)
    assert np.allclose(distance, lengths(s, count), atol=1e-9)
    assert index.shape == distance.shape and index.max() < len(s)


def test_atoms_at_one_place_are_zero_apart():
    s = Structure(np.zeros((3, 3)), np.array([1, 1, 8]))
    assert np.array_equal(nearest(s, 2)[0], np.zeros((3, 2)))


def test_missing_ones_are_infinitely_far():
    distance, index = nearest(Structure(np.array([[0.0, 0, 0], [0, 0, 1]]), np.array([1, 1])), 3)
    assert np.array_equal(distance[0], [1, np.inf, np.inf]) and index[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_any_unit_of_length_will_do(scale):
    s = skewed()
    scaled = s.replace(positions=s.positions * scale, cell=s.cell * scale)
    assert np.allclose(nearest(scaled, 4)[0], nearest(s, 4)[0] * scale)
