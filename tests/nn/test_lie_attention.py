"""Logarithms undo exponentials at every angle, and attention is the sum that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn import LieAttention, Pairs, lift_of, logarithms
from geojax.nn.lie_attention import (
    COMBINATIONS,
    NORMALIZATIONS,
    inverse_left_jacobian,
    rotation_vector,
)

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape))
ANGLES = [0.0, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 2.0, 3.0, np.pi - 1e-3, np.pi - 1e-6, np.pi - 1e-9]


def algebra(six):
    """The 4x4 matrix of (u, omega), whose exponential is a motion."""
    x, y, z = six[3:]
    return np.array([[0, -z, y, six[0]], [z, 0, -x, six[1]], [-y, x, 0, six[2]], [0] * 4])


def logarithm(motion):
    omega = rotation_vector(motion[:3, :3])
    return np.concatenate([inverse_left_jacobian(omega) @ motion[:3, 3], omega])


@pytest.mark.parametrize("angle", ANGLES)
def test_logarithms_undo_exponentials(angle):
    for _ in range(10):
        axis = RNG.normal(size=3)
        six = np.concatenate([RNG.normal(size=3), angle * axis / np.linalg.norm(axis)])
        np.testing.assert_allclose(logarithm(expm(algebra(six))), six, atol=1e-7)


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, -1.0, 0), (0, 1.0, -1.0), (-1.0, 2.0, 3.0)])
def test_a_half_turn_has_one_of_its_logarithms(axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    omega = rotation_vector(2 * np.outer(axis, axis) - np.eye(3))
    np.testing.assert_allclose(np.abs(omega @ axis), np.pi)
    assert omega[np.abs(omega) > 1e-6][0] > 0


@pytest.mark.parametrize("order", [4, 12, 24, 60])
def test_exponentials_of_pairs_are_the_motions_between_them(order, x64):
    lift, r = lift_of(order), np.array([[0.3, -1.2, 2.0]])
    logs = np.asarray(logarithms(jnp.asarray(r), lift))[0]
    for k, l in ((0, 0), (0, 1), (2, 3), (order - 1, 1)):
        motion = expm(algebra(logs[k, l]))
        before, after = lift.rotations[k], lift.rotations[l]
        np.testing.assert_allclose(motion[:3, :3], before.T @ after, atol=1e-12)
        np.testing.assert_allclose(motion[:3, 3], before.T @ r[0], atol=1e-12)


def test_without_rotations_the_logarithm_is_the_difference(x64):
    r = normal(4, 3)
    np.testing.assert_array_equal(logarithms(r, lift_of(1))[:, 0, 0], r)


def graph_of(n):
    structure = Structure(RNG.normal(size=(n, 3)), np.zeros(n, int))
    budget = Budget(n + 1, n * (n - 1), 2)
    batch = pad([sample(structure, np.inf)], budget, np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_are_those_of_all_pairs(name, x64):
    n, k = 3, 2
    graph = graph_of(n)
    edges, own = RNG.normal(size=(n * (n - 1), k, k, 1)), RNG.normal(size=(n + 1, k, k, 1))
    ones, count = np.ones((len(edges), 1, 1, 1)), np.full((1, 1, 1, 1), float(n))
    found = jax.jit(NORMALIZATIONS[name])(edges, own, ones, count, graph)
    a, b, divisor = map(np.asarray, found)
    divisor = np.broadcast_to(divisor, (n + 1, k, 1, 1))
    plain = (lambda s: np.exp(s) / np.exp(s).sum()) if name == "softmax" else lambda s: s / s.size
    for i in range(n):
        arriving = np.asarray(graph.receivers) == i
        for row in range(k):
            scores = np.concatenate([edges[arriving, row, :, 0], own[i : i + 1, row, :, 0]])
            found = np.concatenate([a[arriving, row, :, 0], b[i : i + 1, row, :, 0]])
            np.testing.assert_allclose(found / divisor[i, row], plain(scores), atol=1e-12)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_neighbors_leave_with_their_envelope(name, x64):
    graph = graph_of(3)
    edges, own = RNG.normal(size=(6, 2, 2, 1)), RNG.normal(size=(4, 2, 2, 1))
    gone, count = np.zeros((6, 1, 1, 1)), np.ones((1, 1, 1, 1))
    found = jax.jit(NORMALIZATIONS[name])(edges, own, gone, count, graph)
    weights, own_weights, divisor = map(np.asarray, found)
    assert not weights.any()
    if name == "softmax":
        np.testing.assert_allclose((own_weights.sum(2)[..., None] / divisor)[:3], 1)


def test_what_it_cannot_do_is_refused(key):
    graph = graph_of(2)
    zeros = lambda rows: jnp.zeros((rows, 1, 1, 1))
    pairs = Pairs(zeros(2), zeros(1), zeros(2), zeros(1))
    with pytest.raises(ValueError, match="5 channels and 2 heads"):
        LieAttention(2, 3, "sum", "count").init(key, normal(3, 1, 5), pairs, graph)
    with pytest.raises(KeyError, match="did you mean 'product'"):
        COMBINATIONS["produkt"]
    with pytest.raises(KeyError, match="did you mean 'softmax'"):
        NORMALIZATIONS["soft-max"]
