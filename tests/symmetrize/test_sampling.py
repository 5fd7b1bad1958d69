"""Orbit distances of three groups, their inverses, and invariance where the distance is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from geojax.symmetrize import (
    MATRIX_GROUPS,
    bound_loss,
    group_inverse,
    invariants,
    orbit_distance,
    sample_mean,
    sampled_matrix,
)


def element(name, seed=0):
    """Of the group, by the exponential of an element of its algebra."""
    metric = np.array(MATRIX_GROUPS[name].metric)
    half = np.random.default_rng(seed).normal(size=(len(metric), len(metric))) * 0.5
    return expm((half - half.T) * metric[:, None])


@pytest.mark.parametrize("name", list(MATRIX_GROUPS))
def test_the_distance_is_zero_on_the_group_alone(name, x64):
    """It is that of the orbit: the same for all g M; and Q Mᵀ Q is the inverse in the group."""
    group, g = MATRIX_GROUPS[name], element(name)
    assert np.abs(g - np.eye(len(g))).max() > 0.1
    off = np.random.default_rng(1).normal(size=g.shape)
    distance = jax.jit(lambda m: orbit_distance(m, group))
    np.testing.assert_allclose(distance(jnp.asarray(g)), 0, atol=1e-13)
    assert distance(jnp.asarray(off)) > 0.1
    np.testing.assert_allclose(distance(jnp.asarray(g @ off)), distance(jnp.asarray(off)))
    np.testing.assert_allclose(group_inverse(jnp.asarray(g), group) @ g, np.eye(len(g)), atol=1e-12)
    mirror = np.diag([-1.0, *np.ones(len(g) - 1)])
    np.testing.assert_allclose(
        distance(jnp.asarray(mirror)) > 1e-3, name != "O(1,3)", atol=0
    )  # a mirror is an element of O(1,3)


def test_an_equivariant_sampler_in_the_group_makes_an_invariant_function(x64):
    """Gram-Schmidt of the points is one; samples are its turns about its own third axis."""
    group, weights = MATRIX_GROUPS["SO(3)"], np.random.default_rng(2).normal(size=(4, 3))
    points = np.random.default_rng(0).normal(size=(4, 3))
    function = lambda x: jnp.tanh(jnp.sum(x * jnp.asarray(weights)))
    run = jax.jit(lambda x, m: (sample_mean(function, x, m, group), orbit_distance(m, group)))
    angles = np.arange(5) * 2 * np.pi / 5

    def value(x):
        q, r = np.linalg.qr(x[:3].T)
        q = q * np.sign(np.diag(r))
        q[:, 2] *= np.linalg.det(q)
        turns = [expm(a * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0]])) for a in angles]
        samples = jnp.asarray(np.stack([q @ t for t in turns]))
        mean, distance = run(jnp.asarray(x), samples)
        np.testing.assert_allclose(distance, 0, atol=1e-13)
        return float(mean)

    np.testing.assert_allclose(value(points @ element("SO(3)").T), value(points), atol=1e-10)


@pytest.mark.parametrize("name", ["O(1,3)"])
def test_samples_of_invariants_are_equivariant_and_learn_to_be_in_the_group(name, x64):
    """M = V A(Vᵀ Q V): q(g V) = g q(V). Descent on the distance alone brings it to zero."""
    group, g = MATRIX_GROUPS[name], element(name)
    v = np.eye(4) + 0.3 * np.random.default_rng(0).normal(size=(4, 4))
    start = jnp.asarray(0.2 * np.random.default_rng(1).normal(size=(16, 16)))

    def sampler(parameters, v):
        inside = jnp.tanh(invariants(v, group)).reshape(-1)
        return sampled_matrix(v, jnp.eye(4) + (parameters @ inside).reshape(4, 4))

    found, turned = (sampler(start, jnp.asarray(x)) for x in (v, g @ v))
    np.testing.assert_allclose(turned, g @ found, atol=1e-12)

    @jax.jit
    def descend(p):
        loss = lambda p: orbit_distance(sampler(p, jnp.asarray(v)), group, kind="l2")
        step = lambda p, _: (p - 0.1 * jax.grad(loss)(p), loss(p))
        return jax.lax.scan(step, p, None, length=400)

    end, losses = descend(start)
    assert losses[-1] < 1e-6 < losses[0]
    inverse = group_inverse(sampler(end, jnp.asarray(v)), group)
    np.testing.assert_allclose(inverse @ sampler(end, jnp.asarray(v)), np.eye(4), atol=1e-2)


def test_the_bound_and_bad_input():
    matrix = jnp.asarray(np.array([[3.0, -1.5], [0.5, -4.0]], np.float32))
    np.testing.assert_allclose(bound_loss(matrix, 2.0), 3.0)
    with pytest.raises(ValueError, match=r"\[..., 3, 3\]; got \(2, 2\)"):
        orbit_distance(matrix, MATRIX_GROUPS["SO(3)"])
    with pytest.raises(ValueError, match="'l1' or 'l2'; got 'max'"):
        orbit_distance(matrix, MATRIX_GROUPS["SO(2)"], kind="max")
    with pytest.raises(KeyError, match="did you mean 'SO"):
        MATRIX_GROUPS["SO(4)"]
