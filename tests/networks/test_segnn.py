"""SEGNN: published size, the network by hand, n-body inputs, attributes, refusals.

What every network promises is in `test_contract`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.networks import SEGNN
from geojax.networks.segnn import coupled
from geojax.so3 import clebsch_gordan, harmonics_table

NBODY = SEGNN(
    vectors=("velocities",), charge="charges", centered=True, irreps_out="1o", elements=(0,)
)
SMALL = NBODY.clone(channels=3, layers=1)
RNG = np.random.default_rng(0)
TURN = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
TURN = -TURN * np.linalg.det(TURN)  # with a reflection


def cloud(n=4) -> Structure:
    inputs = {"velocities": RNG.normal(size=(n, 3)), "charges": RNG.choice([-1.0, 1.0], n)}
    return Structure(RNG.normal(size=(n, 3)), np.zeros(n, int), inputs=inputs)


def graph_of(*structures: Structure, cutoff=np.inf) -> Graph:
    batch = pad([sample(s, cutoff) for s in structures], Budget(11, 32, 3), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network):
    graph = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), graph_of(cloud()))
    return jax.eval_shape(network.init, jax.random.key(0), graph)["params"]


def parameters(network):
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape))
    return {"params": jax.tree.map(draw, shapes(network))}


def test_the_n_body_network_has_147424_parameters():
    """As many as the released code's shapes with 64 features, l_h = 1 and l_attr = 1."""
    found = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes(NBODY)))
    assert found == 147_424


def test_coupled_rows_are_those_of_all_paths(x64):
    """Degree 1 without degree 0 has the paths of degree 1 alone."""
    x, a = RNG.normal(size=(2, 3, 5)), RNG.normal(size=(2, 4))
    found = coupled(jnp.asarray(x), jnp.asarray(a), 2, "cg")
    assert {l: block.shape for l, block in found.items()} == {
        0: (2, 1, 5),
        1: (2, 3, 5),
        2: (2, 5, 5),
    }
    tensor = clebsch_gordan(1, 1, 2) * math.sqrt(5)
    expected = np.einsum("nac,nb,abm->nmc", x, a[:, 1:], tensor)
    np.testing.assert_allclose(found[2], expected, atol=1e-14)


# The network, by dictionaries of degrees: `[2l+1, channel]`


def activation(f):
    t, weights = np.polynomial.hermite_e.hermegauss(200)
    scale = math.sqrt(np.sum(weights * f(t) ** 2) / math.sqrt(2 * math.pi))
    return lambda x: f(x) / scale


sigmoid = activation(lambda x: 1 / (1 + np.exp(-x)))
silu = activation(lambda x: x / (1 + np.exp(-x)))


def steerable(params, a, *parts):
    """W (x ⊗ a) + b, with the paths of each part in the order of l1."""
    out = {}
    for l3 in (0, 1):
        columns = []
        for part in parts:
            for l1, x in sorted(part.items()):
                for l2 in (0, 1):
                    if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0:
                        tensor = clebsch_gordan(l1, l2, l3) * math.sqrt(2 * l3 + 1)
                        columns.append(np.einsum("ac,b,abm->mc", x, a[l2], tensor))
        if f"degree_{l3}" in params:
            own = params[f"degree_{l3}"]
            out[l3] = np.concatenate(columns, 1) @ own["kernel"] + own.get("bias", 0)
    return out


def gated(params, a, *parts):
    x = steerable(params["linear"], a, *parts)
    channels = x[0].shape[1] // 2
    return {0: silu(x[0][:, :channels]), 1: x[1] * sigmoid(x[0][:, channels:])}


def attribute(v):
    y = harmonics_table(v[None] / np.linalg.norm(v), 1)[0] / math.sqrt(4 * math.pi)
    return {0: y[:1], 1: y[1:]}


def by_hand(params, structure):
    p, n = jax.tree.map(np.asarray, params["params"]), len(structure)
    x, v, q = structure.positions, structure.inputs["velocities"], structure.inputs["charges"]
    others = [[j for j in range(n) if j != i] for i in range(n)]
    a, h = [], []
    for i in range(n):
        mean = np.mean([attribute(x[i] - x[j])[1] for j in others[i]], 0)
        a.append({0: np.ones(1), 1: mean + attribute(v[i])[1]})
        vectors = {1: np.stack([v[i], x[i] - x.mean(0)], 1)}
        speed = {0: np.array([[np.linalg.norm(v[i])]])}
        h.append(steerable(p["embedding"]["linear"], a[i], speed, vectors))
    own, out = p["layer_0"], []
    for i in range(n):
        total = {0: 0.0, 1: 0.0}
        for j in others[i]:
            edge = attribute(x[i] - x[j])
            scalars = {0: np.array([[np.linalg.norm(x[i] - x[j]), q[i] * q[j]]])}
            m = gated(own["message_0"], edge, h[i], h[j], scalars)
            m = gated(own["message_1"], edge, m)
            total = {l: total[l] + m[l] for l in total}
        update = gated(own["update_0"], a[i], h[i], total)
        update = steerable(own["update_1"]["linear"], a[i], update)
        new = {l: h[i][l] + update[l] for l in update}
        new = gated(p["readout_0"], a[i], new)
        out.append(steerable(p["readout_1"], a[i], new)[1][:, 0])
    return np.array(out)


def test_the_network_by_hand_and_turned(x64):
    """Then rotated, mirrored, moved, and in one batch with another structure."""
    params, structure, other = parameters(SMALL), cloud(), cloud(3)
    apply = jax.jit(lambda graph: SMALL.apply(params, graph).array)
    found = np.asarray(apply(graph_of(structure)))[:4]
    np.testing.assert_allclose(found, by_hand(params, structure), rtol=1e-9, atol=1e-12)

    inputs = {**structure.inputs, "velocities": structure.inputs["velocities"] @ TURN.T}
    turned = structure.replace(positions=structure.positions @ TURN.T + 3, inputs=inputs)
    after = np.asarray(apply(graph_of(other, turned)))[3:7]
    np.testing.assert_allclose(after, found @ TURN.T, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_degrees_that_no_path_reaches_start_at_zero(x64):
    """Scalars times attributes of degree 1 have no degree 2; a layer later there is one."""
    network = SEGNN(channels=2, lmax=2, layers=1, elements=(1, 6), irreps_out="0e+1o+2e+3o")
    structure = Structure(RNG.normal(size=(4, 3)), np.array([1, 6, 6, 1]))
    graph = graph_of(structure)
    shape = jax.eval_shape(network.init, jax.random.key(0), graph)
    assert set(shape["params"]["embedding"]["linear"]) == {"degree_0", "degree_1"}
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shape)
    out = np.asarray(jax.jit(network.apply)(params, graph).array)[:4]
    assert out.shape == (4, 16) and (np.abs(out).max(0) > 1e-6).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(irreps_out="1e"), "of natural parity up to degree lmax .* = 2; got irreps_out='1e'"),
        (dict(irreps_out="3o"), "raise a degree"),
        (dict(cutoff=3.0), "average_neighbors; got None"),
        (dict(elements=(), vectors=(), centered=False), "a network knows its elements"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        shapes(SMALL.clone(**fields))
