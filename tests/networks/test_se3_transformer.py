"""SE(3)-Transformer: sizes, turns and mirrors of outputs in every variant, and what it refuses.

What every network promises is in `test_contract`; the layer by hand in
`nn/test_steerable_attention`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.se3_transformer import SE3Transformer
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
X, V, Q = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3)), RNG.choice([-1.0, 1.0], 5)
PARTICLES = dict(scalars=("charges",), vectors=("velocities",), irreps_out="1o", elements=(0,))
SMALL = dict(PARTICLES, channels=4, lmax=1, layers=1, radial_width=4)


def graph_of(x=X, v=V):
    structure = Structure(x, np.zeros(5, int), inputs={"velocities": v, "charges": Q})
    batch = pad([sample(structure, np.inf)], Budget(6, 22, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network):
    return jax.eval_shape(network.init, jax.random.key(0), graph_of())


def parameters(network):
    return jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes(network))


def size(network) -> int:
    return sum(math.prod(a.shape) for a in jax.tree.leaves(shapes(network)))


def kernel_size(given, wanted, invariants, chiral):
    """Parameters of the networks of all pairs; `given` and `wanted` are channels by degree."""
    total = 0
    for k, n in enumerate(given):
        for l, m in enumerate(wanted):
            if n and m:
                paths = 2 * min(k, l) + 1 if chiral else min(k, l) + 1
                total += (invariants + 1) * 32 + 33 * 32 + 2 * 64 + 33 * paths * n * m
    return total


def attention_size(given, widths, divide, invariants, chiral):
    """Keys, values, queries, and the matrix over values and inputs."""
    values = [max(1, m // divide) if m else 0 for m in widths]
    given = [*given, *[0] * (len(widths) - len(given))]
    keys = [m if n else 0 for n, m in zip(given, values, strict=True)]
    total = sum(kernel_size(given, to, invariants, chiral) for to in (keys, values))
    total += sum(n * m for n, m in zip(given, keys, strict=True))
    return total + sum((n + v) * m for n, v, m in zip(given, values, widths, strict=True) if m)


@pytest.mark.parametrize("chiral", [False, True])
def test_the_published_network_on_particles_has_1772437_parameters(chiral, x64):
    """The default sizes: four layers of 21 channels in degrees 0 to 2, a convolution, a factor."""
    total, given = 0, (1, 1)
    for _ in range(4):
        total += attention_size(given, (21,) * 3, 1, 1, chiral) + 3 * 2 * 21
        given = (21,) * 3
    total += kernel_size(given, (0, 1), 1, chiral) + 21 + 1
    found = size(SE3Transformer(**PARTICLES, chiral=chiral, output_gain=0.01))
    assert found == total
    assert found == 1_772_437 or not chiral


def test_the_size_with_a_bias_and_an_output_by_attention(x64):
    fields = dict(lmax=3, channels=8, divide=4, norm="bias", output="attention")
    total, given = 0, (1, 1)
    for _ in range(4):
        total += attention_size(given, (8,) * 4, 4, 2, True) + 4 * 8
        given = (8,) * 4
    total += attention_size(given, (0, 1, 0, 0), 1, 2, True)
    network = SE3Transformer(**PARTICLES, **fields, chiral=True, charge="charges", relative="add")
    assert size(network) == total


VARIANTS = {
    "default": {},
    "chiral": dict(chiral=True),
    "attentive": dict(
        norm="bias",
        output="attention",
        attentive=True,
        attentive_output=True,
        relative="cat",
        heads=2,
        divide=2,
        output_gain=0.5,
    ),
    "higher degrees": dict(lmax=2, layers=2, relative="add", charge="charges"),
}


@pytest.mark.parametrize(
    "variant",
    ["chiral", *[pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS if v != "chiral"]],
)
def test_displacements_turn_with_positions_and_velocities(variant, x64):
    network = SE3Transformer(**{**SMALL, **VARIANTS[variant]})
    params, apply = parameters(network), jax.jit(network.apply)
    before = apply(params, graph_of()).array[:5]
    assert network.group == ("SE(3)" if variant == "chiral" else "E(3)")
    for improper in (False, True):
        turn = random_rotation(jax.random.key(1), improper=improper, dtype=jnp.float64)
        after = apply(params, graph_of(X @ np.asarray(turn).T, V @ np.asarray(turn).T)).array[:5]
        error = np.abs(after - before @ turn.T).max() / np.abs(before).max()
        assert error > 1e-3 if improper and variant == "chiral" else error < 1e-12


@pytest.mark.slow
def test_the_factor_of_the_output_starts_where_it_is_told(x64):
    network = SE3Transformer(**SMALL, output_gain=0.25)
    params, apply = jax.jit(network.init)(jax.random.key(0), graph_of()), jax.jit(network.apply)
    found = apply(params, graph_of()).array
    params["params"]["output_gain"] = jnp.ones_like(params["params"]["output_gain"])
    np.testing.assert_allclose(found * 4, apply(params, graph_of()).array, rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (dict(irreps_out="2e"), ValueError, "an output is among the irreps inside"),
        (dict(heads=3), ValueError, "got heads=3 for values of"),
        (dict(cutoff=3.0), ValueError, "average_neighbors"),
        (dict(relative="sum"), ValueError, "relative is 'none', 'add' or 'cat'"),
        (dict(norm="layers"), KeyError, "did you mean 'layer'"),
        (dict(output="conv"), KeyError, "output is one of convolution, attention"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, error, message, x64):
    with pytest.raises(error, match=message):
        shapes(SE3Transformer(**{**SMALL, **fields}))
