"""Composed shapes: parts and normals of points are those of the primitives they lie on."""

import numpy as np
import pytest
from scipy.stats import kstest

from geojax.datasets import composed_shapes
from geojax.datasets.composed_shapes import KINDS, PARTS, Primitive, _area, _inside, _on, _surface
from tests.datasets.molecules import counts

DATA = composed_shapes(n_train=8, n_valid=4, n_test=4, n_points=256)
BODIES = [
    Primitive("box", "table top", (1, -1, 2), (0.5, 0.2, 0.1)),
    Primitive("cylinder", "lamp pole", (0, 1, 0), (0.3, 0.3, 0.7)),
    Primitive("ellipsoid", "fuselage", (0, 0, 3), (0.9, 0.3, 0.2)),
]
SHRUNK, GROWN = 0.999, 1.001


def test_shapes_and_their_labels():
    assert counts(DATA) == (8, 4, 4)
    used = set()
    for i, s in enumerate(DATA.train):
        labels = s.properties.node_targets["label"]
        assert s.positions.shape == (256, 3) and not s.species.any()
        assert np.allclose(s.positions.mean(0), 0, atol=1e-9)
        assert np.linalg.norm(s.positions, axis=1).max() == pytest.approx(1)
        assert s.properties.targets["label"] == i % len(KINDS)
        assert np.allclose(np.linalg.norm(s.properties.node_targets["normal"], axis=1), 1)
        used |= set(labels)
    assert used == set(range(len(PARTS))) and DATA.card["classes"] == list(PARTS)


@pytest.mark.parametrize("body", BODIES, ids=[b.shape for b in BODIES])
def test_points_are_on_the_surface_and_normals_go_out(body):
    x, normals = _on(body, 500, np.random.default_rng(0))
    centre = np.asarray(body.centre)
    assert _inside(body, centre + SHRUNK * (x - centre)).all()
    assert not _inside(body, centre + GROWN * (x - centre)).any()
    step = 1e-4 * normals
    assert not _inside(body, x + step).any()
    assert _inside(body, x - 2 * step).mean() > 0.99  # not across an edge


@pytest.mark.parametrize("body", BODIES, ids=[b.shape for b in BODIES])
def test_points_are_uniform_by_area(body):
    """By Gauss, the integral of (x - centre) . n over the surface is three times the volume."""
    x, normals = _on(body, 40_000, np.random.default_rng(1))
    volume = {"box": 8.0, "cylinder": 2 * np.pi, "ellipsoid": 4 * np.pi / 3}[body.shape]
    volume *= np.prod(body.half)
    measured = ((x - np.asarray(body.centre)) * normals).sum(1).mean() * _area(body) / 3
    assert measured == pytest.approx(volume, rel=0.02)
    assert np.abs(normals.mean(0)).max() < 0.02


def test_heights_on_a_ball_are_uniform():
    """Archimedes: equal heights cut equal areas."""
    ball = Primitive("ellipsoid", "lamp shade", (0, 0, 0), (1.0, 1.0, 1.0))
    x, _ = _on(ball, 4000, np.random.default_rng(2))
    assert kstest(x[:, 0], "uniform", (-1, 2)).pvalue > 0.01


def test_nothing_inside_another_primitive_is_left():
    left = Primitive("box", "table top", (0, 0, 0), (1.0, 1.0, 1.0))
    right = Primitive("ellipsoid", "table leg", (1, 0, 0), (0.5, 0.5, 0.5))
    x, _, part = _surface([left, right], 2000, np.random.default_rng(0))
    assert not _inside(left, x).any() and not _inside(right, x).any()
    # half of the ball is in the box, and takes a disc out of one face
    share = (part == PARTS.index("table leg")).mean()
    expected = 0.5 * np.pi / (0.5 * np.pi + 24 - 0.25 * np.pi)
    assert share == pytest.approx(expected, abs=0.015)


def test_shapes_follow_the_seed_and_not_the_number():
    again = composed_shapes(n_train=2, n_valid=0, n_test=0, n_points=256)
    other = composed_shapes(n_train=2, n_valid=0, n_test=0, n_points=256, seed=1)
    assert np.array_equal(again.train[1].positions, DATA.train[1].positions)
    assert not np.allclose(other.train[1].positions, DATA.train[1].positions)


@pytest.mark.parametrize("options", [{"n_points": 0}, {"n_train": 0}, {"n_test": -1}])
def test_bad_numbers_are_refused(options):
    with pytest.raises(ValueError, match="at least one shape"):
        composed_shapes(**options)
