"""TFN: the published size, an invariant network at lmax 0 by hand, turns and mirrors of outputs.

What every network promises is in `test_contract`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.tfn import TFN
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
X, V, Q = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3)), RNG.choice([-1.0, 1.0], 5)
PARTICLES = dict(scalars=("charges",), vectors=("velocities",), irreps_out="1o", elements=(0,))


def graph_of(x=X, v=V):
    structure = Structure(x, np.zeros(5, int), inputs={"velocities": v, "charges": Q})
    batch = pad([sample(structure, np.inf)], Budget(6, 22, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network):
    return jax.eval_shape(network.init, jax.random.key(0), graph_of())


def parameters(network):
    return jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes(network))


def kernel_size(given, wanted, invariants, chiral):
    """Parameters of the networks of all pairs; `given` and `wanted` are channels by degree."""
    total = 0
    for k, n in enumerate(given):
        for l, m in enumerate(wanted):
            if n and m:
                paths = 2 * min(k, l) + 1 if chiral else min(k, l) + 1
                total += (invariants + 1) * 32 + 33 * 32 + 2 * 64 + 33 * paths * n * m
    return total


@pytest.mark.parametrize("chiral", [False, True])
def test_the_published_network_on_particles_has_127024_parameters(chiral, x64):
    network = TFN(**PARTICLES, chiral=chiral)
    total, given = 0, (1, 1)
    for _ in range(3):
        total += kernel_size(given, (16, 16), 1, chiral) + sum(16 * n for n in given)
        total += 2 * (2 * 16 + 17 * 16)
        given = (16, 16)
    total += kernel_size(given, (0, 1), 1, chiral) + 16
    found = sum(math.prod(a.shape) for a in jax.tree.leaves(shapes(network)))
    assert found == total
    assert found == 127_024 or not chiral


def test_without_directions_it_is_an_invariant_network(x64):
    """lmax 0: f_i <- mean_j phi(|x_ij|) f_j + W f_i, and two layers of readout."""
    network = TFN(lmax=0, layers=1, channels=3, radial_width=4, scalars=("charges",))
    params = parameters(network)
    found = jax.jit(network.apply)(params, graph_of()).array[:5, 0]
    p = jax.tree.map(np.asarray, params["params"])
    silu = lambda x: x / (1 + np.exp(-x))
    layer, radial = p["layer_0"], p["layer_0"]["kernel"]["radial"]
    h = np.zeros((5, 3))
    for i in range(5):
        for j in set(range(5)) - {i}:
            a = np.linalg.norm(X[i] - X[j])[None]
            for n in range(2):
                a = a @ radial[f"kernel_{n}"][0] + radial[f"bias_{n}"][0]
                a = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
                norm = radial[f"norm_{n}"]
                a = silu(a * norm["gain"][0] + norm["shift"][0])
            phi = a @ layer["kernel"]["kernel_0e_0e"][:, 0, 0]
            h[i] += (phi + layer["kernel"]["bias_0e_0e"][0, 0]) * Q[j] / 4
        h[i] += Q[i] * layer["self_interaction"]["0e"][0]
    for n in range(2):
        dense = p["readout"][f"dense_{n}"]
        h = h @ dense["kernel"] / math.sqrt(3) + dense["bias"]
        if n == 0:
            t, weight = np.polynomial.hermite_e.hermegauss(120)
            h = silu(h) / np.sqrt(weight @ silu(t) ** 2 / math.sqrt(2 * math.pi))
    np.testing.assert_allclose(found, h[:, 0], atol=1e-11)


@pytest.mark.parametrize("chiral", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_displacements_turn_with_positions_and_velocities(chiral, x64):
    network = TFN(**PARTICLES, chiral=chiral, channels=3, layers=2, radial_width=4)
    params, apply = parameters(network), jax.jit(network.apply)
    before = apply(params, graph_of()).array[:5]
    assert network.group == ("SE(3)" if chiral else "E(3)")
    for improper in (False, True):
        turn = random_rotation(jax.random.key(1), improper=improper, dtype=jnp.float64)
        after = apply(params, graph_of(X @ np.asarray(turn).T, V @ np.asarray(turn).T)).array[:5]
        error = np.abs(after - before @ turn.T).max() / np.abs(before).max()
        assert error > 1e-3 if improper and chiral else error < 1e-12


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(irreps_out="2e"), "an output is among the irreps inside"),
        (dict(irreps_out="1e"), "an output is among the irreps inside"),
        (dict(elements=(), scalars=()), "a network knows its elements"),
        (dict(cutoff=3.0), "average_neighbors"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message, x64):
    with pytest.raises(ValueError, match=message):
        shapes(TFN(**{**PARTICLES, **fields}))
