"""Gates: the formula, what they read, and that they commute with rotations and reflections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.nn.gate import gate, gate_widths
from geojax.so3 import random_rotation, wigner_d

S, P, V, A = Irrep(0, 1), Irrep(0, -1), Irrep(1, -1), Irrep(1, 1)
WIDTHS = {S: 3, V: 2, P: 4, A: 1}
SILU = 1.6765324703310907


def inputs(key):
    found = gate_widths(WIDTHS)
    keys = jax.random.split(key, len(found))
    return {
        i: jax.random.normal(k, (5, 2 * i.l + 1, n))
        for k, (i, n) in zip(keys, found.items(), strict=True)
    }


def test_one_even_scalar_more_for_each_gated_channel():
    assert gate_widths(WIDTHS) == {S: 3 + 2 + 1, V: 2, P: 4, A: 1}
    assert gate_widths({V: 2}) == {S: 2, V: 2}


def test_a_gate_equals_its_formula(key):
    x = inputs(key)
    out = gate(x, WIDTHS)
    silu = lambda v: SILU * v / (1 + np.exp(-v))
    np.testing.assert_allclose(out[S], silu(x[S][..., :3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[V], x[V] * silu(x[S][..., 3:5]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[A], x[A] * silu(x[S][..., 5:]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[P], np.tanh(x[P]) / np.sqrt(0.394294490398), rtol=1e-5)


def test_gates_commute_with_rotations_and_reflections(key):
    x = inputs(key)
    for improper in (False, True):
        matrix = random_rotation(key, improper=improper)
        turn = {i: wigner_d(matrix, 1, pseudo=i in (P, A))[i.l] for i in WIDTHS}
        act = lambda x: {i: jnp.einsum("ab,nbc->nac", turn[i], v) for i, v in x.items()}  # noqa: B023
        after, before = gate(act(x), WIDTHS), act(gate(x, WIDTHS))
        for i in WIDTHS:
            np.testing.assert_allclose(after[i], before[i], atol=1e-5)


def test_outputs_keep_the_second_moment():
    widths = {S: 64, V: 64, P: 64}
    keys = jax.random.split(jax.random.key(0), 3)
    x = {
        i: jax.random.normal(k, (200, 2 * i.l + 1, n))
        for k, (i, n) in zip(keys, gate_widths(widths).items(), strict=True)
    }
    for block in gate(x, widths).values():
        assert jnp.mean(block**2) == pytest.approx(1, abs=0.1)


def test_other_channels_are_refused(key):
    with pytest.raises(ValueError, match="6x0e"):
        gate({S: jnp.ones((5, 1, 3))}, WIDTHS)
