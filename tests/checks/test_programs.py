from functools import partial

import jax
import numpy as np
import pytest

from geojax.checks.context import Context
from geojax.checks.examples import generated
from geojax.checks.programs import Programs, round_up, sizes
from geojax.curvature import hessian_vector_product
from geojax.graphs import Sample, pad, sample
from geojax.potential import predict_fn
from tests.checks.potentials import ELEMENTS, Good, model

STRUCTURES = list(generated(ELEMENTS, 4.0, seed=1).values())


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [sample(s, 4.0) for s in STRUCTURES]


@pytest.fixture(scope="module")
def programs() -> Programs:
    examples = dict(zip(("molecule", "crystal", "slab"), STRUCTURES, strict=True))
    return Context(model(), examples, species=ELEMENTS, dtype="float64", seed=0).programs


def test_predictions_are_those_of_the_potential(programs, samples):
    found = programs.evaluate(samples * 10)
    assert len(found) == 30
    with jax.enable_x64(True):
        graph = pad(samples, sizes(samples), np.float64).graph
        predict = predict_fn(Good(), model().card.outputs, forces=True, stress=True)
        want = jax.jit(predict)(programs._params, graph)
    first = len(STRUCTURES[0])
    np.testing.assert_allclose(found[0]["energy"], want.energy[0], rtol=1e-13)
    np.testing.assert_allclose(found[27]["forces"], want.forces[:first], rtol=1e-10)
    np.testing.assert_allclose(found[1]["stress"], want.stress[1], rtol=1e-10)
    assert "stress" not in found[0]


def test_the_probe_is_the_gradient_and_its_derivative(programs, samples, key):
    vectors = [np.asarray(jax.random.normal(key, s.positions.shape)) for s in STRUCTURES]
    found = programs.probe(samples, vectors, [1.0, 1.0, 1.0])
    plain = programs.evaluate(samples)
    with jax.enable_x64(True):
        budget = sizes(samples)
        graph = jax.tree.map(jax.numpy.asarray, pad(samples, budget, np.float64).graph)
        rows = np.concatenate([*vectors, np.zeros((1, 3))]).astype(np.float64)
        predict = predict_fn(Good(), model().card.outputs, forces=True)
        product = jax.jit(partial(hessian_vector_product, predict))
        want = product(programs._params, graph, jax.numpy.asarray(rows))
    directional = np.concatenate([p.directional for p in found])
    np.testing.assert_allclose(directional, want[:-1], rtol=1e-9, atol=1e-12)
    for probe, values in zip(found, plain, strict=True):
        np.testing.assert_allclose(probe.gradient, -values["forces"], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(probe.values["energy"], values["energy"], rtol=1e-12)


def test_weights_choose_whose_gradient_it_is(programs, samples):
    zero = [np.zeros_like(s.positions) for s in STRUCTURES]
    only = programs.probe(samples, zero, [0.0, 1.0, 0.0])
    every = programs.probe(samples, zero, [1.0, 1.0, 1.0])
    assert not only[0].gradient.any() and not only[2].gradient.any()
    np.testing.assert_array_equal(only[1].gradient, every[1].gradient)


@pytest.mark.parametrize("outside", [False, True])
def test_the_precision_is_not_the_callers(samples, programs, outside):
    with jax.enable_x64(outside):
        single = Programs(model(), "float32", programs.budget, programs.small, stress=True)
        a, b = single.evaluate(samples)[0], programs.evaluate(samples)[0]
    assert 1e-9 < abs(float(a["energy"] / b["energy"] - 1)) < 1e-5
    assert float(a["energy"]) == np.float32(a["energy"])


def test_sizes_count_padding(samples):
    n_node = sum(len(s) for s in STRUCTURES)
    assert sizes(samples)[0] == n_node + 1
    assert sizes(samples)[2] == 4
    assert (round_up(64, 32), round_up(65, 32)) == (64, 96)
