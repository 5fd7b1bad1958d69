"""Nonlinearities of rows in edge frames: which rows they touch, and how."""

import jax
import numpy as np
import pytest

from geojax.nn import ROW_ACTIVATIONS, activate, gate_rows, sphere_activation, sphere_rows

LMAX, C = 3, 2
ROWS = {0: 4, 1: 10, None: 16}


def operands(key, m_max, count):
    keys = jax.random.split(key)
    return jax.random.normal(keys[0], (5, ROWS[m_max], C)), jax.random.normal(keys[1], (5, count))


@pytest.mark.parametrize("m_max", ROWS)
def test_gates_scale_each_degree(x64, key, m_max):
    x, gates = operands(key, m_max, ROW_ACTIVATIONS["gate"].count(LMAX, C))
    found = gate_rows(x, gates, LMAX, m_max)
    np.testing.assert_allclose(found[:, 0], activate(x[:, 0]), atol=1e-14)
    start = 1
    for l in range(1, LMAX + 1):
        stop = start + 2 * (l if m_max is None else min(l, m_max)) + 1
        factor = activate(gates[:, None, (l - 1) * C : l * C], "sigmoid")
        np.testing.assert_allclose(found[:, start:stop], x[:, start:stop] * factor, atol=1e-14)
        start = stop
    assert stop == ROWS[m_max]


def test_all_rows_on_the_sphere_are_the_activation_of_the_signal(x64, key):
    x, scalars = operands(key, None, ROW_ACTIVATIONS["sphere"].count(LMAX, C))
    np.testing.assert_allclose(
        sphere_rows(x, scalars, LMAX), sphere_activation(x, scalars=scalars), atol=1e-14
    )
    np.testing.assert_allclose(sphere_rows(x, None, LMAX), sphere_activation(x), atol=1e-14)


def test_cut_rows_are_zero_before_and_dropped_after(x64, key):
    x, scalars = operands(key, 1, C)
    kept = [0, 1, 2, 3, 5, 6, 7, 11, 12, 13]
    full = np.zeros((5, 16, C))
    full[:, kept] = x
    expected = sphere_activation(jax.numpy.asarray(full), scalars=scalars)[:, kept]
    np.testing.assert_allclose(sphere_rows(x, scalars, LMAX, 1), expected, atol=1e-14)
