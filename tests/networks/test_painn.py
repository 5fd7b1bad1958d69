"""PaiNN: published size, the network by hand, n-body inputs, smooth where vectors cancel.

What every network promises is in `test_contract`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.networks import PaiNN

CUTOFF, ELEMENTS = 3.0, (1, 6, 8)
SMALL = PaiNN(CUTOFF, channels=4, layers=2, n_basis=5, elements=ELEMENTS)
NBODY = SMALL.clone(
    scalars=("charges",), vectors=("velocities",), irreps_out="1o+2x0e", elements=(0,)
)
RNG = np.random.default_rng(0)
TURN = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
TURN = -TURN * np.linalg.det(TURN)  # with a reflection


def cloud(n=5, species=None) -> Structure:
    inputs = {"velocities": RNG.normal(size=(n, 3)), "charges": RNG.choice([-1.0, 1.0], n)}
    species = np.zeros(n, int) if species is None else np.array(species)
    return Structure(RNG.normal(size=(n, 3)), species, inputs=inputs)


def graph_of(structure: Structure) -> Graph:
    batch = pad([sample(structure, CUTOFF)], Budget(7, 32, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network, structure=None):
    graph = graph_of(structure or cloud())
    graph = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), graph)
    return jax.eval_shape(network.init, jax.random.key(0), graph)["params"]


def parameters(network):
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape))
    return {"params": jax.tree.map(draw, shapes(network))}


def test_the_published_network_has_600_thousand_parameters():
    """589 057 by the shapes of the paper's equations; its table says 600k."""
    found = shapes(PaiNN(elements=tuple(range(100))))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(found))
    assert count == 589_057 and abs(count / 600_000 - 1) < 0.02


def test_nothing_is_added_to_vectors():
    """A bias there is no tensor: the released code once had one."""
    found = shapes(NBODY)
    names = ("update_0", "update_1", "readout_0", "readout_1")
    mixes = [found["vectors"], *(found[name]["mix"] for name in names)]
    assert all(set(mix) == {"kernel"} for mix in mixes)


def silu(x):
    return x * (1 + np.tanh(x / 2)) / 2


def steps(params, x):
    for i in range(len(params)):
        x = silu(x) if i else x
        x = x @ params[f"affine_{i}"]["kernel"] + params[f"affine_{i}"]["bias"]
    return x


def halves(params, v):
    return np.split(v @ params["mix"]["kernel"], 2, -1)


def norm(v):
    return np.sqrt((v * v).sum(1) + 1e-8)


def by_hand(network, params, structure):
    """Node by node and edge by edge; vectors first, then scalars."""
    p, c = jax.tree.map(np.asarray, params["params"]), network.channels
    x, v_in, q = structure.positions, structure.inputs["velocities"], structure.inputs["charges"]
    s = np.stack([q, np.linalg.norm(v_in, axis=1)], 1) @ p["species"]
    v = v_in[:, :, None] * p["vectors"]["kernel"][0]
    for layer in range(network.layers):
        phi = steps(p[f"message_{layer}"]["phi"], s).reshape(-1, 3, c)
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        for i in range(len(x)):
            for j in range(len(x)):
                r = np.linalg.norm(x[i] - x[j])
                if i == j or r >= CUTOFF:
                    continue
                t = r / CUTOFF
                waves = np.sin(np.arange(1, network.n_basis + 1) * np.pi * t) / r
                w = waves @ p["filters"]["kernel"] + p["filters"]["bias"]
                w = w.reshape(-1, 3, c)[layer] * (1 - 10 * t**3 + 15 * t**4 - 6 * t**5)
                w = w * phi[j]
                ds[i] += w[0]
                dv[i] += v[j] * w[1] + np.outer((x[i] - x[j]) / r, w[2])
        s, v = s + ds, v + dv
        own = p[f"update_{layer}"]
        u, w = halves(own, v)
        a = steps(own["gates"], np.concatenate([s, norm(w)], 1)).reshape(-1, 3, c)
        s = s + a[:, 0] + a[:, 1] * (u * w).sum(1)
        v = v + a[:, 2:] * u
    for i, n_scalars in enumerate((c // 2, 2)):
        own = p[f"readout_{i}"]
        u, w = halves(own, v)
        out = steps(own["gates"], np.concatenate([silu(s) if i else s, norm(w)], 1))
        s, v = out[:, :n_scalars], out[:, None, n_scalars:] * u
    return np.concatenate([v[..., 0], s], 1)


def test_the_network_by_hand_and_turned(x64):
    """With inputs and outputs of both kinds; then the same rotated, mirrored and moved."""
    params, structure = parameters(NBODY), cloud()
    apply = jax.jit(lambda graph: NBODY.apply(params, graph).array[:5])
    found = np.asarray(apply(graph_of(structure)))
    np.testing.assert_allclose(found, by_hand(NBODY, params, structure), rtol=1e-9, atol=1e-12)
    assert np.abs(found).max(0).min() > 1e-3

    inputs = {**structure.inputs, "velocities": structure.inputs["velocities"] @ TURN.T}
    turned = structure.replace(positions=structure.positions @ TURN.T + 3, inputs=inputs)
    after = np.asarray(apply(graph_of(turned)))
    np.testing.assert_allclose(after[:, :3], found[:, :3] @ TURN.T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(after[:, 3:], found[:, 3:], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_forces_are_smooth_where_vectors_cancel(x64):
    """At the middle of two equal atoms all vectors are zero: |v| itself has a kink there."""
    network = SMALL.clone(layers=1)
    params = parameters(network)
    x = np.array([[0.0, 0, 0], [1.5, 0, 0], [-1.5, 0, 0]])
    graph = graph_of(cloud(3, [8, 1, 1]).replace(positions=x))

    def energy(d):
        x = graph.nodes["positions"].at[0, 0].set(d)
        moved = graph._replace(nodes={**graph.nodes, "positions": x})
        return network.apply(params, moved).array[:3].sum()

    curve = jax.jit(lambda d: jax.jvp(jax.grad(energy), (d,), (1.0,)))
    slopes = [float(curve(d)[0]) for d in (-1e-6, 1e-6)]
    bend = float(curve(0.0)[1])
    np.testing.assert_allclose((slopes[1] - slopes[0]) / 2e-6, bend, rtol=1e-3)
    assert abs(bend) > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(irreps_out="2e"), "puts out scalars 0e and vectors 1o; got irreps_out='2e'"),
        (dict(cutoff=math.inf), "positive finite cutoff"),
        (dict(elements=()), "a network knows its elements"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        shapes(SMALL.clone(**fields))


def test_inputs_that_are_not_there_are_named():
    with pytest.raises(KeyError, match="did you mean 'velocities'"):
        shapes(SMALL.clone(vectors=("velocity",)))
