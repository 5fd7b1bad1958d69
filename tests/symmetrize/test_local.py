"""Frames of nodes: exact in the plane, and in space with a second vector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.symmetrize import from_local, local_pairs, node_frames, planar_frames, to_local
from tests.symmetrize.clouds import rotation

RNG = np.random.default_rng(0)
X, V, A = RNG.normal(size=(3, 5, 3))


def pairs_of(frames, x, v):
    """Of all ordered pairs."""
    i, j = np.nonzero(~np.eye(len(x), dtype=bool))
    return local_pairs(frames[i], frames[j], x[j] - x[i], v[j])


def published(v):
    """R_z(azimuth) R_y(polar angle): z along the velocity, the rest tied to the world's z axis."""
    azimuth = np.arctan2(v[:, 1], v[:, 0])
    polar = np.arccos(v[:, 2] / np.linalg.norm(v, axis=1))
    c, s, z, o = np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth), np.ones_like(azimuth)
    about_z = np.array([[c, -s, z], [s, c, z], [z, z, o]]).transpose(2, 0, 1)
    c, s = np.cos(polar), np.sin(polar)
    about_y = np.array([[c, z, s], [z, o, z], [-s, z, c]]).transpose(2, 0, 1)
    return about_z @ about_y


spatial = jax.jit(lambda x, v, a: pairs_of(node_frames(v, a), x, v))
of_published = jax.jit(lambda frames, x, v: pairs_of(frames, x, v))


def repaired(x, v, a):
    return np.asarray(spatial(*map(jnp.asarray, (x, v, a))))


def as_published(x, v):
    return np.asarray(of_published(*map(jnp.asarray, (published(v), x, v))))


def test_in_space_a_second_vector_makes_frames_turn_with_everything(x64):
    """Without it, as published, they turn with rotations about z alone."""
    matrix = rotation()
    base = repaired(X, V, A)
    assert base.shape == (20, 12)
    after = repaired(X @ matrix.T + 1.0, V @ matrix.T, A @ matrix.T)
    np.testing.assert_allclose(after, base, atol=1e-10)
    old = as_published(X, V)
    assert np.abs(as_published(X @ matrix.T, V @ matrix.T) - old).max() > 0.1
    c, s = np.cos(0.7), np.sin(0.7)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    np.testing.assert_allclose(as_published(X @ about_z.T, V @ about_z.T), old, atol=1e-10)


def test_in_the_plane_the_velocity_is_enough(x64):
    c, s = np.cos(2.1), np.sin(2.1)
    matrix = np.array([[c, -s], [s, c]])
    planar = jax.jit(lambda x, v: pairs_of(planar_frames(v), x, v))
    base = planar(jnp.asarray(X[:, :2]), jnp.asarray(V[:, :2]))
    assert base.shape == (20, 7)
    x, v = X[:, :2] @ matrix.T - 2.0, V[:, :2] @ matrix.T
    np.testing.assert_allclose(planar(jnp.asarray(x), jnp.asarray(v)), base, atol=1e-12)
    frames = np.asarray(planar_frames(jnp.asarray(V[:, :2])))
    along = V[:, :2] / np.linalg.norm(V[:, :2], axis=1, keepdims=True)
    np.testing.assert_allclose(frames[:, :, 0], along, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(frames), 1, atol=1e-14)


def test_what_a_node_sees_is_in_its_coordinates(x64):
    frames = node_frames(jnp.asarray(V), jnp.asarray(A))
    seen, i, j = repaired(X, V, A)[0], 0, 1
    R = np.asarray(frames)
    np.testing.assert_allclose(seen[:3], R[i].T @ (X[j] - X[i]), atol=1e-14)
    np.testing.assert_allclose(seen[6], np.linalg.norm(X[j] - X[i]))
    u = R[i].T @ (X[j] - X[i])
    azimuth, polar = np.arctan2(u[1], u[0]), np.arccos(u[2] / np.linalg.norm(u))
    np.testing.assert_allclose(seen[7:9] * np.pi, [azimuth, polar])
    np.testing.assert_allclose(seen[9:], R[i].T @ V[j], atol=1e-14)
    there = to_local(frames, jnp.asarray(V))
    np.testing.assert_allclose(there[:, 1:], 0, atol=1e-14)
    np.testing.assert_allclose(from_local(frames, there), V, atol=1e-14)


def test_nodes_at_rest_and_in_one_place_have_finite_derivatives(x64):
    def energy(x, v, a):
        return jnp.sum(jnp.sin(pairs_of(node_frames(v, a), x, v)))

    def planar(x, v):
        return jnp.sum(jnp.sin(pairs_of(planar_frames(v), x, v)))

    nothing = jnp.zeros((3, 3))
    both = jax.jit(
        lambda z: (
            jax.grad(energy, (0, 1, 2))(z, z, z),
            jax.grad(planar, (0, 1))(z[:, :2], z[:, :2]),
        )
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(both(nothing)))


def test_other_dimensions_are_refused():
    wrong = jnp.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"2x2 or 3x3 matrices.*got frames \(2, 4, 4\)"):
        local_pairs(wrong, wrong, jnp.zeros((2, 4)), jnp.zeros((2, 4)))
