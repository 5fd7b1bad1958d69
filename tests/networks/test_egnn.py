"""EGNN: the published size, the layer by hand, its symmetries, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.egnn import EGNN

RNG = np.random.default_rng(0)
NBODY = EGNN(velocity="velocities", charge="charges", update_positions=True, irreps_out="1o")


def cloud(n=5, x=None, v=None, q=None):
    x = RNG.normal(size=(n, 3)) if x is None else x
    v = RNG.normal(size=(n, 3)) if v is None else v
    q = RNG.choice([-1.0, 1.0], n) if q is None else q
    return Structure(x, np.zeros(n, int), inputs={"velocities": v, "charges": q})


def graph_of(*structures, dtype=np.float32):
    edges = sum(len(s) * (len(s) - 1) for s in structures)
    budget = Budget(sum(map(len, structures)) + 2, edges + 4, len(structures) + 1)
    batch = pad([sample(s, np.inf) for s in structures], budget, dtype)
    return jax.tree.map(jnp.asarray, batch.graph)


def test_the_n_body_network_has_134020_parameters():
    params = jax.eval_shape(NBODY.init, jax.random.key(0), graph_of(cloud()))
    assert sum(x.size for x in jax.tree.leaves(params)) == 134_020


def test_one_layer_equals_the_equations(x64):
    """The update of one layer, written out for every pair."""
    network = NBODY.clone(layers=1, channels=6)
    structure = cloud(4)
    graph = graph_of(structure, dtype=np.float64)
    params = jax.jit(network.init)(jax.random.key(1), graph)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64) * 3, params)
    out = jax.jit(network.apply)(params, graph).array[:4]
    params = jax.tree.map(np.asarray, params)
    p, w = params["params"], params["params"]["layer_0"]
    dense = lambda d, x: x @ d["kernel"] + d.get("bias", 0)
    silu = lambda x: x / (1 + np.exp(-x))
    x, v = structure.positions, structure.inputs["velocities"]
    q = structure.inputs["charges"]
    h = dense(p["embedding"], np.linalg.norm(v, axis=1)[:, None])
    expected = np.zeros((4, 3))
    for i in range(4):
        for j in range(4):
            if i == j:
                continue
            r = x[i] - x[j]
            square = r @ r
            m = np.concatenate([h[i], h[j], [square, q[i] * q[j], square]])
            m = silu(dense(w["edge_1"], silu(dense(w["edge_0"], m))))
            pull = dense(w["position_1"], silu(dense(w["position_0"], m)))
            expected[i] += r * pull[0] / 3
        expected[i] += dense(w["velocity_1"], silu(dense(w["velocity_0"], h[i])))[0] * v[i]
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.slow
def test_planar_input_at_rest_stays_planar():
    x = RNG.normal(size=(5, 3)) * [1, 1, 0]
    graph = graph_of(cloud(x=x, v=np.zeros((5, 3))))
    params = jax.jit(NBODY.init)(jax.random.key(0), graph)
    moved = jax.jit(NBODY.apply)(params, graph).array[:5]
    np.testing.assert_allclose(moved[:, 2], 0, atol=1e-7)


@pytest.mark.slow
def test_derivatives_are_finite_at_coincident_points():
    structure = cloud(x=np.zeros((5, 3)))
    graph = graph_of(structure)
    params = jax.jit(NBODY.init)(jax.random.key(0), graph)

    def total(x):
        return NBODY.apply(
            params, graph._replace(nodes={**graph.nodes, "positions": x})
        ).array.sum()

    gradient = jax.grad(total)(graph.nodes["positions"])
    assert np.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["node", "graph"])
def test_scalars_do_not_see_rotation_reflection_translation(readout, x64):
    network = EGNN(channels=8, layers=2, readout=readout, axes=("velocities",), irreps_out="2x0e")
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    one = cloud()
    other = cloud(x=one.positions @ turn.T + 5, v=one.inputs["velocities"] @ turn.T)
    graph = graph_of(one, dtype=np.float64)
    params = jax.tree.map(jnp.float64, jax.jit(network.init)(jax.random.key(0), graph))
    before = jax.jit(network.apply)(params, graph).array[:5]
    after = jax.jit(network.apply)(params, graph_of(other, dtype=np.float64)).array[:5]
    np.testing.assert_allclose(after, before, atol=1e-12)


@pytest.mark.slow
def test_a_graph_readout_gives_every_node_its_graphs_value():
    network = EGNN(channels=8, layers=1, readout="graph")
    graph = graph_of(cloud(3), cloud(4))
    params = jax.jit(network.init)(jax.random.key(0), graph)
    out = np.asarray(jax.jit(network.apply)(params, graph).array)[:, 0]
    assert np.ptp(out[:3]) == 0 and np.ptp(out[3:7]) == 0 and out[0] != out[3]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (EGNN(irreps_out="1e"), "scalars and at most one vector"),
        (EGNN(irreps_out="1o+0e", update_positions=True), "scalars and at most one vector"),
        (EGNN(irreps_out="1o"), "update_positions"),
    ],
)
def test_outputs_that_it_cannot_make_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        jax.jit(network.init)(jax.random.key(0), graph_of(cloud()))
