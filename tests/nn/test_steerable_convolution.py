"""The layer of Tensor Field Networks against a loop over edges, and what layers read."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.graphs import Budget, Structure, edge_vectors, pad, sample
from geojax.nn.message import sum_divisor
from geojax.nn.radial import polynomial_envelope
from geojax.nn.steerable import SteerableKernel, couple
from geojax.nn.steerable_convolution import (
    SteerableConvolution,
    edge_attributes,
    edge_envelope,
    node_blocks,
    steerable_edges,
)

RNG = np.random.default_rng(0)
S, V = Irrep("0e"), Irrep("1o")
CUTOFF, LMAX = 3.0, 1


def graph_of(cutoff=CUTOFF):
    inputs = {"charges": RNG.choice([-1.0, 1.0], 5), "velocities": RNG.normal(size=(5, 3))}
    structure = Structure(RNG.normal(size=(5, 3)), np.zeros(5, int), inputs=inputs)
    batch = pad([sample(structure, cutoff)], Budget(6, 22, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def edges_of(graph, cutoff=CUTOFF):
    envelope = edge_envelope(graph, cutoff, 6)
    return steerable_edges(graph, LMAX, edge_attributes(graph, charge="charges"), envelope)


def test_a_convolution_is_a_sum_over_edges_plus_a_self_interaction(x64):
    graph = graph_of()
    edges, divisor = edges_of(graph), sum_divisor(graph, CUTOFF, 4.0)
    x = node_blocks(graph, (0,), ("charges",), ("velocities",))
    widths = {S: 3, V: 2}
    layer = SteerableConvolution(widths, hidden=4)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x, edges, divisor, graph)
    params = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)
    found = jax.jit(layer.apply)(params, x, edges, divisor, graph)

    sent = {i: block[graph.senders] for i, block in x.items()}
    kernel = SteerableKernel(widths, hidden=4)
    own = {"params": params["params"]["kernel"]}
    messages = jax.jit(kernel.apply)(own, couple(sent, edges.harmonics, widths), edges.invariants)
    u = polynomial_envelope(jnp.linalg.norm(edge_vectors(graph), axis=-1), CUTOFF, 6) ** 2
    for i in widths:
        own = params["params"]["self_interaction"][str(i)]
        expected = np.array(x[i]) @ np.asarray(own)  # one channel: fan-in 1
        for edge, receiver in enumerate(np.asarray(graph.receivers)):
            expected[receiver] += np.asarray(messages[i][edge] * u[edge]) / 4.0
        np.testing.assert_allclose(found[i][:5], expected[:5], atol=1e-12)


def test_what_the_layers_read(x64):
    graph = graph_of()
    edges = edges_of(graph)
    q = np.asarray(graph.nodes["charges"])
    r = np.linalg.norm(np.asarray(edges.vectors), axis=-1)
    pairs = q[np.asarray(graph.receivers)] * q[np.asarray(graph.senders)]
    np.testing.assert_allclose(edges.invariants, np.stack([pairs, r], -1), atol=1e-12)
    assert edges.harmonics.shape[1] == (2 * LMAX + 1) ** 2
    graph = graph._replace(edges={**graph.edges, "kind": jnp.ones((22, 2), jnp.float32)})
    found = edge_attributes(graph, ("kind",), "charges")
    assert found.shape == (22, 3) and found.dtype == jnp.float64
    blocks = node_blocks(graph, (0,), (), ("velocities",))
    np.testing.assert_array_equal(blocks[V][..., 0], graph.nodes["velocities"])
    assert set(node_blocks(graph, (0,), ("charges",), ())) == {S}


def test_without_a_cutoff_there_is_no_envelope(x64):
    graph = graph_of(math.inf)
    assert edge_envelope(graph, math.inf, 6) is None


def test_unknown_inputs_are_refused(x64):
    with pytest.raises(KeyError, match="did you mean 'charges'"):
        edge_attributes(graph_of(), charge="charge")
    with pytest.raises(KeyError, match="its edges have .* not 'bonds'"):
        edge_attributes(graph_of(), ("bonds",))
