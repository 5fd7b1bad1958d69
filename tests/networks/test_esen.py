"""eSEN: parameter count, one network in plain numpy, smoothness at the cutoff.

What every network promises is in `test_contract`.
"""

from functools import partial

import jax
import numpy as np

from geojax.graphs import Structure
from geojax.networks.esen import ESEN
from tests.networks import plain, small
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, parameters, shapes

molecule = partial(small.molecule, spacing=1.3)
SMALL = ESEN(
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


apply = jax.jit(SMALL.apply)


def outputs(params, structure) -> np.ndarray:
    return np.asarray(apply(params, graph_of(structure)).array)[:6]


def test_published_size():
    """eSEN-30M, by the shapes of the released code (100 elements, spectral feed-forward)."""
    network = ESEN(
        layers=10, lmax=3, n_basis=10, elements=tuple(range(1, 101)), average_neighbors=25.0
    )
    assert sum(x.size for x in jax.tree.leaves(shapes(network))) == 30_085_121


def by_hand(params, structure):
    """Loops over edges; frames with random rolls."""
    rng, count = np.random.default_rng(0), len(structure)
    scalars = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    edges = plain.edges_of(structure.positions, CUTOFF)
    x = np.zeros((count, 4, 4))
    x[:, 0] = plain.dense(params["embedding"]["scalars"], scalars)
    edge, u = {}, {}
    for (j, i), vector in edges.items():
        wave = plain.waves(np.linalg.norm(vector), CUTOFF, SMALL.n_basis)
        edge[j, i] = plain.invariants(params["invariants"], wave, scalars, j, i)
        u[j, i] = plain.envelope(np.linalg.norm(vector), CUTOFF)
        x[i] += plain.edge_degree(params["edge_degree"], edge[j, i], vector) * u[j, i] / 2.0
    y, update = [plain.rms_norm(params["norm_0"], a) for a in x], np.zeros_like(x)
    for (j, i), vector in edges.items():
        matrix = plain.frame(vector, rng)
        ends = plain.turned(matrix, np.concatenate([y[j], y[i]], -1))
        rows, _ = plain.message(params["message_0"], ends, edge[j, i])
        update[i] += plain.turned(matrix.T, rows) * u[j, i] / 2.0
    x = x + update
    y = [plain.rms_norm(params["feed_forward_norm_0"], a) for a in x]
    x = x + [plain.gate_feed_forward(params["feed_forward_0"], a, plain.silu) for a in y]
    x = np.stack([plain.rms_norm(params["norm"], a) for a in x])
    vectors = x[:, 1:] @ np.asarray(params["tensors"]["1o"]) / 2.0
    return np.concatenate([plain.mlp(params["scalars"], x[:, 0]), vectors[..., 0]], -1)


def test_the_network_by_hand(x64):
    params = parameters(SMALL)
    np.testing.assert_allclose(
        outputs(params, molecule()), by_hand(params["params"], molecule()), atol=1e-11
    )


def test_atoms_beyond_the_cutoff_have_no_effect(x64):
    """Not even next to it: the outputs of the others are the same to the last digits."""
    params = parameters(SMALL)
    structure = molecule()
    away = structure.positions[:1] + [[0.0, 0.0, -CUTOFF - 1e-9]]
    positions = np.concatenate([structure.positions, away])
    more = Structure(positions, np.append(structure.species, 8))
    found, alone = (outputs(params, s) for s in (more, structure))
    np.testing.assert_allclose(found, alone, atol=1e-14 * np.abs(alone).max())
