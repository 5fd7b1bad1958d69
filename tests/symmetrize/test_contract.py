"""What every provider promises: a function without symmetry has the provider's behind its frames.

The learned one, which has parameters, is in tests/networks.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.symmetrize import PROVIDERS, Provider, provider_of, symmetrize
from tests.symmetrize.clouds import (
    IRREPS,
    LINE,
    METHANE,
    cloud,
    graph_of,
    mlp,
    moved,
    rotation,
    turned,
)

CASES = {
    "pca": ("pca", {}),
    "weighted": ("weighted", {"pairs": 30}),
    "distances": ("distances", {}),
}
MORE = {
    "pca-se3": ("pca", {"group": "SE(3)"}),
    "stochastic": ("stochastic", {"group": "SE(3)"}),
    "weighted-e3": ("weighted", {"pairs": 30, "group": "E(3)", "half_turns": True}),
    "weighted-near": ("weighted", {"pairs": 30, "radius": 4.0, "slots": 6}),
}
every_provider = pytest.mark.parametrize(
    "case", [*CASES, *[pytest.param(name, marks=pytest.mark.slow) for name in MORE]]
)


def provider(case):
    name, options = (CASES | MORE)[case]
    return provider_of(name, options)


@cache
def ready(case):
    """Of a graph: outputs, the derivative of a sum of functions of the scalars, and the frames."""

    def outputs(positions, graph):
        graph = moved(graph, positions)
        frames = provider(case)(graph)
        found = symmetrize(mlp, graph, frames, IRREPS)
        return jnp.sum(jnp.tanh(found[:, :2])), (found, frames)

    run = jax.jit(jax.grad(outputs, has_aux=True))

    def of_graph(graph):
        gradient, (found, frames) = jax.tree.map(np.asarray, run(graph.nodes["positions"], graph))
        return found, gradient, frames

    return of_graph


def test_every_provider_is_tried():
    pure = {name for name, kind in PROVIDERS.items() if kind.__module__.split(".")[1] != "networks"}
    assert pure == {name for name, _ in (CASES | MORE).values()}
    assert all(isinstance(provider(case), Provider) for case in CASES | MORE)


@every_provider
def test_outputs_and_gradients_turn_with_the_structure(case, x64):
    run, x = ready(case), cloud()
    found, gradient, _ = run(graph_of(x))
    for improper in (False, True)[: 2 if provider(case).group == "E(3)" else 1]:
        matrix = rotation(improper=improper)
        graph = graph_of(x @ matrix.T)
        away = np.asarray(graph.nodes["positions"]) + np.array([2.0, -1.0, 4.0])
        after, gradient_after, _ = run(moved(graph, jnp.asarray(away)))
        np.testing.assert_allclose(after, turned(found, matrix), atol=1e-10)
        np.testing.assert_allclose(gradient_after, gradient @ matrix.T, atol=1e-10)
    assert np.ptp(found[:5], 0).min() > 1e-3
    assert not found[5:].any() and not gradient[5:].any()


@every_provider
def test_mirror_images_differ_for_se3_alone(case, x64):
    run = ready(case)
    found, mirrored = (run(graph_of(s * cloud()))[0][:5, :2] for s in (1, -1))
    assert (np.abs(found - mirrored).max() < 1e-10) == (provider(case).group == "E(3)")


@every_provider
def test_order_company_and_padding_mean_nothing(case, x64):
    run, x, y = ready(case), cloud(5), cloud(4, seed=1)
    alone, gradient, _ = run(graph_of(x))
    order = np.random.default_rng(0).permutation(5)
    np.testing.assert_allclose(run(graph_of(x[order]))[0][:5], alone[order], atol=1e-12)
    together, gradients, _ = run(graph_of(y, x))
    np.testing.assert_allclose(together[4:9], alone[:5], atol=1e-12)
    np.testing.assert_allclose(gradients[4:9], gradient[:5], atol=1e-12)
    graph = graph_of(x)
    other = np.array(graph.nodes["positions"])
    other[5:] = 7.0
    np.testing.assert_array_equal(run(moved(graph, jnp.asarray(other)))[0], alone)


@every_provider
def test_gradients_are_those_of_finite_differences(case, x64):
    assert provider(case).conservative
    run, x, step = ready(case), cloud(), 1e-6
    gradient = run(graph_of(x))[1]
    along = np.random.default_rng(1).normal(size=x.shape)
    along -= along.mean(0)  # `sample` keeps the centre
    ends = [np.tanh(run(graph_of(x + s * step * along))[0][:, :2]).sum() for s in (1, -1)]
    np.testing.assert_allclose((gradient[:5] * along).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@every_provider
def test_nothing_but_numbers_comes_of_degenerate_structures(case, x64):
    run = ready(case)
    for x in (LINE, METHANE, METHANE[:1], np.zeros((3, 3)), cloud() * np.array([1, 1, 0])):
        for values in run(graph_of(x))[:2]:
            assert np.isfinite(values).all()


@every_provider
def test_frames_are_orthogonal_and_weights_sum_to_one(case, x64):
    frames = ready(case)(graph_of(cloud(5), cloud(4, seed=1)))[2]
    matrices = frames.matrices
    identity = np.einsum("gfab,gfac->gfbc", matrices, matrices)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), matrices.shape), atol=1e-12)
    np.testing.assert_allclose(frames.weights.sum(1), [1, 1, 0, 0], atol=1e-14)
    if provider(case).group == "SE(3)":
        np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-12)
    np.testing.assert_allclose(frames.origins[:2], [[0.3, -0.2, 0.5]] * 2, atol=1e-14)


@every_provider
def test_crystals_have_no_frames(case, x64):
    graph = graph_of(cloud(), cloud(4))
    shifts = jnp.asarray(np.eye(8, 3))
    graph = graph._replace(edges={"shifts": shifts}, n_edge=jnp.asarray([1, 0, 0, 7], np.int32))
    with jax.debug_nans(False):
        found, _, frames = ready(case)(graph._replace(edges={"shifts": shifts.at[1:].set(0)}))
    assert np.isnan(frames.weights[0]).all() and not np.isnan(frames.weights[1:]).any()
    assert np.isnan(found[:5]).all() and not np.isnan(found[5:]).any()
