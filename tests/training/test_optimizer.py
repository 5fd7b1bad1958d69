"""Optimizers and schedules from their table, against optax written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax.training.optimizer import OPTIMIZERS, SCHEDULES, Optimizer, build

PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
GRADIENT = jax.tree.map(lambda x: 3 * x, PARAMS)


def steps(transformation, count=3):
    state, params = transformation.init(PARAMS), PARAMS
    for _ in range(count):
        updates, state = transformation.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_equal_trees(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), left, right)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", optax.adam(0.1)),
        ("amsgrad", optax.amsgrad(0.1)),
        ("lion", optax.lion(0.1, b1=0.9, b2=0.999, weight_decay=0.0)),
        ("sgd", optax.sgd(0.1, momentum=0.9)),
    ],
)
def test_they_are_those_of_optax(name, reference):
    assert_equal_trees(steps(build(Optimizer(name, 0.1), 10)), steps(reference))
    assert name in OPTIMIZERS


def test_decay_is_decoupled_and_spares_vectors():
    decayed = steps(build(Optimizer(learning_rate=0.1, weight_decay=0.5), 10), 1)
    plain = steps(build(Optimizer(learning_rate=0.1), 10), 1)
    np.testing.assert_allclose(decayed["w"], plain["w"] - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(decayed["b"], plain["b"])


def test_frozen_parameters_stay_and_do_not_count():
    """Neither decay nor momentum moves them; the others are clipped without their gradients."""
    settings = {"name": "sgd", "learning_rate": 1.0, "weight_decay": 0.5, "clip": 0.1}
    moved = steps(build(Optimizer(**settings, freeze=("w*",)), 10), 2)
    np.testing.assert_array_equal(moved["w"], PARAMS["w"])
    once = steps(build(Optimizer("sgd", 1.0, clip=0.1, freeze=["w"]), 10), 1)
    np.testing.assert_allclose(np.linalg.norm(once["b"] - PARAMS["b"]), 0.1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"none is 'v/\*'; there are: b, w"):
        steps(build(Optimizer(freeze=("v/*",)), 10))


def test_clipping_is_by_the_global_norm():
    moved = steps(build(Optimizer("sgd", 1.0, clip=0.1), 10), 1)
    norm = optax.tree.norm(jax.tree.map(lambda a, b: a - b, PARAMS, moved))
    np.testing.assert_allclose(norm, 0.1, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_rise_and_fall(schedule):
    optimizer = Optimizer("sgd", 1.0, schedule, final=0.1, warmup=5, b1=0.0)
    transformation = build(optimizer, 25)
    state, rates = transformation.init(PARAMS), []
    for _ in range(26):
        updates, state = transformation.update(GRADIENT, state, PARAMS)
        rates.append(-float(updates["b"][0]) / 3)
    assert rates[0] == 0
    np.testing.assert_allclose(rates[5], 1, rtol=1e-6)
    np.testing.assert_allclose(rates[25], 1 if schedule == "constant" else 0.1, rtol=1e-5)


@pytest.mark.parametrize("change", [{"name": "adma"}, {"schedule": "cosinus"}])
def test_unknown_names_get_a_suggestion(change):
    with pytest.raises(KeyError, match="did you mean"):
        build(Optimizer(**change), 10)
