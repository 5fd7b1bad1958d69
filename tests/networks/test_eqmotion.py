"""EqMotion: a layer by hand, uniform motion, relations, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks import EqMotion
from geojax.nn import cosine_transform
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
SMALL = EqMotion(irreps_out="3x1o", channels=6, vector_channels=4, layers=2)


def walkers(n=5, past=4, x=None, steps=None):
    """Points with a past: positions relative to the present one, the earliest first."""
    x = RNG.normal(size=(n, 3)) if x is None else x
    history = RNG.normal(size=(n, past, 3)) if steps is None else steps
    return Structure(x, np.zeros(n, int), inputs={"history": history})


def graph_of(*structures, dtype=np.float64):
    edges = sum(len(s) * (len(s) - 1) for s in structures)
    budget = Budget(sum(map(len, structures)) + 2, edges + 4, len(structures) + 1)
    samples = [sample(s, np.inf) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, budget, dtype).graph)


def started(network, graph, spread=0.7):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=spread, size=x.shape)), shapes)


def both(network):
    """The answer and the relations, as one program."""
    relations = lambda params, graph: network.apply(params, graph, method="relations")
    return jax.jit(lambda p, g: (network.apply(p, g).array, relations(p, g)))


def moved(structure, turn, by):
    """Turned (or mirrored) about the origin and shifted, with its past."""
    inputs = {"history": structure.inputs["history"] @ turn.T}
    return structure.replace(positions=structure.positions @ turn.T + by, inputs=inputs)


def test_one_layer_equals_the_equations(x64):
    """Written out for every pair, in another order of operations."""
    network = SMALL.clone(layers=1)
    structure = walkers(4)
    graph = graph_of(structure)
    params = started(network, graph)
    out, shares = map(np.asarray, both(network)(params, graph))
    p = jax.tree.map(np.asarray, params)["params"]
    w, r = p["layer_0"], p["reasoning"]
    silu = lambda x: x / (1 + np.exp(-x))
    dense = lambda d, x: x @ d["kernel"] + d.get("bias", 0)
    two = lambda d, x: dense(d["affine_1"], silu(dense(d["affine_0"], x)))
    length = lambda x: np.linalg.norm(x, axis=0)
    n, count = 4, 2

    x = structure.inputs["history"].transpose(0, 2, 1)  # [node, xyz, time]
    x = np.concatenate([x, np.zeros((n, 3, 1))], -1) + structure.positions[..., None]
    v = np.diff(x, axis=-1)
    center = x.mean((0, 2))
    speed = np.linalg.norm(v, axis=1)
    cosine = (v[:, :, 1:] * v[:, :, :-1]).sum(1) / speed[:, 1:] / speed[:, :-1]
    h = np.concatenate([dense(p["speeds"], speed), dense(p["angles"], np.arccos(cosine))], -1)
    G = (x - center[None, :, None]) @ cosine_transform(5).T @ p["positions"]["kernel"]
    V = v @ cosine_transform(4).T @ p["velocities"]["kernel"]

    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    seen = {
        (i, j): two(r["lengths"], np.concatenate([length(G[i] - G[j]), length(V[i] - V[j])]))
        for i, j in pairs
    }
    ends = lambda i, j, more: np.concatenate([h[i], h[j], more])
    heard = np.zeros((n, 6))
    for i, j in pairs:
        m = silu(dense(r["edge_0"], ends(i, j, seen[i, j])))
        heard[i] += silu(dense(r["edge_1"]["affine_0"], m))
    own, h0 = np.concatenate([h, heard], -1), h
    h = h + dense(r["node_1"], silu(dense(r["node_0"], own)))
    c = {}
    for i, j in pairs:
        logits = dense(r["category_1"], silu(dense(r["category_0"], ends(i, j, seen[i, j]))))
        c[i, j] = np.exp(logits) / np.exp(logits).sum()
    edges = zip(np.asarray(graph.receivers), np.asarray(graph.senders), strict=True)
    for k, (i, j) in enumerate(edges):
        if i != j:
            np.testing.assert_allclose(shares[k], c[i, j], atol=1e-12)

    h, mean = h0, G.mean((0, 2))[None, :, None]
    attention = two(w["attention"], h)
    pull, heard = np.zeros_like(G), np.zeros((n, 6))
    for i, j in pairs:
        hidden = silu(dense(w["ends"], ends(i, j, length(G[i] - G[j])))).reshape(1 + count, 6)
        heard[i] += silu(dense(w["message"]["affine_0"], hidden[0]))
        each = sum(c[i, j][k] * dense(w[f"category_{k}"], hidden[1 + k]) for k in range(count))
        factor = dense(w["pull_1"], silu(dense(w["pull_0"], silu(each))))
        pull[i] += factor * (G[i] - G[j])
    G = G + attention[:, None] * (G - mean) + pull + V @ w["steps"]["kernel"]
    mean = G.mean((0, 2))[None, :, None]
    q, k = ((G - mean) @ w[name]["kernel"] for name in ("query", "key"))
    along = (q * k).sum(1, keepdims=True) / (k * k).sum(1, keepdims=True)
    G = mean + np.where(along < 0, q - along * k, q)

    later = G @ p["output"]["kernel"] @ cosine_transform(3) + center[None, :, None]
    expected = (later - structure.positions[..., None]).transpose(0, 2, 1).reshape(n, 9)
    np.testing.assert_allclose(out[:4], expected, atol=1e-10)


@pytest.mark.parametrize("improper", [False, True])
def test_motions_and_mirrors_of_the_whole_move_the_answer(improper, x64):
    turn = np.asarray(random_rotation(jax.random.key(3), improper=improper, dtype=jnp.float64))
    structure = walkers()
    graph, other = graph_of(structure), graph_of(moved(structure, turn, np.array([9.0, -4, 2])))
    params = started(SMALL, graph)
    run = both(SMALL)
    (x, shares), (x_after, shares_after) = run(params, graph), run(params, other)
    x, x_after = (np.asarray(a[:5]).reshape(5, 3, 3) for a in (x, x_after))
    np.testing.assert_allclose(x_after, x @ turn.T, atol=1e-11)
    np.testing.assert_allclose(shares_after, shares, atol=1e-12)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-12)
    assert np.ptp(np.asarray(shares[:20])) > 0.1


def test_turning_the_present_alone_is_no_symmetry(x64):
    structure = walkers()
    turn = np.asarray(random_rotation(jax.random.key(3), dtype=jnp.float64))
    half = structure.replace(positions=structure.positions @ turn.T)
    params = started(SMALL, graph_of(structure))
    run = both(SMALL)
    before, after = (
        np.asarray(run(params, graph_of(s))[0][:5]).reshape(5, 3, 3) for s in (structure, half)
    )
    assert np.abs(after - before @ turn.T).max() > 1e-2


def test_uniform_motion_goes_on_exactly(x64):
    """Without layers the network is linear in time: its head can be x + v t for every agent.

    The head takes back the transform of the past, continues the last step, and transforms again.
    """
    network = SMALL.clone(layers=0, vector_channels=5)
    v = RNG.normal(size=(5, 3))
    steps = v[:, None] * np.arange(-4, 0)[None, :, None]
    graph = graph_of(walkers(x=RNG.normal(size=(5, 3)), steps=steps))
    params = started(network, graph)
    ahead = np.zeros((5, 3))  # from the five times of the past to three to come
    ahead[-1], ahead[-2] = 1 + np.arange(1, 4), -np.arange(1, 4)
    weights = params["params"]
    weights["positions"]["kernel"] = jnp.eye(5)
    weights["output"]["kernel"] = jnp.asarray(cosine_transform(5) @ ahead @ cosine_transform(3).T)
    found = np.asarray(jax.jit(network.apply)(params, graph).array[:5]).reshape(5, 3, 3)
    np.testing.assert_allclose(found, v[:, None] * np.arange(1, 4)[None, :, None], atol=1e-12)


def test_derivatives_are_finite_in_uniform_motion_at_rest_and_at_one_place(x64):
    steps = np.ones((5, 1, 3)) * np.arange(-4.0, 0)[None, :, None]
    graph = graph_of(walkers(x=np.zeros((5, 3)), steps=steps))
    params = started(SMALL, graph)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def slopes(history, params):
        nodes = {**graph.nodes, "history": history}
        return jnp.sum(SMALL.apply(params, graph._replace(nodes=nodes)).array ** 2)

    for scale in (1.0, 0.0):
        found = slopes(scale * graph.nodes["history"], params)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_the_published_size():
    """64 channels, four layers, twenty positions before and after."""
    network = EqMotion(irreps_out="20x1o")
    graph = graph_of(walkers(past=19), dtype=np.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), graph)
    affine = lambda a, b: a * b + b
    w = 64
    inputs = affine(19, 32) + affine(18, 32) + 20 * w + 19 * w
    reasoning = affine(2 * w, w) + affine(w, w) + affine(3 * w, w) + affine(w, w)
    reasoning += affine(2 * w, w) + affine(w, w) + affine(3 * w, w) + affine(w, 2)
    layer = 3 * affine(3 * w, w) + 3 * affine(w, w) + 2 * affine(w, w) + affine(w, w) + w * w
    layer += 3 * w * w + affine(2 * w, w) + affine(w, w)
    expected = inputs + reasoning + 4 * layer + w * 20
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize(
    ("network", "structure", "message"),
    [
        (SMALL.clone(irreps_out="0e+1o"), walkers(), "as in '10x1o'; got irreps_out '0e\\+1o'"),
        (SMALL, walkers(past=1), "the past has two positions or more; 'history' has 1"),
        (SMALL.clone(scalars=("joint",)), walkers(), "not 'joint'"),
    ],
)
def test_what_it_cannot_read_is_refused(network, structure, message):
    with pytest.raises((ValueError, KeyError), match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(structure, dtype=np.float32))


def test_relations_are_those_of_layers():
    network, graph = SMALL.clone(layers=0), graph_of(walkers(), dtype=np.float32)
    with pytest.raises(ValueError, match="got layers=0"):
        jax.eval_shape(lambda g: network.apply({"params": {}}, g, method="relations"), graph)
