"""Features of pairs of points: the angles of numpy, their symmetries, their degenerate cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points.pairs import angle, darboux_features, darboux_frame, point_pair_features
from geojax.so3 import random_rotation

rng = np.random.default_rng(0)


def units(*shape):
    x = rng.normal(size=(*shape, 3))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


D, N1, N2 = 2 * rng.normal(size=(50, 3)), units(50), units(50)
N2[:9] = N1[:9]


def numpy_angle(a, b):
    """By the half angle between unit vectors."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def numpy_darboux(d, n1, n2):
    """One pair, as the frame is usually written down: the source has the smaller angle."""
    if abs(n1 @ d) + 1e-7 < abs(n2 @ d):
        d, n1, n2 = -d, n2, n1
    v = np.cross(d, n1)
    v /= np.linalg.norm(v)
    theta = np.arctan2(np.cross(n1, v) @ n2, n1 @ n2)
    return [theta, v @ n2, n1 @ d / np.linalg.norm(d), np.linalg.norm(d)]


def test_features_are_those_of_numpy(x64):
    pairs = [(N1, D), (N2, D), (N1, N2)]
    expected = np.stack([np.linalg.norm(D, axis=1), *(numpy_angle(*pair) for pair in pairs)], 1)
    d, n1, n2 = map(jnp.asarray, (D, N1, N2))
    found = point_pair_features(d, n1, n2)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    lines = point_pair_features(d, n1, n2, signed=False)
    folded = np.minimum(expected[:, 1:], np.pi - expected[:, 1:])
    np.testing.assert_allclose(lines[:, 1:], folded, atol=1e-12)
    np.testing.assert_allclose(point_pair_features(d, -n1, n2, signed=False), lines, atol=1e-12)
    back = point_pair_features(-d, n2, n1)
    np.testing.assert_allclose(back[:, 1:3], np.pi - found[:, 2:0:-1], atol=1e-12)
    np.testing.assert_allclose(
        darboux_features(d, n1, n2),
        [numpy_darboux(*pair) for pair in zip(D, N1, N2, strict=True)],
        atol=1e-12,
    )
    all_pairs = np.asarray(point_pair_features(d[None], n1[:, None], n2[None]))
    np.testing.assert_allclose(all_pairs[range(50), range(50)], found, atol=1e-12)


@pytest.mark.parametrize("improper", [False, True])
def test_features_are_invariant(x64, key, improper):
    turn = np.asarray(random_rotation(key, dtype=jnp.float64, improper=improper))
    d, n1, n2 = map(jnp.asarray, (D, N1, N2))
    turned = [jnp.asarray(x @ turn.T) for x in (D, N1, N2)]
    before, after = point_pair_features(d, n1, n2), point_pair_features(*turned)
    np.testing.assert_allclose(after, before, atol=1e-10)
    darboux = np.asarray(darboux_features(d, n1, n2))
    parity = np.array([1, -1 if improper else 1, 1, 1])
    np.testing.assert_allclose(darboux_features(*turned), darboux * parity, atol=1e-10)
    # of both orders of a pair, unless the normals are equal, and of normals that are all reversed
    back = np.asarray(darboux_features(-d, n2, n1))
    np.testing.assert_allclose(back[9:], darboux[9:], atol=1e-12)
    np.testing.assert_allclose(back[:9, 2], -darboux[:9, 2], atol=1e-12)
    reversed_all = darboux_features(d, -n1, -n2)
    np.testing.assert_allclose(reversed_all, darboux * [-1, 1, -1, 1], atol=1e-12)


def test_frames_are_right_handed(x64):
    frame = darboux_frame(jnp.asarray(D), jnp.asarray(N1))
    one = np.eye(3)[None].repeat(50, 0)
    np.testing.assert_allclose(frame @ jnp.swapaxes(frame, 1, 2), one, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.det(frame), 1, rtol=1e-12)
    np.testing.assert_array_equal(frame[:, 0], N1)
    np.testing.assert_allclose((frame[:, 1] * D).sum(-1), 0, atol=1e-12)


def test_small_angles_keep_their_digits():
    x = jnp.asarray([[1.0, 0, 0]])
    y = jnp.asarray([[1.0, 1e-3, 0], [1, 1e-6, 0], [1, 1e-12, 0], [-1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(angle(x, y), [1e-3, 1e-6, 1e-12, np.pi, 0], rtol=1e-6)
    np.testing.assert_allclose(angle(x, -y, signed=False), [1e-3, 1e-6, 1e-12, 0, 0], rtol=1e-6)


O, X, Z = np.zeros(3), np.eye(3)[0], np.eye(3)[2]
DEGENERATE = [  # d, n1, n2 and what is expected of them
    (O, Z, X, [0, 0, 0, 0]),  # coincident points
    (X, Z, Z, [0, 0, 0, 1]),  # a plane
    (2 * Z, Z, Z, [0, 0, 1, 2]),  # along the normal
    (-2 * Z, Z, X, [0, 0, -1, 2]),
    (X, O, Z, [0, 0, 0, 1]),  # no normal
]


def test_degenerate_pairs_have_finite_derivatives():
    pairs = [
        jnp.asarray(np.stack(column), jnp.float32)
        for column in list(zip(*DEGENERATE, strict=True))[:3]
    ]
    expected = [row[3] for row in DEGENERATE]
    np.testing.assert_allclose(darboux_features(*pairs), expected, atol=1e-7)
    weights = rng.normal(size=(2, 5, 4)).astype(np.float32)

    def total(pairs):
        return sum(
            (w * features(*pairs)).sum()
            for w, features in zip(weights, (darboux_features, point_pair_features), strict=True)
        )

    slopes = jax.jit(jax.grad(total))(pairs)
    assert all(jnp.isfinite(slope).all() and slope.any() for slope in slopes)
