"""Pieces: both forms of the answer put the shape together exactly, around the first piece."""

import numpy as np
import pytest

from geojax.datasets import broken_shape
from geojax.datasets.pieces import cut
from geojax.graphs import Structure, sample

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3)) * [3, 2, 1]
N = X / np.linalg.norm(X, axis=1, keepdims=True)
SHAPE = Structure(X, np.zeros(600, int), inputs={"normals": N, "radius": X[:, 0]})


def broken(seed: int = 0, **options) -> Structure:
    return broken_shape(SHAPE, np.random.default_rng(seed), **({"n_parts": 4} | options))


def distances(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


@pytest.mark.parametrize("n_parts", [1, 2, 3, 4, 5])
def test_both_answers_agree_and_put_the_shape_together(n_parts):
    pieces = broken(n_parts=n_parts)
    targets, part = pieces.properties.targets, pieces.inputs["part"].astype(int)
    assembled = pieces.properties.node_targets["assembled"]
    by_pose = np.einsum("nij,nj->ni", targets["rotations"][part], pieces.positions)
    by_pose += targets["translations"][part]
    assert np.abs(by_pose - assembled).max() < 1e-12
    # The assembled points are the shape up to a rigid motion: sorted, all distances are those.
    assert np.allclose(np.sort(distances(assembled), None), np.sort(distances(X), None), atol=1e-10)
    assert targets["present"].tolist() == [1] * n_parts + [0] * (5 - n_parts)


def test_the_first_piece_is_the_largest_and_stays():
    pieces = broken()
    targets, first = pieces.properties.targets, pieces.inputs["part"] == 0
    assert (
        np.array_equal(targets["rotations"][0], np.eye(3)) and not targets["translations"][0].any()
    )
    assembled = pieces.properties.node_targets["assembled"]
    assert np.abs(assembled[first] - pieces.positions[first]).max() < 1e-12
    sizes = np.bincount(pieces.inputs["part"].astype(int))
    assert (np.diff(sizes) <= 0).all() and sizes.sum() == 600


def test_places_without_a_piece_have_the_identity():
    targets = broken(n_parts=2, places=7).properties.targets
    assert np.array_equal(targets["rotations"][2:], np.tile(np.eye(3), (5, 1, 1)))
    assert not targets["translations"][2:].any()
    assert targets["rotations"].shape == (7, 3, 3)
    assert np.allclose(targets["rotations"] @ targets["rotations"].mT, np.eye(3), atol=1e-12)
    assert (np.linalg.det(targets["rotations"]) > 0).all()


def test_normals_turn_with_their_piece():
    pieces = broken()
    part = pieces.inputs["part"].astype(int)
    turned = np.einsum(
        "nij,nj->ni", pieces.properties.targets["rotations"][part], pieces.inputs["normals"]
    )
    assembled = pieces.properties.node_targets["assembled"]
    fit = np.linalg.lstsq(assembled - assembled.mean(0), turned, rcond=None)[0]
    kept = np.linalg.lstsq(X - X.mean(0), N, rcond=None)[0]  # the same map, turned
    assert np.allclose(np.linalg.svd(fit)[1], np.linalg.svd(kept)[1], atol=1e-10)
    assert pieces.inputs.keys() == {"normals", "part"}


def test_pieces_are_apart_on_both_sides_of_planes():
    """Each piece of two is on its side: a plane separates them without error."""
    part = cut(X, 2, np.random.default_rng(1))
    sides = np.where(part == 0, 1.0, -1.0)
    columns = np.hstack([X, np.ones((600, 1))])
    weights = np.zeros(4)
    for _ in range(20_000):  # the perceptron: it stops where a plane exists
        wrong = np.flatnonzero(columns @ weights * sides <= 0)
        if not len(wrong):
            break
        weights += sides[wrong[0]] * columns[wrong[0]]
    assert (columns @ weights * sides > 0).all()


def test_no_piece_is_a_crumb():
    for seed in range(30):
        sizes = np.bincount(cut(X, 5, np.random.default_rng(seed)))
        assert len(sizes) == 5 and sizes.min() > 0.05 * 600


def test_the_mean_is_the_origin_for_what_a_network_reads():
    pieces = broken(max_shift=20.0)
    nodes = sample(pieces, 0.0).graph.nodes
    assert np.abs(nodes["positions"] - pieces.positions).max() < 1e-12


def test_noise_is_on_the_points_and_not_in_the_answer():
    exact, noisy = broken(), broken(noise=0.05)
    assert np.array_equal(*(p.properties.node_targets["assembled"] for p in (exact, noisy)))
    assert abs(np.std(noisy.positions - exact.positions) / 0.05 - 1) < 0.1


def test_points_are_limited_and_the_seed_decides():
    assert len(broken(n_points=100)) == 100
    assert np.array_equal(broken(3).positions, broken(3).positions)
    assert not np.array_equal(broken(3).positions, broken(4).positions)


def test_impossible_pieces_are_refused():
    with pytest.raises(ValueError, match="each piece has a place for its pose; got n_parts=6"):
        broken(n_parts=6)
    with pytest.raises(ValueError, match="ten points or more; got 30 points and n_parts=4"):
        broken(n_points=30)
