"""Furniture: 333 clouds in 14 classes, held out by class and by model."""

import re

import numpy as np
import pytest

from geojax.datasets import furniture
from geojax.datasets.dataset import Dataset

PER_CLASS = {"chair": 42, "desk_table": 35, "tableware": 32, "storage": 31, "bed": 10}


def labels(structures) -> np.ndarray:
    return np.array([int(s.properties.targets["label"]) for s in structures])


@pytest.fixture
def data(real) -> Dataset:
    return real("furniture", n_points=256)


def test_counts_and_classes(data):
    every = [*data.train, *data.valid]
    assert len(every) == 333 and len(data.card["classes"]) == 14
    found = np.bincount(labels(every), minlength=14)
    assert {name: found[data.card["classes"].index(name)] for name in PER_CLASS} == PER_CLASS


def test_a_fifth_of_each_class_is_held_out_and_models_stay_together(data):
    share = np.bincount(labels(data.valid), minlength=14) / np.bincount(
        labels([*data.train, *data.valid]), minlength=14
    )
    assert (share > 0).all() and share.max() < 0.27
    base = lambda s: (
        int(s.properties.targets["label"]),
        re.sub(r"[\d\W]+", " ", s.info["name"].lower()).strip(),
    )
    assert not {base(s) for s in data.train} & {base(s) for s in data.valid}


def test_clouds_are_points_on_a_scaled_surface(data):
    for s in data.train[:40]:
        assert s.positions.shape == (256, 3) and not s.species.any() and s.cell is None
        assert 0.5 < np.linalg.norm(s.positions, axis=1).max() <= 1.001
        assert np.allclose(np.linalg.norm(s.inputs["normals"], axis=1), 1, atol=1e-6)
        assert s.info["library"] and s.info["creator"]  # the licence asks for the names


def test_radius_and_tilt_do_not_turn(data):
    """They are made of lengths and products, which a rotation of all vectors leaves alone."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for s in data.train[:5]:
        arms = (s.positions - s.positions.mean(0)) @ turn.T
        normals = s.inputs["normals"] @ turn.T
        assert np.allclose(s.inputs["radius"], np.linalg.norm(arms, axis=1), atol=1e-6)
        assert np.allclose(s.inputs["tilt"], np.abs((arms * normals).sum(1)), atol=1e-6)


def test_normals_are_normal(real):
    """Neighbours on a surface lie across the normal: |n·d| is small (isotropic: 1/2)."""
    cosines = []
    for s in real("furniture", n_points=2048).train[:20]:
        distance = np.linalg.norm(s.positions[:, None] - s.positions[:64][None], axis=-1)
        near = np.argsort(distance, axis=0)[1:4].T  # [point, 3]
        step = s.positions[near] - s.positions[:64, None]
        length = np.maximum(np.linalg.norm(step, axis=-1), 1e-6)
        cosines.append(np.abs(np.sum(step * s.inputs["normals"][:64, None], -1)) / length)
    assert np.median(np.concatenate(cosines)) < 0.1


def test_points_are_chosen_by_the_seed(real, data):
    other = real("furniture", n_points=256, seed=1)
    assert not np.array_equal(other.train[0].positions, data.train[0].positions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_points": 4096}, "a cloud has 1 to 2048 points; got n_points=4096"),
        ({"valid": 1.0}, "from 0 to below 1; got 1.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        furniture(**options)
