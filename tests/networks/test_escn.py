"""eSCN: parameter counts, one layer in plain numpy with complex numbers, grids.

What every network promises is in `test_contract`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.networks.escn import ESCN
from geojax.so3 import random_rotation
from tests.networks import plain, small
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, parameters, shapes

molecule = partial(small.molecule, spacing=1.3)
SMALL = ESCN(
    CUTOFF,
    channels=4,
    lmax=1,
    m_max=1,
    layers=1,
    hidden=3,
    edge_channels=4,
    n_basis=6,
    irreps_out="2x0e+1o",
    elements=ELEMENTS,
    average_neighbors=4.0,
)
PUBLISHED = {
    "36M": (dict(layers=12, lmax=4, m_max=2), 36_109_312),
    "51M": (dict(layers=12, lmax=6, m_max=2, hidden=256), 51_837_952),
    "200M": (dict(layers=20, lmax=6, m_max=3, channels=160, hidden=384), 200_227_840),
}


@pytest.mark.parametrize(
    "size", ["36M", *(pytest.param(name, marks=pytest.mark.slow) for name in ("51M", "200M"))]
)
def test_published_sizes(size):
    """By the shapes of the released code: 90 elements, energy and direct forces."""
    fields, count = PUBLISHED[size]
    network = ESCN(
        12.0,
        n_basis=600,
        activation="sphere",
        irreps_out="0e+1o",
        elements=tuple(range(1, 91)),
        average_neighbors=20.0,
        **fields,
    )
    assert sum(x.size for x in jax.tree.leaves(shapes(network))) == count


def bottleneck(p, x, edge):
    """Order 0 is (scalar, y); orders +-1 together are the complex number z + i x."""
    through = lambda kind, x, g: plain.dense(p[f"up_{kind}"], g * plain.dense(p[f"down_{kind}"], x))
    gains = plain.silu(plain.dense(p["gains_0"], edge))
    zero = through("0r", np.concatenate([x[0], x[2]]), gains).reshape(2, -1)
    real, imaginary = np.split(plain.silu(plain.dense(p["gains_1"], edge)), 2)
    z = x[3] + 1j * x[1]
    one = (through("1r", z, real) + 1j * through("1i", z, imaginary)) / math.sqrt(2)
    return np.stack([zero[0], one.imag, zero[1], one.real])


def by_hand(params, structure):
    """Loops over edges; frames with random rolls."""
    rng, count = np.random.default_rng(0), len(structure)
    scalars = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    x, sums = np.zeros((count, 4, 4)), np.zeros((count, 4, 4))
    x[:, 0] = plain.dense(params["embedding"]["scalars"], scalars)
    layer = params["layer_0"]
    for (j, i), vector in plain.edges_of(structure.positions, CUTOFF).items():
        p, r, matrix = layer["invariants"], np.linalg.norm(vector), plain.frame(vector, rng)
        edge = plain.dense(p["waves"], plain.waves(r, CUTOFF, SMALL.n_basis))
        edge = edge + plain.dense(p["sender"], scalars[j]) + plain.dense(p["receiver"], scalars[i])
        edge = plain.silu(plain.dense(p["invariants"], plain.silu(edge)))
        rows = bottleneck(layer["sender"], plain.turned(matrix, x[j]), edge)
        rows = rows + bottleneck(layer["receiver"], plain.turned(matrix, x[i]), edge)
        rows = rows / math.sqrt(2)
        gates = plain.sigmoid(plain.dense(layer["gates"], rows[0]))
        rows = np.concatenate([plain.silu(rows[:1]), rows[1:] * gates])
        sums[i] += plain.turned(matrix.T, rows) * plain.envelope(r, CUTOFF) / 2.0
    both = np.concatenate([x, sums], -1)
    x = np.stack([plain.gate_feed_forward(layer["update"], a) for a in both])
    head = params["head_0e"]
    energy = plain.dense(head["last"], plain.silu(plain.mlp(head["hidden"], x[:, 0])))
    vectors = x[:, 1:] @ np.asarray(params["tensors"]["1o"]) / 2.0
    return np.concatenate([energy, vectors[..., 0]], -1)


def test_the_network_by_hand(x64):
    params = parameters(SMALL)
    found = jax.jit(SMALL.apply)(params, graph_of(molecule())).array[:6]
    np.testing.assert_allclose(found, by_hand(params["params"], molecule()), atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("chiral", [True, False])
def test_grids_are_approximate_and_gates_are_exact(x64, chiral):
    graph, turn = graph_of(molecule()), random_rotation(jax.random.key(3), dtype=jnp.float64)
    positions = graph.nodes["positions"]

    def error(network):
        params = parameters(network)
        move = lambda x: graph._replace(nodes={**graph.nodes, "positions": x})
        apply = jax.jit(lambda x: network.apply(params, move(x)).array[:6])
        before, after = apply(positions), apply(positions @ turn.T)
        expected = jnp.concatenate([before[:, :2], before[:, 2:] @ turn.T], -1)
        return float(jnp.abs(after - expected).max() / jnp.abs(before).max())

    network = SMALL.clone(lmax=2, layers=2, chiral=chiral)
    assert network.group == ("SE(3)" if chiral else "E(3)")
    assert error(network.clone(m_max=1)) < 1e-12
    grid = network.clone(m_max=2, activation="sphere")
    assert grid.group.endswith("approximately")
    coarse, fine = (error(grid.clone(grid_degree=d)) for d in (8, 20))
    assert fine < 1e-5 and fine < 0.1 * coarse
