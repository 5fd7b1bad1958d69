"""EquiformerV2: parameter counts, one network in plain numpy, symmetry-forbidden outputs, grids.

What every network promises is in `test_contract`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.equiformer_v2 import EquiformerV2
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import random_rotation
from tests.networks import plain, small
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, parameters, shapes

molecule = partial(small.molecule, spacing=1.3)
SMALL = EquiformerV2(
    CUTOFF,
    channels=4,
    lmax=1,
    m_max=1,
    layers=1,
    heads=2,
    hidden=3,
    alpha_channels=5,
    value_channels=2,
    ffn_channels=3,
    edge_channels=4,
    n_basis=6,
    irreps_out="2x0e+1o",
    elements=ELEMENTS,
    average_neighbors=4.0,
)
PUBLISHED = {
    "31M": (dict(layers=8, lmax=4, m_max=2), 31_058_690),
    "83M": (dict(layers=12, lmax=6, m_max=2), 83_164_802),
    "153M": (dict(layers=20, lmax=6, m_max=3), 153_602_690),
}


apply = jax.jit(SMALL.apply)


def outputs(params, structure) -> np.ndarray:
    return np.asarray(apply(params, graph_of(structure)).array)[: len(structure)]


@pytest.mark.parametrize(
    "size", ["31M", *(pytest.param(name, marks=pytest.mark.slow) for name in ("83M", "153M"))]
)
def test_published_sizes(size):
    """The released code counts these and, in its output layers, some that have no effect."""
    fields, released = PUBLISHED[size]
    network = EquiformerV2(
        12.0,
        heads=8,
        n_basis=600,
        activation="sphere",
        feed_forward="grid",
        irreps_out="0e+1o",
        elements=tuple(range(1, 91)),
        average_neighbors=23.395,
        **fields,
    )
    found = sum(x.size for x in jax.tree.leaves(shapes(network)))
    count, width = fields["lmax"] + 1, 128
    # Of the energy: a linear layer, the grid's layers, degrees l > 0; of the force: all but l = 1.
    energy = count * width**2 + width + 3 * width**2 + (count - 1) * width
    force = (count - 1) * width + 1
    assert found == released - energy - force


def by_hand(params, structure, seed):
    """Loops over edges; frames with random rolls."""
    rng, count = np.random.default_rng(seed), len(structure)
    scalars = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    edges = plain.edges_of(structure.positions, CUTOFF)
    wave = {e: plain.waves(np.linalg.norm(v), CUTOFF, SMALL.n_basis) for e, v in edges.items()}
    u = {e: plain.envelope(np.linalg.norm(v), CUTOFF) for e, v in edges.items()}

    def attention(p, x):
        logits, values = {}, {}
        for (j, i), vector in edges.items():
            edge = plain.invariants(p["invariants"], wave[j, i], scalars, j, i)
            matrix = plain.frame(vector, rng)
            ends = plain.turned(matrix, np.concatenate([x[j], x[i]], -1))
            rows, f = plain.message(p["message"], ends, edge, kept=10)
            values[j, i] = plain.turned(matrix.T, rows)
            f = plain.layer_norm(p["alpha_norm"], f.reshape(2, 5))
            f = 0.6 * f + 0.4 * f * (2 / (1 + np.exp(-f)) - 1)
            logits[j, i] = (f * np.asarray(p["alpha"])).sum(-1) / np.sqrt(5)
        out = np.zeros((count, 4, 4))
        for i in range(count):
            near = [e for e in edges if e[1] == i]
            total = sum(u[e] * np.exp(logits[e]) for e in near)
            for e in near:
                out[i] += values[e] * np.repeat(u[e] ** 2 * np.exp(logits[e]) / total, 2)
        return out

    x = np.zeros((count, 4, 4))
    x[:, 0] = plain.dense(params["embedding"]["scalars"], scalars)
    for (j, i), vector in edges.items():
        edge = plain.invariants(params["invariants"], wave[j, i], scalars, j, i)
        x[i] += plain.edge_degree(params["edge_degree"], edge, vector) * u[j, i] / 4.0
    y = attention(params["attention_0"], [plain.separable_norm(params["norm_0"], a) for a in x])
    x = x + [plain.linear(params["projection_0"], a) for a in y]
    y = [plain.separable_norm(params["feed_forward_norm_0"], a) for a in x]
    x = x + [plain.gate_feed_forward(params["feed_forward_0"], a) for a in y]
    x = np.stack([plain.separable_norm(params["norm"], a) for a in x])
    vectors = attention(params["attention"], x)[:, 1:] @ np.asarray(params["tensors"]["1o"]) / 2.0
    return np.concatenate([plain.mlp(params["scalars"], x[:, 0]), vectors[..., 0]], -1)


def test_the_network_by_hand(x64):
    """Whatever the roll of the frames, which differs from edge to edge here."""
    params = parameters(SMALL)
    found = outputs(params, molecule())
    for seed in (0, 1):
        np.testing.assert_allclose(found, by_hand(params["params"], molecule(), seed), atol=1e-11)


def test_forces_of_edges_along_the_poles_are_the_derivative(x64):
    """Edges along +y and -y exactly, where frames by Euler angles are singular."""
    network = SMALL.clone(irreps_out="0e")
    params, structure = parameters(network), molecule(4)
    column = np.array([[0.0, 0, 0], [0, 1.1, 0], [0, 2.2, 0], [1.2, 0.3, 0.4]])
    graph = graph_of(structure.replace(positions=column))
    predict = jax.jit(predict_fn(network, [Output()], forces=True))
    move = lambda x: graph._replace(nodes={**graph.nodes, "positions": x})
    forces, x, h = predict(params, graph).forces, graph.nodes["positions"], 1e-5
    for node, axis in [(0, 0), (1, 1), (1, 2), (2, 0)]:
        step = jnp.zeros_like(x).at[node, axis].set(h)
        up, down = (predict(params, move(x + s * step)).energy[0] for s in (1, -1))
        np.testing.assert_allclose(forces[node, axis], -(up - down) / (2 * h), rtol=1e-6, atol=1e-7)


def test_outputs_that_the_symmetry_forbids_are_zero(x64):
    """Vectors across the axis of a linear molecule; all but the axis for fourfold rotations."""
    params = parameters(SMALL)
    turn = np.asarray(random_rotation(jax.random.key(0), dtype=jnp.float64))
    line = np.array([[0.0, 0, 0], [0, 1.2, 0], [0, 2.5, 0]])
    square = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 0.9]])[:, [0, 2, 1]]
    for positions, species, nodes in [(line, [6, 6, 6], [0, 1, 2]), (square, [1] * 4 + [8], [4])]:
        structure = Structure(positions @ turn.T, np.array(species))
        back = outputs(params, structure)[nodes, 2:] @ turn
        assert np.abs(back[:, 1]).max() > 1e-3
        np.testing.assert_allclose(back[:, [0, 2]], 0, atol=1e-12)


def equivariance_error(network) -> float:
    """The largest change of node energies under a rotation, relative to the largest energy."""
    params, graph = parameters(network), graph_of(molecule())
    x, turn = graph.nodes["positions"], random_rotation(jax.random.key(3), dtype=jnp.float64)
    apply = lambda x: network.apply(params, graph._replace(nodes={**graph.nodes, "positions": x}))
    plain, after = (np.asarray(jax.jit(apply)(y).array) for y in (x, x @ turn.T))
    return float(np.abs(after - plain).max() / np.abs(plain).max())


@pytest.mark.slow
@pytest.mark.parametrize("chiral", [True, False])
def test_gates_are_exact_whatever_is_cut(x64, chiral):
    network = SMALL.clone(lmax=3, m_max=2, layers=2, irreps_out="0e", chiral=chiral)
    assert network.group == ("SE(3)" if chiral else "E(3)")
    assert equivariance_error(network) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "degree"),
    [
        ({"feed_forward": "grid"}, 16),
        ({"activation": "sphere"}, 16),
        ({"activation": "sphere", "m_max": 1}, 32),
    ],
)
def test_grids_are_approximate(x64, fields, degree):
    """The error falls with the grid; where orders are cut it takes a finer one."""
    network = SMALL.clone(lmax=2, m_max=2, layers=2, irreps_out="0e").clone(**fields)
    assert network.group == "SE(3), approximately"
    coarse, fine = (equivariance_error(network.clone(grid_degree=d)) for d in (6, degree))
    assert 1e-9 < coarse and fine < 1e-4 and fine < 0.1 * coarse


def test_an_output_that_features_cannot_reach_is_refused():
    for irreps in ("1e", "0o", "2e"):
        with pytest.raises(ValueError, match=f"0e, 1o; got irreps_out='{irreps}'"):
            shapes(SMALL.clone(irreps_out=irreps))


def test_fields_that_say_too_little_are_refused():
    with pytest.raises(ValueError, match="reach, the largest distance"):
        shapes(SMALL.clone(cutoff=np.inf))
    with pytest.raises(ValueError, match="average_neighbors; got None"):
        shapes(SMALL.clone(average_neighbors=None))
    with pytest.raises(KeyError, match="did you mean 'sphere'"):
        shapes(SMALL.clone(activation="spheres"))


def test_bodies_without_cutoff(x64):
    """Charges and velocities in, displacements out, all pairs: translations and rotations."""
    rng = np.random.default_rng(0)
    inputs = {"charges": rng.normal(size=5), "velocities": rng.normal(size=(5, 3))}
    bodies = Structure(rng.normal(size=(5, 3)), np.zeros(5, int), inputs=inputs)
    network = SMALL.clone(
        cutoff=np.inf,
        reach=4.0,
        irreps_out="1o",
        elements=(0,),
        scalars=("charges",),
        vectors=("velocities",),
    )
    turn = np.asarray(random_rotation(jax.random.key(1), dtype=jnp.float64))
    other = Structure(
        bodies.positions @ turn.T + 1.0,
        bodies.species,
        inputs={**inputs, "velocities": inputs["velocities"] @ turn.T},
    )
    graphs = [
        jax.tree.map(jnp.asarray, pad([sample(s, np.inf)], Budget(6, 24, 2), np.float64).graph)
        for s in (bodies, other)
    ]
    shape = jax.eval_shape(network.init, jax.random.key(0), graphs[0])
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shape)
    before, after = (np.asarray(jax.jit(network.apply)(params, g).array)[:5] for g in graphs)
    assert np.abs(before).max() > 0.01
    np.testing.assert_allclose(after, before @ turn.T, atol=1e-12)
