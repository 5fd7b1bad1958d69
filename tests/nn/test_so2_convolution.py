"""Messages in the frames of edges: free of roll, with the stated parity; attention over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn import (
    SO2Attention,
    SO2Bottleneck,
    SO2Message,
    both_ends,
    edge_inputs,
    smooth_leaky_relu,
    sum_messages,
)
from geojax.so3 import random_rotation, rotate, wigner_d

CUTOFF, LMAX, C = 3.0, 2, 3


def graph_of(positions):
    structure = Structure(positions, np.ones(len(positions), int))
    batch = pad([sample(structure, CUTOFF)], Budget(6, 20, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


POSITIONS = np.array([[0.0, 0, 0], [0, 1.5, 0], [1.2, 0.3, -0.8], [1.9, 1.0, 0.1]])


class Bottleneck(SO2Bottleneck):
    """With the call of a message."""

    def __call__(self, x, invariants, edges, graph):
        rows = both_ends(x, edges, graph, m_max=self.m_max)
        return super().__call__(rows, invariants), None


MESSAGES = {
    "all": SO2Message(2, 4, LMAX, 1, (5,), parity="all"),
    "even": SO2Message(2, 4, LMAX, 1, (5,), parity="even"),
    "bottleneck": Bottleneck(4, LMAX, 1),
    "bottleneck-even": Bottleneck(4, LMAX, 1, chiral=False),
}


def run(layer, positions, x, turn=None):
    """The sums at the nodes; with `turn` the frames have another roll."""
    graph = graph_of(positions)
    edges = edge_inputs(graph, jnp.ones((6, 1)), lmax=LMAX, cutoff=CUTOFF, n_basis=4, envelope=5)
    if turn is not None:
        roll = wigner_d(turn, LMAX)
        edges = edges._replace(frames=[r @ d for r, d in zip(roll, edges.frames, strict=True)])
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x, edges.waves, edges, graph)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), shapes)

    @jax.jit
    def sums(x, edges):
        rows, _ = layer.apply(params, x, edges.waves, edges, graph)
        return sum_messages(rows, edges, graph, m_max=1)[:4]

    return np.asarray(sums(x, edges))


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_commute_with_rotations_and_do_not_see_the_roll(x64, key, name):
    """And, without the matrices that change parity, with reflections."""
    x = jax.random.normal(key, (6, 9, C))
    turn = random_rotation(key, improper="even" in name)
    plain = run(MESSAGES[name], POSITIONS, x)
    assert np.abs(plain).max() > 0.1
    after = run(MESSAGES[name], POSITIONS @ np.asarray(turn).T, rotate(turn, x))
    np.testing.assert_allclose(after, rotate(turn, jnp.asarray(plain)), atol=1e-12)
    angle = 0.7
    c, s = np.cos(angle), np.sin(angle)
    about_y = jnp.asarray([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    np.testing.assert_allclose(run(MESSAGES[name], POSITIONS, x, about_y), plain, atol=1e-12)


def test_parity_is_what_the_matrices_keep(x64, key):
    """With all matrices a mirror image is told apart."""
    x, turn = jax.random.normal(key, (6, 9, C)), random_rotation(key, improper=True)
    plain = run(MESSAGES["all"], POSITIONS, x)
    after = run(MESSAGES["all"], POSITIONS @ np.asarray(turn).T, rotate(turn, x))
    assert np.abs(after - rotate(turn, jnp.asarray(plain))).max() > 1e-2


def test_smooth_leaky_relu(x64):
    x = jnp.asarray([-30.0, -1.0, 0.0, 1.0, 30.0])
    found = smooth_leaky_relu(x)
    np.testing.assert_allclose(found[jnp.array([0, 2, 4])], [-6, 0, 30], atol=1e-10)
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(found, 0.6 * x + 0.4 * x * (2 * sigmoid - 1), atol=1e-14)


def test_attention_is_a_mean_with_shares_that_fade(x64, key):
    """Equal logits and values: the sum of u² over the sum of u, and all of it for one neighbour."""
    layer = SO2Attention(2, LMAX, 1, 4, 3, 2, 4)
    graph = graph_of(POSITIONS)
    edges = edge_inputs(graph, jnp.ones((6, 1)), lmax=LMAX, cutoff=CUTOFF, n_basis=4, envelope=5)
    x = jax.random.normal(key, (6, 9, C))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x, edges, graph)
    params = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)["params"]
    # Only the bias of order 0 is left: the first width entries are the scalars of each channel.
    params["message"]["second"]["bias"] = params["message"]["second"]["bias"].at[:4].set(1.0)
    found = jax.jit(layer.apply)({"params": params}, x, edges, graph)
    receivers, u = np.asarray(graph.receivers), np.asarray(edges.envelope)
    for node in range(4):
        near = u[receivers == node]
        np.testing.assert_allclose(found[node, 0], (near**2).sum() / near.sum(), atol=1e-14)
    assert not np.asarray(found[:4, 1:]).any()
