"""What networks in the frames of edges start from, against loops and harmonics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, edge_vectors, pad, sample, to_receivers
from geojax.nn import (
    EdgeDegree,
    EdgeInvariants,
    NodeEmbedding,
    RadialNetwork,
    edge_inputs,
)
from geojax.so3 import expand_by_degree, harmonics

CUTOFF, LMAX, C = 3.0, 2, 3
SETTINGS = {"lmax": LMAX, "cutoff": CUTOFF, "n_basis": 5, "envelope": 5}


@pytest.fixture
def graph(x64):
    positions = np.array([[0.0, 0, 0], [0, 1.5, 0], [1.2, 0.3, -0.8], [2.9, 2.0, 0.1]])
    structure = Structure(positions, np.array([1, 1, 1, 1]))
    batch = pad([sample(structure, CUTOFF)], Budget(6, 20, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def parameters(layer, *operands):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), *operands)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), shapes)


def test_waves_and_envelope(graph):
    edges = edge_inputs(graph, jnp.ones((6, 2)), **SETTINGS)
    r = np.linalg.norm(edge_vectors(graph), axis=-1)
    centres = np.linspace(0, CUTOFF, 5)
    expected = np.exp(-((r[:, None] - centres) ** 2) / (2 * (2 * 0.75) ** 2))
    np.testing.assert_allclose(edges.waves, expected, atol=1e-14)
    x = r / CUTOFF
    np.testing.assert_allclose(edges.envelope, 1 - 21 * x**5 + 35 * x**6 - 15 * x**7, atol=1e-14)
    wider = edge_inputs(graph, jnp.ones((6, 2)), **SETTINGS, reach=4.0)
    assert wider.waves[0, -1] != edges.waves[0, -1]
    everyone = edge_inputs(graph, jnp.ones((6, 2)), **{**SETTINGS, "cutoff": np.inf}, reach=4.0)
    np.testing.assert_array_equal(everyone.envelope, 1)


def test_the_edge_degree_embedding_is_a_sum_of_harmonics(graph):
    inputs = jax.random.normal(jax.random.key(1), (6, 2))
    edges = edge_inputs(graph, inputs, **SETTINGS)
    invariants = EdgeInvariants(4)
    e = invariants.apply(parameters(invariants, edges, graph), edges, graph)
    assert e.shape == (20, 5 + 2 * 4)
    layer = EdgeDegree(C, LMAX, (6,))
    params = parameters(layer, edges, e, graph)
    found = layer.apply(params, edges, e, graph)
    radial = RadialNetwork((6, (LMAX + 1) * C))
    weights = radial.apply({"params": params["params"]["radial"]}, e).reshape(20, LMAX + 1, C)
    y = harmonics(edge_vectors(graph), LMAX)[..., None]
    terms = y * expand_by_degree(weights) * edges.envelope[:, None, None]
    np.testing.assert_allclose(found[:4], to_receivers(terms, graph)[:4], atol=1e-13)


def test_nodes_start_with_scalars_and_vectors(key, x64):
    scalars, vectors = jnp.ones((3, 2)), jax.random.normal(key, (3, 3, 2))
    layer = NodeEmbedding(C, LMAX)
    params = parameters(layer, scalars, vectors)
    x = layer.apply(params, scalars, vectors)
    assert x.shape == (3, 9, C) and not x[:, 4:].any()
    kernel = params["params"]["vectors"]["kernel"] / np.sqrt(2)
    np.testing.assert_allclose(x[:, 1:4], vectors @ kernel, atol=1e-14)
    alone = layer.init(key, scalars, vectors[..., :0])
    assert set(alone["params"]) == {"scalars"}
    with pytest.raises(ValueError, match="features of degree 1; got lmax=0"):
        NodeEmbedding(C, 0).init(key, scalars, vectors)


def test_what_says_too_little_is_refused(graph):
    with pytest.raises(ValueError, match=r"got cutoff=inf and reach=None; give reach"):
        edge_inputs(graph, jnp.ones((6, 2)), **{**SETTINGS, "cutoff": np.inf})
