"""The attention of SE(3)-Transformers against a loop over nodes; what turns and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn.steerable import SteerableKernel, couple
from geojax.nn.steerable_attention import (
    AttentiveSelfInteraction,
    SteerableAttention,
    agreement,
    with_relative,
)
from geojax.nn.steerable_convolution import edge_attributes, edge_envelope, steerable_edges
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
S, V = Irrep("0e"), Irrep("1o")
NODES, LMAX = 5, 1
POSITIONS = RNG.normal(size=(NODES, 3))
BLOCKS = {S: RNG.normal(size=(NODES + 1, 1, 4)), V: RNG.normal(size=(NODES + 1, 3, 4))}


def graph_of(positions=POSITIONS, cutoff=np.inf):
    structure = Structure(positions, np.zeros(NODES, int))
    batch = pad([sample(structure, cutoff)], Budget(NODES + 1, 22, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def edges_of(graph):
    envelope = edge_envelope(graph, np.inf, 6)
    return steerable_edges(graph, LMAX, edge_attributes(graph), envelope)


def features():
    return {i: jnp.asarray(block) for i, block in BLOCKS.items()}


def random(module, *inputs):
    """Parameters, and the compiled map of the inputs."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    params = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)
    return params, jax.jit(lambda *inputs: module.apply(params, *inputs))


def test_one_layer_equals_the_equations(x64):
    """Two heads, keys and values of half the channels, one matrix of self-interaction."""
    graph, x, widths = graph_of(), features(), {S: 4, V: 4}
    edges = edges_of(graph)
    layer = SteerableAttention(widths, divide=2, heads=2, hidden=4)
    params, apply = random(layer, x, edges, graph)
    found = apply(x, edges, graph)

    p, half = params["params"], {S: 2, V: 2}
    coupled = couple({i: b[graph.senders] for i, b in x.items()}, edges.harmonics, half)
    kernel = jax.jit(lambda p: SteerableKernel(half, hidden=4).apply(p, coupled, edges.invariants))
    key, value = (jax.tree.map(np.asarray, kernel({"params": p[n]})) for n in ("key", "value"))
    query = {i: BLOCKS[i] @ np.asarray(p["query"][str(i)]) / 2 for i in half}
    receivers = np.asarray(graph.receivers)
    for node in range(NODES):
        arriving = np.flatnonzero(receivers == node)
        z = {i: np.zeros((i.dim, 2)) for i in half}
        for head in range(2):
            logits = sum(key[i][arriving, :, head] @ query[i][node, :, head] for i in half)
            weights = np.exp(logits / np.sqrt(2 * 1 + 2 * 3))
            weights /= weights.sum()
            for i in half:
                z[i][:, head] = weights @ value[i][arriving, :, head]
        for i in half:
            mixed = np.concatenate([z[i], BLOCKS[i][node]], -1) @ np.asarray(p["mix"][str(i)])
            np.testing.assert_allclose(found[i][node], mixed / np.sqrt(6), atol=1e-12)


def test_weights_do_not_turn(x64):
    """q · k is the same when both turn."""
    graph = graph_of()
    key = {i: jnp.asarray(RNG.normal(size=(22, i.dim, 4))) for i in BLOCKS}
    turn = random_rotation(jax.random.key(2), improper=True, dtype=jnp.float64)
    turned = lambda blocks: {**blocks, V: jnp.einsum("ab,nbc->nac", turn, blocks[V])}
    before = agreement(features(), key, 2, graph)
    after = agreement(turned(features()), turned(key), 2, graph)
    assert before.shape == (22, 2)
    np.testing.assert_allclose(after, before, atol=1e-13)


def test_a_node_without_neighbours_keeps_its_own_features(x64):
    """A softmax over nothing is no NaN: what is left is the self-interaction."""
    far = POSITIONS.copy()
    far[0] += 100
    graph, x = graph_of(far, cutoff=20.0), features()
    edges, layer = edges_of(graph), SteerableAttention({S: 4, V: 4}, hidden=4)
    params, apply = random(layer, x, edges, graph)
    found = apply(x, edges, graph)
    for i in BLOCKS:
        own = np.asarray(params["params"]["mix"][str(i)])[4:] / np.sqrt(8)
        np.testing.assert_allclose(found[i][0], BLOCKS[i][0] @ own, atol=1e-12)


def test_relative_positions_join_the_vectors(x64):
    sent = {i: jnp.asarray(RNG.normal(size=(3, i.dim, 2))) for i in BLOCKS}
    vectors, before = jnp.asarray(RNG.normal(size=(3, 3))), np.asarray(sent[V]).copy()
    added = with_relative(sent, vectors, "add")[V]
    np.testing.assert_array_equal(added[..., 0], before[..., 0] + vectors)
    np.testing.assert_array_equal(added[..., 1], before[..., 1])
    joined = with_relative(sent, vectors, "cat")[V]
    np.testing.assert_array_equal(joined[..., :2], before)
    np.testing.assert_array_equal(joined[..., 2], vectors)
    np.testing.assert_array_equal(sent[V], before)
    assert with_relative({S: sent[S]}, vectors, "cat")[V].shape == (3, 3, 1)
    assert set(with_relative({S: sent[S]}, vectors, "add")) == {S}


def test_attentive_self_interaction_takes_means_of_channels(x64):
    """Weights are positive and sum to one, so equal channels stay; and they do not turn."""
    x = features()
    _, apply = random(AttentiveSelfInteraction({S: 3, V: 2}, "silu"), x)
    assert apply(x)[V].shape == (NODES + 1, 3, 2)
    equal = {i: jnp.broadcast_to(block[..., :1], block.shape) for i, block in x.items()}
    np.testing.assert_allclose(apply(equal)[V], np.asarray(equal[V][..., :2]), atol=1e-12)
    turn = random_rotation(jax.random.key(2), improper=True, dtype=jnp.float64)
    after = apply({**x, V: jnp.einsum("ab,nbc->nac", turn, x[V])})[V]
    np.testing.assert_allclose(after, jnp.einsum("ab,nbc->nac", turn, apply(x)[V]), atol=1e-12)


def test_channels_that_heads_cannot_share_are_refused(x64):
    graph = graph_of()
    edges = edges_of(graph)
    with pytest.raises(ValueError, match="got heads=3 for values of 4x0e"):
        SteerableAttention({S: 4}, heads=3).init(jax.random.key(0), features(), edges, graph)
    with pytest.raises(ValueError, match="got 'sum'"):
        with_relative({}, edges.vectors, "sum")
