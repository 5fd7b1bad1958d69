"""The frame of an edge, and that its roll has no effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import Direction, escn, tensor_product

POLES = np.array([[0.0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, -2], [1e-9, -1, 0], [0, 0, 0]])


def test_frames_are_rotations_to_the_pole(x64):
    vectors = np.concatenate([POLES, np.random.default_rng(0).normal(size=(20, 3))])
    frames = np.asarray(escn.frame(jnp.asarray(vectors)))
    np.testing.assert_allclose(
        frames @ np.swapaxes(frames, -1, -2), np.broadcast_to(np.eye(3), (26, 3, 3)), atol=1e-14
    )
    np.testing.assert_allclose(np.linalg.det(frames), 1, atol=1e-14)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    turned = np.einsum("nij,nj->ni", frames, vectors)
    np.testing.assert_allclose(turned, length * [0, 1, 0], atol=1e-14)


@pytest.mark.parametrize("vector", POLES, ids=str)
def test_derivatives_are_finite_to_third_order(x64, vector):
    weights = np.random.default_rng(0).normal(size=9)
    f = lambda v: jnp.sin(escn.frame(v).ravel() @ weights)
    third = jax.jit(jax.jacfwd(jax.jacfwd(jax.grad(f))))
    assert jnp.isfinite(third(jnp.asarray(vector))).all()


def test_roll_has_no_effect(x64, key, monkeypatch):
    """Any other frame with the same pole gives the same product."""
    x, r = jax.random.normal(key, (7, 9, 2)), jax.random.normal(key, (7, 3))
    call = lambda: tensor_product(x, Direction(r, 2), lmax=2, method="escn", parity="all")
    expected = call()
    angle = 0.7
    roll = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    plain = escn.frame
    monkeypatch.setattr(
        escn, "frame", lambda vectors: jnp.einsum("ij,njk->nik", roll, plain(vectors))
    )
    np.testing.assert_allclose(call(), expected, atol=1e-13)


def test_features_are_refused(key):
    x = jax.random.normal(key, (4, 1))
    with pytest.raises(TypeError, match="y is a Direction.*got features"):
        tensor_product(x, x, lmax=1, method="escn")
