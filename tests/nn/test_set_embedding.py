"""Sums over sets: multisets from sums of powers, collisions without couplings, ranks."""

from itertools import combinations
from math import comb

import jax.numpy as jnp
import numpy as np
import pytest

from geojax.nn import embed_exponentials, embed_powers, exponential_weights, power_weights

rng = np.random.default_rng(0)


def powers(x, weights, size):
    x = jnp.asarray(x)
    return np.asarray(embed_powers(x, jnp.ones(x.shape[:-1], bool), weights, size))


def exponentials(x, weights):
    x = jnp.asarray(x)
    return np.asarray(embed_exponentials(x, jnp.ones(x.shape[:-1], bool), weights))


def newton(sums):
    """The numbers whose sums of powers 1 ... N these are."""
    e = [1.0]
    for k in range(1, len(sums) + 1):
        terms = [(-1) ** (i - 1) * e[k - i] * sums[i - 1] for i in range(1, k + 1)]
        e.append(sum(terms) / k)
    return np.sort(np.roots([(-1) ** k * c for k, c in enumerate(e)]).real)


def test_numbers_are_found_again_from_sums_of_powers(x64):
    x = rng.uniform(-1, 1, (5, 1))
    code = powers(x, power_weights(5, 1), 5)
    assert code.shape == (6,) and code[0] == 5
    np.testing.assert_allclose(newton(code[1:]), np.sort(x[:, 0]), atol=1e-10)
    code = exponentials(x, exponential_weights(5, 1))
    np.testing.assert_allclose(newton(code[1:]), np.sort(np.exp(x[:, 0] / 5)), atol=1e-8)


def test_there_are_as_many_as_published():
    for n, d in ((2, 2), (3, 2), (3, 3), (4, 2)):
        k1, k2 = n * (n - 1) * (d - 1) // 2 + 1, n * (n - 1) + 1
        assert power_weights(n, d).shape == (d + k1 + d * k1 * k2, d)
        assert power_weights(n, d, couplings=n - 1).shape == (d + k1 + d * k1 * (n - 1), d)
        assert exponential_weights(n, d).shape == (n * (d + k1) + d * k1 * n * (n - 1) // 2, d)
        assert n * (d + 1) <= n * len(power_weights(n, d)) <= n**5 * d**2
        assert len(exponential_weights(n, d)) <= n**4 * d**2
        for weights in (power_weights(n, d), exponential_weights(n, d)):
            assert np.abs(weights).sum(1).max() <= 1 + 1e-12


def test_any_anchors_are_independent():
    n, d = 3, 3
    anchors = power_weights(n, d)[d : d + n * (n - 1) * (d - 1) // 2 + 1]
    for some in combinations(anchors, d):
        assert abs(np.linalg.det(np.stack(some))) > 1e-6


@pytest.mark.parametrize("size", [2, 3, 5])
def test_fewest_couplings_give_all_mixed_moments(size):
    """For one axis s and one anchor t: (a s + b t)^p spans every s^u t^v with u + v = p."""
    d = 2
    few = power_weights(size, d, couplings=size - 1)
    k1 = size * (size - 1) // 2 + 1
    axis, anchor = few[0], few[d]
    own = [axis, anchor, *few[d + k1 : d + k1 + size - 1]]
    parts = [np.linalg.solve(np.stack([axis, anchor]).T, w) for w in own]
    for p in range(1, size + 1):
        rows = [[comb(p, u) * a**u * b ** (p - u) for u in range(p + 1)] for a, b in parts]
        assert np.linalg.matrix_rank(np.array(rows)) == p + 1


def test_order_does_not_matter_and_members_that_are_not_there_do_not_count(x64):
    x = rng.uniform(-1, 1, (2, 3, 2))
    wide = jnp.asarray(np.concatenate([x, rng.normal(size=(2, 2, 2))], 1)[:, [1, 4, 0, 3, 2]])
    mask = jnp.asarray(np.tile([True, False, True, False, True], (2, 1)))
    p, e = power_weights(3, 2), exponential_weights(3, 2)
    np.testing.assert_allclose(embed_powers(wide, mask, p, 3), powers(x, p, 3), atol=1e-14)
    np.testing.assert_allclose(embed_exponentials(wide, mask, e), exponentials(x, e), atol=1e-14)


def test_a_member_at_zero_is_a_member(x64):
    zero, there = jnp.zeros((2, 1, 2)), jnp.asarray([[False], [True]])
    p, e = power_weights(2, 2), exponential_weights(2, 2)
    np.testing.assert_allclose(embed_powers(zero, there, p, 2)[:, 0], [0, 1])
    np.testing.assert_allclose(embed_powers(zero, there, p, 2)[:, 1:], 0)
    np.testing.assert_allclose(embed_exponentials(zero, there, e)[0], 0)


def test_coordinates_alone_do_not_tell_who_is_with_whom(x64):
    x = np.array([[0.0, 0, 0.2], [1, 1, 0.2]])
    y = np.array([[0.0, 1, 0.2], [1, 0, 0.2]])
    p, e = power_weights(2, 3), exponential_weights(2, 3)
    np.testing.assert_allclose(powers(x, p[:3], 2), powers(y, p[:3], 2))
    np.testing.assert_allclose(exponentials(x, e[:6]), exponentials(y, e[:6]))
    assert np.abs(powers(x, p, 2) - powers(y, p, 2)).max() > 0.1
    assert np.abs(exponentials(x, e) - exponentials(y, e)).max() > 0.01


def test_different_sets_have_different_codes(x64):
    """All multisets of three points of a small grid."""
    grid = np.stack(np.meshgrid([-1, 0, 1.0], [-1, 0.5]), -1).reshape(-1, 2)
    index = [(i, j, k) for i in range(6) for j in range(i, 6) for k in range(j, 6)]
    sets = grid[np.array(index)]
    for codes in (
        powers(sets, power_weights(3, 2), 3),
        powers(sets, power_weights(3, 2, couplings=2), 3),
        exponentials(sets, exponential_weights(3, 2)),
    ):
        apart = np.abs(codes[:, None] - codes[None]).max(-1) + np.eye(len(sets))
        assert len(sets) == 56 and apart.min() > 1e-3
    few = powers(sets, np.eye(2), 3)
    assert (np.abs(few[:, None] - few[None]).max(-1) + np.eye(56)).min() < 1e-12


def test_what_is_refused():
    with pytest.raises(ValueError, match="got 0 and 2"):
        power_weights(0, 2)
    with pytest.raises(ValueError, match="got 2 and 0"):
        exponential_weights(2, 0)
    with pytest.raises(ValueError, match="need 3 couplings or more; got 2"):
        power_weights(4, 2, couplings=2)
    with pytest.raises(ValueError, match="one dimension; got 3 and 2"):
        powers(np.zeros((2, 3)), power_weights(2, 2), 2)
