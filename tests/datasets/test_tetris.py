"""Tetris: eight pieces, two of them mirror images of each other."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from geojax.datasets import tetris
from geojax.datasets.tetris import PIECES
from tests.datasets.molecules import counts

DATA = tetris(copies=3)


def label(structure) -> int:
    return int(structure.properties.targets["label"])


def volume(x: np.ndarray) -> float:
    """Six times the signed volume of the tetrahedron."""
    return float(np.linalg.det(x[1:] - x[0]))


def test_eight_pieces_and_their_copies():
    assert counts(DATA) == (8, 24, 24)
    assert [label(s) for s in DATA.train] == list(range(8))
    assert DATA.card["classes"] == list(PIECES) and DATA.card["licence"].startswith("Apache-2.0")
    for s in (*DATA.train, *DATA.valid, *DATA.test):
        assert s.positions.shape == (4, 3) and not s.species.any()
        assert np.allclose(s.positions.mean(0), 0, atol=1e-12)


def test_copies_are_rotated_pieces():
    for s in (*DATA.valid, *DATA.test):
        piece = DATA.train[label(s)].positions
        assert np.allclose(pdist(s.positions), pdist(piece), atol=1e-12)
        assert np.isclose(volume(s.positions), volume(piece), atol=1e-12)  # no reflection
        assert not np.allclose(s.positions, piece, atol=1e-3)
    assert not np.allclose(DATA.valid[0].positions, DATA.test[0].positions)


def test_two_pieces_are_mirror_images_and_no_other_two_are_alike():
    left, right = DATA.train[0].positions, DATA.train[1].positions
    assert np.allclose(np.sort(pdist(left)), np.sort(pdist(right)))
    assert volume(left) == pytest.approx(-volume(right)) and abs(volume(left)) > 0.5
    shapes = [tuple(np.sort(pdist(s.positions)).round(9)) for s in DATA.train]
    assert len(set(shapes)) == 7


def test_rotations_follow_the_seed():
    again, other = tetris(copies=3), tetris(copies=3, seed=1)
    assert np.array_equal(again.test[5].positions, DATA.test[5].positions)
    assert not np.allclose(other.test[5].positions, DATA.test[5].positions)


def test_no_copies_are_refused():
    with pytest.raises(ValueError, match="copies is at least 1; got 0"):
        tetris(copies=0)
